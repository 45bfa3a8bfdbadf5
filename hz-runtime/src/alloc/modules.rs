//! The rows of every module of the process.

use super::rows::{self, Row, Section};
use std::ffi::{c_int, c_void};
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The rows in force: never freed, since a thread may be among them at any time.
static CURRENT: AtomicPtr<Modules> = AtomicPtr::new(std::ptr::null_mut());

/// The program, its libraries and the kernel's page.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// By address.
    modules: Vec<Module>,
}

#[derive(Debug)]
struct Module {
    start: usize,
    end: usize,
    rows: Vec<Row>,
}

impl Modules {
    /// The rule for an address; `None`: it is in no module.
    pub(super) fn rule(&self, pc: usize) -> Option<Row> {
        let after = self.modules.partition_point(|module| module.start <= pc);
        let module = self.modules.get(after.checked_sub(1)?)?;
        if pc >= module.end {
            return None;
        }
        let offset = u32::try_from(pc - module.start).ok()?;
        let after = module.rows.partition_point(|row| row.pc <= offset);
        module.rows.get(after.checked_sub(1)?).copied()
    }

    pub(super) fn count(&self) -> usize {
        self.modules.len()
    }

    pub(super) fn rows(&self) -> usize {
        self.modules.iter().map(|module| module.rows.len()).sum()
    }
}

/// The rows in force. Takes no lock.
pub(super) fn current() -> Option<&'static Modules> {
    let modules = CURRENT.load(Ordering::Acquire);
    // SAFETY: null, or leaked by `load` below.
    unsafe { modules.as_ref() }
}

/// Reads the rows of all modules, and puts them into force. The former ones stay where they are.
pub(super) fn load() -> &'static Modules {
    let mut modules = Modules::default();
    if cfg!(target_arch = "x86_64") {
        let data: *mut Modules = &raw mut modules;
        // SAFETY: `visit` is called before this returns, with `data` and what the linker knows. It
        // keeps the modules from being unloaded meanwhile.
        unsafe { libc::dl_iterate_phdr(Some(visit), data.cast::<c_void>()) };
    }
    modules.modules.sort_by_key(|module| module.start);
    let modules: &'static mut Modules = Box::leak(Box::new(modules));
    CURRENT.store(modules, Ordering::Release);
    modules
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _bytes: libc::size_t,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the linker's, for the length of this call.
    let info = unsafe { &*info };
    // SAFETY: what `load` passed, which waits for us.
    let modules = unsafe { &mut *data.cast::<Modules>() };
    if let Some(module) = read(info) {
        modules.modules.push(module);
    }
    0
}

fn read(info: &libc::dl_phdr_info) -> Option<Module> {
    if info.dlpi_phdr.is_null() {
        return None;
    }
    // SAFETY: the linker's table of that many headers.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    // It may be below what the file says, as the kernel's page's was: then the sum goes round.
    let at = |vaddr: u64| (info.dlpi_addr as usize).wrapping_add(vaddr as usize);
    let segments: Vec<Section<'_>> = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && is_constant(header.p_flags))
        .map(|header| {
            let address = at(header.p_vaddr);
            let bytes = std::ptr::with_exposed_provenance(address);
            // SAFETY: the linker mapped the segment, readable, and does not unload it meanwhile; it is
            // not writable, so nobody changes it.
            let bytes = unsafe { slice::from_raw_parts(bytes, header.p_filesz as usize) };
            Section { address, bytes }
        })
        .collect();
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let ends =
        loaded.clone().map(|header| at(header.p_vaddr).wrapping_add(header.p_memsz as usize));
    let start = loaded.map(|header| at(header.p_vaddr)).min()?;
    let header = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME)?;
    let section = |address| section(&segments, address);
    let rows = rows::build(start, section(at(header.p_vaddr))?, section).ok()?;
    Some(Module { start, end: ends.max()?, rows })
}

/// Whether a segment may be read as what does not change. Rules of stacks are in such ones; a linker that puts them
/// beside variables leaves its module without rows.
const fn is_constant(flags: u32) -> bool {
    flags & libc::PF_R != 0 && flags & libc::PF_W == 0
}

/// What is from an address to the end of its segment.
fn section<'a>(segments: &[Section<'a>], address: usize) -> Option<Section<'a>> {
    segments.iter().find_map(|segment| {
        let bytes = segment.bytes.get(address.checked_sub(segment.address)?..)?;
        (!bytes.is_empty()).then_some(Section { address, bytes })
    })
}
