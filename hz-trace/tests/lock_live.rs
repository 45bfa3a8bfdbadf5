//! Waits for locks in recordings of the running kernel, against what the program measures itself.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/live.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod live;

use hz_trace::{
    analyze::{FlameKind, FlameQuery, locks},
    probe::Selection,
    session::Settings,
    symbol::SymbolTable,
};
use live::{alone, own_process, record_while};
use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Three threads take a lock in turn for `held_ms` each; returns its address and how long all waited.
fn contended(held_ms: u64) -> (u64, Duration) {
    let lock = Arc::new(Mutex::new(0_u64));
    let takers = [(); 3].map(|()| {
        let lock = Arc::clone(&lock);
        thread::spawn(move || {
            let mut waited = Duration::ZERO;
            for _ in 0..300 / held_ms {
                let start = Instant::now();
                let mut held = lock.lock().unwrap();
                waited += start.elapsed();
                *held += 1;
                thread::sleep(Duration::from_millis(held_ms));
                drop(held);
                // Somebody else gets it.
                thread::sleep(Duration::from_millis(1));
            }
            waited
        })
    });
    let waited = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
    (Arc::as_ptr(&lock) as usize as u64, waited)
}

#[test]
#[ignore = "needs CAP_BPF"]
fn waits_for_each_lock_add_up_to_what_the_program_measures() {
    let _alone = alone();
    let probes = Selection::none().with("offcpu").unwrap();
    let settings = Settings { probes, ..own_process() };
    let (recorded, measured) = record_while(&settings, || {
        // Both at once: each wait has to go to its own lock.
        let other = thread::spawn(|| contended(20));
        [contended(50), other.join().unwrap()]
    });
    let query = FlameQuery::new(FlameKind::OffCpu);
    let found = locks(&recorded.model, &SymbolTable::default(), &query);
    for (lock, waited) in measured {
        // The word that is waited for is in the lock.
        let own = found.iter().filter(|each| (lock..lock + 24).contains(&each.address));
        let (mut told_ns, mut with_queue_ns) = (0, 0);
        for each in own {
            told_ns += each.waited_ns;
            assert_eq!(each.waiting_max, 2, "{each:?}");
        }
        for off in &recorded.model.stacks.off_cpu {
            if off.lock.is_some_and(|own| (lock..lock + 24).contains(&own.address)) {
                with_queue_ns += off.end_ns - off.start_ns;
            }
        }
        // What it took to get a CPU after the lock was free is in the program's measure, and hz tells it apart.
        let (told, off) = (Duration::from_nanos(told_ns), Duration::from_nanos(with_queue_ns));
        println!("{lock:#x}: {told:?} waited, {off:?} until it ran, {waited:?} measured");
        assert!(waited > Duration::from_millis(500), "{waited:?}");
        assert!(
            off.abs_diff(waited) <= waited.mul_f64(0.02),
            "{off:?} recorded, {waited:?} measured"
        );
        assert!(told <= off && told >= off / 2, "{told:?} of {off:?}");
    }
}
