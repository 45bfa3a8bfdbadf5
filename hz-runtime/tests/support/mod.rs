//! A reader of a runtime's shared memory, as small as the tests need it.

use hz_probes_ebpf::Kind;
use hz_probes_ebpf::runtime_ring::{
    DirectorySlot, LEASES, Lease, RING_MAGIC, RingHeader, RingPage, RingSlot, SiteSlot, StackSlot,
    TextSlot,
};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::{self, File};
use std::mem::offset_of;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Waits until `is_true`, or panics with `what`.
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::yield_now();
    }
}

/// The file of process `pid`'s memory.
pub(crate) fn find(pid: u32) -> Option<PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            fs::read_link(path)
                .is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:hz_runtime"))
        })
}

/// A mapping of a process's memory, a place in each of its rings, and perhaps a lease.
pub(crate) struct Reader {
    words: &'static [AtomicU64],
    pub(crate) page: RingPage,
    next: Vec<u64>,
    lease: Option<usize>,
    pub(crate) lost: u64,
}

impl Reader {
    /// Of process `pid`, from what is in its rings on.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let file = File::options().read(true).write(true).open(find(pid)?).ok()?;
        let bytes = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let null = std::ptr::null_mut();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(null, bytes, protection, MapFlags::SHARED, &file, 0) };
        let base = base.ok()?.cast::<AtomicU64>();
        // SAFETY: mapped for good, and the file's seals keep it as long as it is.
        let words = unsafe { std::slice::from_raw_parts(base, bytes / 8) };
        let mut reader =
            Self { words, page: RingPage::new_zeroed(), next: Vec::new(), lease: None, lost: 0 };
        reader.page = reader.page();
        if reader.page.magic != RING_MAGIC {
            return None;
        }
        reader.next = vec![0; reader.page.rings as usize];
        Some(reader)
    }

    pub(crate) fn page(&self) -> RingPage {
        self.copy(0)
    }

    /// Takes a lease on `kinds` for a second, and waits until they are on.
    pub(crate) fn lease(&mut self, kinds: &[Kind]) {
        let mask = kinds.iter().fold(0, |mask, kind| mask | kind.runtime_bit());
        self.take_lease(mask, 1_000_000_000);
        wait_until("kinds are on", || {
            self.renew(1_000_000_000);
            self.page().kinds & mask == mask
        });
    }

    pub(crate) fn take_lease(&mut self, kinds: u64, lasts_ns: u64) {
        let pid = std::process::id();
        let lease = (0..LEASES)
            .map(|slot| self.page.leases_offset as usize + slot * size_of::<Lease>())
            .find(|at| {
                self.half(*at).compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
            .expect("no free lease");
        self.word(lease + offset_of!(Lease, kinds)).store(kinds, Ordering::Relaxed);
        self.lease = Some(lease);
        self.renew(lasts_ns);
        self.wake();
    }

    pub(crate) fn renew(&self, lasts_ns: u64) {
        let deadline = hz_runtime::clock::monotonic_ns() + lasts_ns;
        self.set_deadline(deadline);
    }

    pub(crate) fn set_deadline(&self, deadline: u64) {
        let at = self.lease.expect("a lease") + offset_of!(Lease, deadline_ns);
        self.word(at).store(deadline, Ordering::Release);
    }

    pub(crate) fn end_lease(&mut self) {
        let Some(at) = self.lease.take() else { return };
        self.word(at + offset_of!(Lease, kinds)).store(0, Ordering::Relaxed);
        self.word(at + offset_of!(Lease, deadline_ns)).store(0, Ordering::Relaxed);
        self.half(at).store(0, Ordering::Release);
        self.wake();
    }

    /// Whether the runtime has ended the lease. Then it is another reader's, and not given back.
    pub(crate) fn has_no_lease(&mut self) -> bool {
        let own = std::process::id();
        self.lease = self.lease.filter(|at| self.half(*at).load(Ordering::Acquire) == own);
        self.lease.is_none()
    }

    /// Whether another process has a lease on `kind`.
    pub(crate) fn is_wanted_elsewhere(&self, kind: Kind) -> bool {
        let at = |slot| self.page.leases_offset as usize + slot * size_of::<Lease>();
        let leases = (0..LEASES).map(|slot| self.copy::<Lease>(at(slot)));
        let mut others = leases.filter(|lease| ![0, std::process::id()].contains(&lease.pid));
        others.any(|lease| lease.kinds & kind.runtime_bit() != 0)
    }

    fn wake(&self) {
        let futex = self.half(offset_of!(RingPage, leases_changed));
        futex.fetch_add(1, Ordering::AcqRel);
        let _ = rustix::thread::futex::wake(
            futex,
            rustix::thread::futex::Flags::empty(),
            i32::MAX as u32,
        );
    }

    /// What is new in all rings, by ring; what was overwritten is counted in `lost`.
    pub(crate) fn read(&mut self) -> Vec<Vec<RingSlot>> {
        (0..self.next.len()).map(|ring| self.read_ring(ring)).collect()
    }

    fn read_ring(&mut self, ring: usize) -> Vec<RingSlot> {
        let slots = u64::from(self.page.ring_slots);
        let begin = self.page.rings_offset as usize + ring * self.page.ring_stride as usize;
        let head = self.word(begin).load(Ordering::Acquire);
        let first = self.next[ring].max(head.saturating_sub(slots));
        let copied: Vec<RingSlot> = (first..head)
            .map(|number| {
                let place = usize::try_from(number % slots).expect("few slots");
                self.copy(begin + size_of::<RingHeader>() + place * size_of::<RingSlot>())
            })
            .collect();
        fence(Ordering::Acquire);
        let head_after = self.word(begin).load(Ordering::Relaxed);
        let sound_from = (head_after + 1).saturating_sub(slots).max(first).min(head);
        self.lost += sound_from - self.next[ring];
        self.next[ring] = head;
        copied.into_iter().skip(usize::try_from(sound_from - first).expect("few")).collect()
    }

    /// Slots of the directory that have a task.
    pub(crate) fn tasks(&self) -> Vec<DirectorySlot> {
        let used = self.page().directory_used as usize;
        let at = |slot| self.page.directory_offset as usize + slot * size_of::<DirectorySlot>();
        (0..used)
            .map(|slot| self.copy::<DirectorySlot>(at(slot)))
            .filter(|slot| slot.task != 0)
            .collect()
    }

    pub(crate) fn text(&self, number: u32) -> String {
        let at = self.page.texts_offset as usize + (number as usize - 1) * size_of::<TextSlot>();
        let slot: TextSlot = self.copy(at);
        let text = String::from_utf8_lossy(&slot.text).trim_end_matches('\0').to_owned();
        assert!(text.len() == (slot.bytes as usize).min(124), "{text}: {}", slot.bytes);
        text
    }

    pub(crate) fn site(&self, number: u32) -> SiteSlot {
        self.copy(self.page.sites_offset as usize + (number as usize - 1) * size_of::<SiteSlot>())
    }

    pub(crate) fn stack(&self, number: u32) -> StackSlot {
        self.copy(self.page.stacks_offset as usize + (number as usize - 1) * size_of::<StackSlot>())
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[at / 8]
    }

    fn half(&self, at: usize) -> &'static AtomicU32 {
        let word = std::ptr::from_ref(&self.words[at / 8]).cast::<AtomicU32>();
        // SAFETY: within the mapping, and `at` is a multiple of 4.
        let half = unsafe { word.add(at % 8 / 4) };
        // SAFETY: mapped for good; the memory holds words of 32 bits there.
        unsafe { &*half }
    }

    fn copy<T: FromBytes + FromZeros + IntoBytes>(&self, at: usize) -> T {
        let mut value = T::new_zeroed();
        for (place, chunk) in value.as_mut_bytes().chunks_mut(8).enumerate() {
            let word = self.word(at + place * 8).load(Ordering::Relaxed);
            chunk.copy_from_slice(&word.to_ne_bytes()[..chunk.len()]);
        }
        value
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end_lease();
    }
}
