use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::task::Wake;

/// Says in a shared list which timer woke it, and when.
struct Note {
    deadline_ns: u64,
    fired: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        let entry = (self.deadline_ns, now_ns());
        self.fired.lock().unwrap().push(entry);
    }
}

fn fire_until(timers: &Timers, count: usize) {
    let start = std::time::Instant::now();
    let mut fired = 0;
    while fired < count {
        assert!(start.elapsed().as_secs() < 20, "{fired} of {count} fired");
        fired += timers.fire();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn timers_fire_in_the_order_of_their_deadlines_and_never_early(
        plan in proptest::collection::vec((0_u64..2_000_000, any::<bool>()), 0..400)
    ) {
        let timers = Timers::new();
        let fired = Arc::new(Mutex::new(Vec::new()));
        let base = now_ns();
        let mut kept: Vec<u64> = Vec::new();
        for &(delay_ns, is_removed) in &plan {
            let deadline_ns = base + delay_ns;
            let note = Note { deadline_ns, fired: Arc::clone(&fired) };
            let (key, _) = timers.add(deadline_ns, 0, Waker::from(Arc::new(note)));
            if is_removed {
                timers.remove(key);
            } else {
                kept.push(deadline_ns);
            }
        }
        kept.sort_unstable();
        fire_until(&timers, kept.len());
        let fired = fired.lock().unwrap();
        let order: Vec<u64> = fired.iter().map(|(deadline, _)| *deadline).collect();
        prop_assert_eq!(order, kept);
        prop_assert!(fired.iter().all(|(deadline, at)| at >= deadline));
        prop_assert_eq!(timers.fire(), 0);
    }
}

#[test]
fn removed_timers_do_not_stay_in_the_heap() {
    let timers = Timers::new();
    let (_keep, _) = timers.add(u64::MAX - 1, 0, Waker::noop().clone());
    for _ in 0..10_000 {
        let (key, _) = timers.add(u64::MAX - 1, 0, Waker::noop().clone());
        timers.remove(key);
    }
    let inner = timers.lock();
    assert!(inner.heap.len() <= 2 * SWEEP_FROM, "{}", inner.heap.len());
    assert!(inner.slots.len() <= 2, "{}", inner.slots.len());
}

#[test]
fn a_timer_that_fired_is_known_to_have_and_its_slot_is_used_again() {
    let timers = Timers::new();
    let (first, _) = timers.add(now_ns(), 0, Waker::noop().clone());
    assert_eq!(timers.fire(), 1);
    assert!(timers.poll(first, Waker::noop()));
    let (second, _) = timers.add(u64::MAX - 1, 0, Waker::noop().clone());
    assert_eq!(first.index, second.index);
    timers.remove(first);
    assert!(!timers.poll(second, Waker::noop()), "removed by an old key");
}
