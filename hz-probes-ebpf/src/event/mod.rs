//! The records, one file per family.

mod sched;
mod uprobe;

pub use sched::{
    Exec, Exit, Fork, Interrupts, Lost, Migrate, NOT_ASKED, Rename, SWITCH_PREEMPTED, Switch,
    THREAD_FOREIGN, THREAD_KERNEL, THREAD_LAST, THREAD_ON_CPU, THREAD_QUEUED, Thread,
    WAKING_HARDIRQ, WAKING_SOFTIRQ, Wakeup, Waking,
};
pub use uprobe::{UPROBE_RETURN, UprobeHit, UprobeSite};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a thread's name, the closing NUL included; the kernel's `TASK_COMM_LEN`.
pub const COMM_BYTES: usize = 16;

/// A thread's name as the kernel keeps it: up to 15 bytes, NUL-padded, in no known encoding.
pub type Comm = [u8; COMM_BYTES];

/// What every record begins with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// When it happened: nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Which record this is: a [`Kind`] as it travels.
    pub kind: u16,
    /// The CPU it happened on; each kind says which CPU that is.
    pub cpu: u16,
    /// The thread it is about, in the initial pid namespace; the kernel calls this `pid`.
    pub tid: u32,
    /// The process of that thread, in the initial pid namespace; the kernel calls this `tgid`.
    pub pid: u32,
    /// Four bytes that the kind may use; each record says what for.
    pub arg: u32,
}
const _: () = assert!(size_of::<Header>() == 24);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $tag:literal;)*) => {
        /// Which record a [`Header`] begins.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $name = $wire,)* }

        impl Kind {
            /// Every kind, in wire order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The kind that travels as `wire`, if this build knows it.
            pub const fn from_wire(wire: u16) -> Option<Self> {
                match wire { $($wire => Some(Self::$name),)* _ => None }
            }

            /// The kind's name in recordings, JSON and documentation.
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)* }
            }

            /// Length of the kind's record, in bytes.
            pub const fn record_bytes(self) -> usize {
                match self { $(Self::$name => size_of::<record::$name>(),)* }
            }
        }

        mod record {
            pub(super) use super::{Exec, Exit, Fork, Interrupts, Migrate, Lost, Rename, Switch};
            pub(super) use super::{Thread, UprobeHit as Uprobe, Wakeup, Wakeup as WakeupNew, Waking};
        }
    };
}

kinds! {
    /// A CPU went from one thread to another: [`Switch`].
    Switch = 1, "switch";
    /// A thread was asked to wake: [`Waking`].
    Waking = 2, "waking";
    /// A woken thread was put on a run queue: [`Wakeup`].
    Wakeup = 3, "wakeup";
    /// A new thread was put on a run queue for the first time: [`Wakeup`].
    WakeupNew = 4, "wakeup_new";
    /// A thread was given another CPU: [`Migrate`].
    Migrate = 5, "migrate";
    /// A thread came to be: [`Fork`].
    Fork = 6, "fork";
    /// A process became another program: [`Exec`].
    Exec = 7, "exec";
    /// A thread ended: [`Exit`].
    Exit = 8, "exit";
    /// A thread was renamed: [`Rename`].
    Rename = 9, "rename";
    /// What a thread was at some moment: [`Thread`].
    Thread = 10, "thread";
    /// Time that interrupts took from a CPU: [`Interrupts`].
    Interrupts = 11, "interrupts";
    /// Records that did not fit into a ring: [`Lost`].
    Lost = 12, "lost";
    /// A user probe was hit: [`UprobeHit`].
    Uprobe = 13, "uprobe";
}
