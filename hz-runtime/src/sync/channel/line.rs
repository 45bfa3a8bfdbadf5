//! Who waits at one end of a channel, in the order in which they came.

use std::task::Waker;

/// No place.
const NOWHERE: u32 = u32::MAX;

/// Where a future stands in a [`Line`]; it must leave before it is dropped.
#[derive(Debug, Default)]
pub(super) struct Key(Option<u32>);

impl Key {
    /// Whether it stands nowhere.
    pub(super) const fn is_out(&self) -> bool {
        self.0.is_none()
    }
}

/// One that waits, or that has been told and has not come back yet, or a free place.
#[derive(Debug)]
struct Place {
    /// There while it waits.
    waker: Option<Waker>,
    before: u32,
    /// Of a free place: the next free one.
    after: u32,
}

/// A list in the slots of a vector: once it has grown, nobody who waits allocates.
#[derive(Debug)]
pub(super) struct Line {
    places: Vec<Place>,
    free: u32,
    first: u32,
    last: u32,
    told: usize,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), free: NOWHERE, first: NOWHERE, last: NOWHERE, told: 0 }
    }

    /// Waits on: at the end of the line, in its old place, or, if it was told and came for nothing, in
    /// front. The waker that this replaces is to be dropped outside all locks.
    pub(super) fn wait(&mut self, key: &mut Key, waker: &Waker) -> Option<Waker> {
        let Some(index) = key.0 else {
            let index = self.take_free();
            key.0 = Some(index);
            self.places[index as usize].waker = Some(waker.clone());
            self.link(index, self.last, NOWHERE);
            return None;
        };
        let place = &mut self.places[index as usize];
        match &place.waker {
            Some(old) if old.will_wake(waker) => None,
            Some(_) => place.waker.replace(waker.clone()),
            None => {
                place.waker = Some(waker.clone());
                self.told -= 1;
                self.link(index, NOWHERE, self.first);
                None
            }
        }
    }

    /// Leaves the line, if it stands there. The waker is to be dropped outside all locks.
    pub(super) fn leave(&mut self, key: &mut Key) -> Option<Waker> {
        let index = key.0.take()?;
        let waker = self.places[index as usize].waker.take();
        match waker {
            Some(_) => self.unlink(index),
            None => self.told -= 1,
        }
        self.places[index as usize].after = self.free;
        self.free = index;
        waker
    }

    /// The next to wake, if somebody waits and fewer than `wanted` are on their way.
    pub(super) fn tell(&mut self, wanted: usize) -> Option<Waker> {
        if self.told >= wanted || self.first == NOWHERE {
            return None;
        }
        let index = self.first;
        let waker = self.places[index as usize].waker.take();
        self.unlink(index);
        self.told += 1;
        waker
    }

    /// Tells everyone.
    pub(super) fn tell_all(&mut self) -> Vec<Waker> {
        std::iter::from_fn(|| self.tell(usize::MAX)).collect()
    }

    fn take_free(&mut self) -> u32 {
        let index = self.free;
        if let Some(place) = self.places.get(index as usize) {
            self.free = place.after;
            return index;
        }
        self.places.push(Place { waker: None, before: NOWHERE, after: NOWHERE });
        u32::try_from(self.places.len() - 1).expect("fewer than 4 G tasks wait for one channel")
    }

    fn link(&mut self, index: u32, before: u32, after: u32) {
        let place = &mut self.places[index as usize];
        (place.before, place.after) = (before, after);
        *self.after(before) = index;
        *self.before(after) = index;
    }

    fn unlink(&mut self, index: u32) {
        let Place { before, after, .. } = self.places[index as usize];
        *self.after(before) = after;
        *self.before(after) = before;
    }

    /// What says who comes after `index`; after nobody comes the first.
    fn after(&mut self, index: u32) -> &mut u32 {
        match self.places.get_mut(index as usize) {
            Some(place) => &mut place.after,
            None => &mut self.first,
        }
    }

    fn before(&mut self, index: u32) -> &mut u32 {
        match self.places.get_mut(index as usize) {
            Some(place) => &mut place.before,
            None => &mut self.last,
        }
    }
}
