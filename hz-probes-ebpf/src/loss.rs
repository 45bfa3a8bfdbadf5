//! The ledger: what became of every run of a hook.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One site's counters on one CPU. They satisfy
/// `seen == submitted + filtered + ring_full + read_failed`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Loss {
    /// Times the site was reached.
    pub seen: u64,
    /// Records written.
    pub submitted: u64,
    /// Records that a filter discarded on purpose; not a loss.
    pub filtered: u64,
    /// Records not written because the ring had no room.
    pub ring_full: u64,
    /// Records not written, or evidence not kept, because kernel memory or a map refused.
    pub read_failed: u64,
}

impl Loss {
    /// Records that should have been written and were not.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.ring_full.saturating_add(self.read_failed)
    }

    /// Runs of the site that no counter explains; 0 unless a program is wrong.
    #[must_use]
    pub const fn unaccounted(&self) -> u64 {
        let explained = self.submitted.saturating_add(self.filtered).saturating_add(self.lost());
        self.seen.abs_diff(explained)
    }

    /// Adds another CPU's or site's counters.
    pub const fn add(&mut self, other: &Self) {
        self.seen = self.seen.saturating_add(other.seen);
        self.submitted = self.submitted.saturating_add(other.submitted);
        self.filtered = self.filtered.saturating_add(other.filtered);
        self.ring_full = self.ring_full.saturating_add(other.ring_full);
        self.read_failed = self.read_failed.saturating_add(other.read_failed);
    }

    /// What was added since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            seen: self.seen.saturating_sub(earlier.seen),
            submitted: self.submitted.saturating_sub(earlier.submitted),
            filtered: self.filtered.saturating_sub(earlier.filtered),
            ring_full: self.ring_full.saturating_sub(earlier.ring_full),
            read_failed: self.read_failed.saturating_sub(earlier.read_failed),
        }
    }
}

macro_rules! sites {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $tag:literal;)*) => {
        /// A place in the `sched` programs that writes one kind of record and keeps one ledger.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum Site { $($(#[$doc])* $name = $index,)* }

        impl Site {
            /// Every site, in the order of the ledger.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The site's name in recordings, JSON and documentation.
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)* }
            }
        }
    };
}

sites! {
    /// `sched_switch`.
    Switch = 0, "switch";
    /// `sched_waking`.
    Waking = 1, "waking";
    /// `sched_wakeup`.
    Wakeup = 2, "wakeup";
    /// `sched_wakeup_new`.
    WakeupNew = 3, "wakeup_new";
    /// `sched_migrate_task`.
    Migrate = 4, "migrate";
    /// `sched_process_fork`.
    Fork = 5, "fork";
    /// `sched_process_exec`.
    Exec = 6, "exec";
    /// `sched_process_exit`.
    Exit = 7, "exit";
    /// `task_rename`.
    Rename = 8, "rename";
    /// Interrupt entries and exits, written when enough time has gathered.
    Interrupts = 9, "interrupts";
    /// The name of a thread that a filtered recording meets for the first time.
    Name = 10, "name";
    /// Book-keeping of who waits on which CPU.
    Waiters = 11, "waiters";
    /// The task iterator.
    Snapshot = 12, "snapshot";
}
