//! The programs' rings, read into memory in one go.

use super::refused;
use crate::error::StartError;
use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use std::{cell::RefCell, rc::Rc};

/// Records that one look takes from the rings at the most.
const RECORDS_MAX: usize = 65_536;

/// A reader of all rings.
pub(super) struct Rings {
    reader: RingBuffer<'static>,
    inbox: Rc<RefCell<Inbox>>,
}

/// Records that were taken from the rings, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Rings {
    pub(super) fn new(maps: &[MapHandle]) -> Result<Self, StartError> {
        let inbox = Rc::new(RefCell::new(Inbox::default()));
        let mut builder = RingBufferBuilder::new();
        for ring in maps {
            let inbox = Rc::clone(&inbox);
            let take = move |record: &[u8]| {
                inbox.borrow_mut().push(record);
                0
            };
            builder.add(ring, take).map_err(refused)?;
        }
        Ok(Self { reader: builder.build().map_err(refused)?, inbox })
    }

    /// Takes records, up to a bound; whether there may be more.
    pub(super) fn take(&self) -> (Inbox, bool) {
        let count = self.reader.consume_raw_n(RECORDS_MAX);
        let has_more = usize::try_from(count).is_ok_and(|count| count >= RECORDS_MAX);
        (self.inbox.take(), has_more)
    }
}

impl Inbox {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    /// The records, as they came.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.records().count(), 0);
        inbox.push(b"one");
        inbox.push(b"");
        inbox.push(b"three");
        assert_eq!(inbox.records().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    }
}
