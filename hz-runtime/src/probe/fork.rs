//! A forked child must not write into its parent's rings: it would be a second writer.

use super::memory::{self, Memory, ShareError};
use super::{kinds, thread};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked from one that shares.
pub(super) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// From now on a forked child is cut off. Children by `posix_spawn` or `vfork` run nothing of ours;
/// those by a bare `clone` are not noticed.
pub(super) fn watch() -> Result<(), ShareError> {
    // SAFETY: the handler does only what is allowed between fork and exec.
    match unsafe { libc::pthread_atfork(None, None, Some(cut_off)) } {
        0 => Ok(()),
        errno => Err(ShareError::Fork(Errno::from_raw_os_error(errno))),
    }
}

/// Runs in the child, whose only thread is this one: no locks, no allocation.
extern "C" fn cut_off() {
    IS_CHILD.store(true, Ordering::Relaxed);
    kinds::set(0);
    let Some(memory) = memory::get() else { return };
    memory::forget();
    thread::with(thread::Local::forget);
    replace(memory);
    // SAFETY: the child's copy; whatever owns it is never dropped. A reader that found it here
    // would take the child for its parent.
    unsafe { rustix::io::close(memory.fd.as_raw_fd()) };
}

/// Puts private memory where the shared memory is: tasks that the child inherited may still write.
fn replace(memory: &Memory) {
    let address = memory.base.as_ptr().cast();
    let bytes = memory.layout.bytes;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: exactly our mapping; all that points into it are atomic integers, for which zeroes do.
    let replaced = unsafe { rustix::mm::mmap_anonymous(address, bytes, protection, flags) };
    // Should the kernel have no memory for it, what is left is that no site is on and no thread
    // has a ring.
    let _ = replaced;
}
