//! What Tokio calls back for.

use super::{kinds, worker};
use ::tokio::runtime::Builder;

/// Has a runtime of Tokio tell of itself: when its workers sleep and, in a program that was compiled
/// with `--cfg tokio_unstable`, of all its tasks, wrapped or not.
///
/// It sets `on_thread_park` and `on_thread_unpark` and, with that flag, `on_task_spawn`,
/// `on_before_task_poll`, `on_after_task_poll` and `on_task_terminate`, in place of what was set
/// before: Tokio has room for one each.
///
/// # Blind spots
///
/// Tokio's hooks say nothing of a `LocalSet`'s tasks, nor of wake-ups: how long an unwrapped task waited
/// for its worker is not collected, and it counts as idle whenever it isn't polled. They don't say how
/// a task ended either, and an aborted one gets a last poll.
///
/// # Examples
///
/// ```
/// let mut builder = tokio::runtime::Builder::new_multi_thread();
/// hz_runtime::tokio::hooks(&mut builder);
/// let runtime = builder.enable_all().build()?;
/// assert_eq!(runtime.block_on(async { tokio::spawn(async { 7 }).await })?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn hooks(builder: &mut Builder) -> &mut Builder {
    kinds::offer_hooked();
    builder.on_thread_park(worker::parks).on_thread_unpark(worker::unparks);
    #[cfg(tokio_unstable)]
    super::tasks::hook(builder);
    builder
}
