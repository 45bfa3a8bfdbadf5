//! What readers want: the algorithm alone, over any words.

use super::atomic::{Ordering, fence};
use super::words::LeaseWords;
use hz_probes_ebpf::runtime_ring::{LEASE_MAX_NS, LEASES};

/// What the runtime remembers of leases that are taken but have no deadline yet: when each was seen
/// so first, 0: it is not so. A reader may be killed between the two.
#[derive(Debug, Default)]
pub(super) struct Claims([u64; LEASES]);

/// What all leases come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// Kinds that any of them wants.
    pub(super) kinds: u64,
    /// Leases that are taken.
    pub(super) count: u32,
    /// When the first of them ends, unless it is renewed; `CLOCK_MONOTONIC`.
    pub(super) ends_ns: Option<u64>,
}

/// Ends what is over, shortens what is too long, and returns the rest. `now_ns` is `CLOCK_MONOTONIC`.
pub(super) fn sweep(leases: &[LeaseWords], claims: &mut Claims, now_ns: u64) -> Live {
    let mut live = Live::default();
    for (lease, claimed_ns) in leases.iter().zip(&mut claims.0) {
        if lease.pid.load(Ordering::Acquire) == 0 {
            *claimed_ns = 0;
            continue;
        }
        let deadline_ns = lease.deadline_ns.load(Ordering::Acquire);
        let is_over = if deadline_ns == 0 {
            if *claimed_ns == 0 {
                *claimed_ns = now_ns;
            }
            now_ns.saturating_sub(*claimed_ns) > LEASE_MAX_NS
        } else {
            *claimed_ns = 0;
            deadline_ns <= now_ns
        };
        if is_over && end(lease, deadline_ns) {
            *claimed_ns = 0;
            continue;
        }
        live.count += 1;
        if deadline_ns != 0 {
            let latest_ns = now_ns.saturating_add(LEASE_MAX_NS);
            shorten(lease, deadline_ns, latest_ns);
            let ends_ns = live.ends_ns.unwrap_or(u64::MAX).min(deadline_ns).min(latest_ns);
            live.ends_ns = Some(ends_ns);
            live.kinds |= lease.kinds.load(Ordering::Relaxed);
        }
    }
    live
}

/// Ends a lease, unless its reader has moved the deadline on meanwhile.
fn end(lease: &LeaseWords, deadline_ns: u64) -> bool {
    let ended =
        lease.deadline_ns.compare_exchange(deadline_ns, 0, Ordering::AcqRel, Ordering::Relaxed);
    if ended.is_err() {
        return false;
    }
    lease.kinds.store(0, Ordering::Relaxed);
    // The next reader must not find what this one left.
    fence(Ordering::Release);
    lease.pid.store(0, Ordering::Release);
    true
}

/// A reader may not ask for longer than it can be relied on to be alive.
fn shorten(lease: &LeaseWords, deadline_ns: u64, latest_ns: u64) {
    if deadline_ns > latest_ns {
        // If it fails the reader has just moved it on; the next turn looks again.
        let _ = lease.deadline_ns.compare_exchange(
            deadline_ns,
            latest_ns,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }
}
