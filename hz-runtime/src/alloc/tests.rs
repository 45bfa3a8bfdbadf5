use super::modules;
use super::stack::{self, Frames};
use std::ffi::{c_int, c_void};
use std::hint::black_box;

type Trace = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;

// What `std::backtrace` uses; its own frames have no addresses that a test could ask for.
unsafe extern "C" {
    fn _Unwind_Backtrace(trace: Trace, data: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

unsafe extern "C" fn keep(context: *mut c_void, data: *mut c_void) -> c_int {
    // SAFETY: the unwinder's, for this call.
    let address = unsafe { _Unwind_GetIP(context) };
    // SAFETY: what `reference` passed.
    let addresses = unsafe { &mut *data.cast::<Vec<u64>>() };
    addresses.push(address as u64);
    0
}

/// Addresses of the stack by the unwinder of exceptions, leaf first.
fn reference() -> Vec<u64> {
    let mut addresses: Vec<u64> = Vec::new();
    // SAFETY: `keep` gets the vector, which outlives the call.
    unsafe { _Unwind_Backtrace(keep, (&raw mut addresses).cast()) };
    addresses.retain(|address| *address != 0);
    addresses
}

/// Our frames, and those of the unwinder of exceptions at the same place.
#[inline(never)]
fn both() -> (Frames, Vec<u64>) {
    let registers = stack::registers().unwrap();
    let frames = stack::walk(modules::current(), registers, stack::limits());
    (frames, reference())
}

#[inline(never)]
fn nested(depth: usize) -> (Frames, Vec<u64>) {
    if depth == 0 {
        return both();
    }
    let mut room = [0_u8; 100];
    black_box(&mut room[..depth]);
    let both = nested(depth - 1);
    black_box(&room);
    both
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_stack_has_the_addresses_that_the_unwinder_of_exceptions_finds() {
    modules::load();
    let (frames, reference) = std::thread::spawn(|| nested(5)).join().unwrap();
    let ours = frames.addresses();
    assert!(reference.ends_with(ours), "{ours:x?} is not the end of {reference:x?}");
    assert!(ours.len() >= 7, "{ours:x?}");
    assert!(!frames.is_cut, "{ours:x?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_deep_stack_is_cut_at_its_root_and_says_so() {
    modules::load();
    let (frames, reference) = nested(100);
    let ours = frames.addresses();
    assert!(frames.is_cut);
    assert_eq!(ours.len(), stack::FRAMES);
    let leaf = reference.iter().position(|address| *address == ours[0]).unwrap();
    assert_eq!(ours, &reference[leaf..leaf + ours.len()]);
}

#[test]
fn registers_that_lie_end_the_walk_and_nothing_else() {
    let modules = modules::load();
    let limits = stack::limits();
    let here = stack::registers().unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_usize;
    for _ in 0..100_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Within or beside this code and this stack, aligned or not.
        let mut lie = here;
        lie.pc = here.pc.wrapping_add(random % (1 << 20)) - (1 << 19);
        lie.sp = here.sp.wrapping_add(random / 3 % (1 << 16)) - (1 << 12);
        lie.bp = Some(here.sp.wrapping_add(random / 5 % (1 << 17)) - (1 << 15));
        assert!(stack::walk(Some(modules), lie, limits).addresses().len() <= stack::FRAMES);
    }
    for sp in [0, 8, usize::MAX - 7, here.sp ^ (1 << 40)] {
        let lie = stack::Registers { sp, ..here };
        assert!(stack::walk(Some(modules), lie, limits).addresses().is_empty());
    }
}

#[test]
fn the_stack_of_another_thread_is_not_read() {
    let modules = modules::load();
    let of_another = std::thread::spawn(stack::limits).join().unwrap();
    let here = stack::registers().unwrap();
    // The other's stack may be gone, or be a third one's: a walk there would read what it must not.
    let sp = of_another.end() - 1024;
    let lie = stack::Registers { sp, bp: Some(sp + 16), ..here };
    assert!(stack::walk(Some(modules), lie, of_another).addresses().is_empty());
    assert!(stack::walk(Some(modules), here, of_another).addresses().is_empty());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn rows_are_there_for_this_program_and_the_c_library() {
    let modules = modules::load();
    let here = rows_at(rows_are_there_for_this_program_and_the_c_library as fn() as usize);
    assert!(here && rows_at(libc::getpid as *const () as usize), "{modules:?}");
    assert!(modules.rule(0).is_none());
    assert!(modules.rule(usize::MAX).is_none());
}

#[cfg(target_arch = "x86_64")]
fn rows_at(address: usize) -> bool {
    let rule = modules::current().and_then(|modules| modules.rule(address));
    rule.is_some_and(|rule| rule.cfa == super::rows::Cfa::Rsp && rule.cfa_offset == 8)
}
