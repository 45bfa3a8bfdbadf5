//! Every order of the scheduler's atomics, by loom:
//! `RUSTFLAGS="--cfg hz_loom" cargo test -p hz-runtime --release --lib scheduler::models`.

use super::idle::Idle;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use loom::thread;

/// A worker looks for a task and finds none; meanwhile another thread makes one visible. Either the
/// worker sees it before it sleeps, or the other thread picks the worker.
#[test]
fn no_task_is_left_to_a_sleeping_worker() {
    loom::model(|| {
        let idle = Arc::new(Idle::new(1));
        let task = Arc::new(AtomicBool::new(false));
        let spawner = {
            let (idle, task) = (Arc::clone(&idle), Arc::clone(&task));
            thread::spawn(move || {
                task.store(true, SeqCst);
                idle.pick()
            })
        };
        let is_searching = idle.start_searching();
        assert!(is_searching, "nobody else searches");
        let must_look = idle.park(0, is_searching);
        assert!(must_look, "it was the only one that searched");
        fence(SeqCst);
        let sees = task.load(SeqCst);
        let picked = spawner.join().expect("it does not panic");
        assert!(sees || picked == Some(0), "the worker sleeps beside a task");
    });
}
