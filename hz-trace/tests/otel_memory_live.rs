//! `otel_memory:alloc` and `free`: what any tracer that knows their contract gets of a program with
//! hz-runtime's allocator. The program is this test binary, started again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, helpers included")]

use hz_probes_ebpf::UsdtHit;
use hz_runtime::alloc::{SampledAllocator, set_mean_bytes};
use hz_trace::decode::{Event, decode};
use hz_trace::source::{Scope, Usdt};
use hz_trace::symbol::{SITES_MAX, UsdtProbe, UsdtSpec};
use own_copy::{OwnCopy, is_let_go, say};
use std::collections::BTreeSet;

#[path = "support/own_copy.rs"]
mod own_copy;

#[global_allocator]
static ALLOCATOR: SampledAllocator = SampledAllocator::system();

const ROUNDS: u64 = 50;
/// So much more than the mean of what lies between two samples that each is one.
const BYTES: u64 = 1 << 20;
const MEAN: u64 = 4096;

/// The other side of the tests.
#[test]
#[ignore = "only started by the other tests"]
fn task() {
    if !is_let_go() {
        return;
    }
    set_mean_bytes(MEAN);
    for _ in 0..ROUNDS {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(BYTES as usize)));
    }
    say("done");
}

fn probes() -> Vec<UsdtProbe> {
    let binary = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let spec = |name: &str| UsdtSpec {
        binary: binary.clone(),
        provider: "otel_memory".to_owned(),
        name: name.to_owned(),
    };
    let all = spec("*").resolve(&[], SITES_MAX).unwrap();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|probe| probe.has_semaphore && !probe.is_swallowed));
    // Numbered by their place: 0 allocates, 1 frees.
    ["alloc", "free"].iter().flat_map(|name| spec(name).resolve(&[], SITES_MAX).unwrap()).collect()
}

/// Each of the large allocations is told with address, bytes and weight, and then its free with its address.
#[track_caller]
fn assert_contract(hits: &[UsdtHit], pid: u32) {
    let mut live = BTreeSet::new();
    let (mut allocated, mut freed) = (0, 0);
    for hit in hits.iter().filter(|hit| hit.header.pid == pid) {
        let address = hit.args[0];
        match (hit.header.arg, hit.args[1]) {
            (0, BYTES) => {
                assert_eq!((hit.count, hit.unread), (3, 0), "{hit:?}");
                assert!(live.insert(address), "{address:#x} is allocated twice");
                // It stands for itself, no more than by rounding.
                assert!(hit.args[2].abs_diff(BYTES) <= 1, "{hit:?}");
                allocated += 1;
            }
            (0, _) => {}
            (1, _) => {
                assert_eq!((hit.count, hit.unread), (1, 0), "{hit:?}");
                freed += u64::from(live.remove(&address));
            }
            _ => panic!("{hit:?}"),
        }
    }
    assert_eq!((allocated, freed, live.len()), (ROUNDS, ROUNDS, 0));
}

#[test]
#[ignore = "needs CAP_BPF"]
fn programs_of_before_and_of_later_tell_each_sample_and_its_free() {
    let before = OwnCopy::start();
    let mut usdt = Usdt::attach(&probes(), &Scope::All, false).unwrap();
    let later = OwnCopy::start();
    let pids = [before.run().0, later.run().0];
    usdt.detach();
    let mut hits = Vec::new();
    usdt.drain(&mut |bytes| match decode(bytes).unwrap() {
        Event::Usdt(hit) => hits.push(hit),
        other => panic!("{other:?}"),
    });
    pids.iter().for_each(|pid| assert_contract(&hits, *pid));
    // Nobody is told any more, and nothing is left on.
    OwnCopy::start().run();
    assert_eq!(usdt.drain(&mut |_| {}), 0);
}
