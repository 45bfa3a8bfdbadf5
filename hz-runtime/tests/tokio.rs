//! Tasks of Tokio behind the wrapper: what their program sees of it.

use std::future;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started")
}

#[test]
fn a_wrapped_task_gives_its_result() {
    let sum = runtime().block_on(async {
        let mut tasks = JoinSet::new();
        for number in 0..100_u64 {
            tasks.spawn(hz_runtime::tokio::instrument(async move {
                tokio::task::yield_now().await;
                number
            }));
        }
        tasks.join_all().await.into_iter().sum::<u64>()
    });
    assert_eq!(sum, 4950);
}

#[test]
fn a_panic_reaches_the_join_handle_alone() {
    runtime().block_on(async {
        let panicking = hz_runtime::tokio::spawn(async { panic!("on purpose") });
        let other = hz_runtime::tokio::spawn(async { 7 });
        assert!(panicking.await.unwrap_err().is_panic());
        assert_eq!(other.await.unwrap(), 7);
    });
}

#[test]
fn an_aborted_task_is_cancelled() {
    runtime().block_on(async {
        let task = hz_runtime::tokio::spawn_named("endless", future::pending::<()>());
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    });
}
