//! What somebody looks at now: probes for the rest are off.

use std::sync::{Arc, Mutex, PoisonError};

/// What a watch tells beside what it always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Why segments are sent again, and which thread uses a socket.
    pub has_reasons: bool,
    /// Stacks of threads that run.
    pub has_oncpu: bool,
    /// Stacks of threads that left their CPU.
    pub has_offcpu: bool,
}

/// [`Wants`] that one thread says and another follows.
#[derive(Clone, Debug, Default)]
pub struct Wishes(Arc<Mutex<Wants>>);

impl Wishes {
    /// Asks for this from now on.
    pub fn set(&self, wants: Wants) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = wants;
    }

    /// What is asked for.
    #[must_use]
    pub fn get(&self) -> Wants {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
