//! Why a task was woken in its poll.

use super::model;
use crate::probe::emit::Record;
use crate::probe::note::WakeNote;
use loom::sync::Arc;
use loom::thread;

#[test]
fn the_cause_that_is_noted_is_one_of_those_that_there_were() {
    model(3, || {
        let note = Arc::new(WakeNote::new());
        let cause = |of: u32| Record { task: 1, value: u64::from(of), arg: of, aux: of };
        let wakers: Vec<_> = (1..3)
            .map(|of| {
                let note = Arc::clone(&note);
                thread::spawn(move || note.write(|| cause(of)))
            })
            .collect();
        if let Some(Record { value, arg, aux, .. }) = note.read(1) {
            assert!(u64::from(arg) == value && arg == aux, "{value} {arg} {aux}");
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        assert!(note.read(1).is_some(), "there were two");
    });
}
