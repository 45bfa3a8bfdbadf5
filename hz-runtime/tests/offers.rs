//! What a process with two runtimes can tell.

#[expect(dead_code, reason = "a reader for several tests")]
mod support;

use hz_probes_ebpf::Kind;
use support::Reader;

/// Tokio's runtimes tell of some kinds only; the executor of all, and so does the process that has both,
/// whichever came first.
#[test]
fn the_executor_offers_every_kind_beside_a_tokio_that_does_not() {
    hz_runtime::tokio::hooks(&mut tokio::runtime::Builder::new_current_thread());
    hz_runtime::probe::start(1).expect("memory");
    let reader = Reader::of(std::process::id()).expect("a reader");
    let all = Kind::ALL.iter().fold(0, |mask, kind| mask | kind.runtime_bit());
    assert_ne!(reader.page().offered_kinds, all, "Tokio alone");
    let runtime = hz_runtime::Runtime::builder().worker_threads(1).build().expect("a runtime");
    assert_eq!(reader.page().offered_kinds, all);
    drop(runtime);
}
