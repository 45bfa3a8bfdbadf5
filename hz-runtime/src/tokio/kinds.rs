//! What can be told of Tokio, and so is not silence if it isn't.

use crate::probe::{self, Kind};
use std::sync::Once;

/// What a program says of itself, whatever it runs on.
const OF_PROGRAM: &[Kind] = &[
    Kind::AllocSampled,
    Kind::FreeSampled,
    Kind::RequestBegin,
    Kind::RequestEnd,
    Kind::SpanBegin,
    Kind::SpanEnd,
    Kind::Mark,
];
const OF_HOOKED_WORKERS: &[Kind] = &[Kind::Park, Kind::Unpark];
#[cfg(tokio_unstable)]
const OF_HOOKED_TASKS: &[Kind] = &[Kind::TaskSpawn, Kind::PollBegin, Kind::PollEnd, Kind::TaskEnd];
const OF_WRAPPED_TASKS: &[Kind] =
    &[Kind::TaskSpawn, Kind::TaskWake, Kind::PollBegin, Kind::PollEnd, Kind::TaskEnd];

/// There is a task that is wrapped.
#[inline]
pub(super) fn offer_wrapped() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        probe::offer(OF_PROGRAM);
        probe::offer(OF_WRAPPED_TASKS);
    });
}

/// There is a runtime with hooks.
pub(super) fn offer_hooked() {
    probe::offer(OF_PROGRAM);
    probe::offer(OF_HOOKED_WORKERS);
    #[cfg(tokio_unstable)]
    probe::offer(OF_HOOKED_TASKS);
}
