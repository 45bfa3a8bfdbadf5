//! From what a ring holds to records: stacks as long as they are become parts of a few lengths, and are
//! told once.

use hz_probes_ebpf::{Header, Kind, STACK_PART, StackTrace};
use std::{collections::HashSet, mem::offset_of, ops::Range};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

/// Lengths of a record, in addresses: what compresses well is alike.
const LENGTHS: [usize; 3] = [8, 16, STACK_PART];

/// Stacks that are remembered as told, at the most: those are told again.
const TOLD_MAX: usize = 1 << 20;

/// Where the addresses of a stack begin, in a ring and in a record.
const HEAD_BYTES: usize = offset_of!(StackTrace, addresses);

/// Frames of tracepoints and programs above the function that they are in, at the most.
const ABOVE_MAX: usize = 12;

/// Stacks that were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    ids: HashSet<u64>,
    /// Functions of the kernel above which nothing is told.
    functions: Vec<Range<u64>>,
}

impl Told {
    pub(super) fn new(functions: Vec<Range<u64>>) -> Self {
        Self { ids: HashSet::new(), functions }
    }

    /// Tells a stack that came from a ring, unless it was told.
    pub(super) fn tell(&mut self, bytes: &[u8], tell: &mut dyn FnMut(&[u8])) {
        let Some((head, addresses)) = bytes.split_at_checked(HEAD_BYTES) else { return };
        let mut record = StackTrace::new_zeroed();
        record.as_mut_bytes()[..HEAD_BYTES].copy_from_slice(head);
        if self.ids.len() >= TOLD_MAX {
            self.ids.clear();
        }
        if !self.ids.insert(record.id) {
            return;
        }
        let addresses =
            addresses.chunks_exact(8).filter_map(|word| u64::read_from_bytes(word).ok());
        let addresses: Vec<u64> = addresses.collect();
        let kernel = usize::from(record.kernel_frames).min(addresses.len());
        let above = self.above(&addresses[..kernel]);
        record.kernel_frames -= u16::try_from(above).unwrap_or(0);
        tell_parts(record, &addresses[above..], tell);
    }

    /// Frames above the function in which a thread left or woke another.
    fn above(&self, kernel: &[u64]) -> usize {
        let is_function = |address: &u64| {
            self.functions.iter().any(|function| function.contains(&(address.wrapping_sub(1))))
        };
        kernel.iter().take(ABOVE_MAX).position(is_function).unwrap_or(0)
    }
}

fn tell_parts(record: StackTrace, addresses: &[u64], tell: &mut dyn FnMut(&[u8])) {
    let mut from = 0;
    loop {
        let rest = &addresses[from..];
        let part = &rest[..rest.len().min(STACK_PART)];
        let arg = u32::try_from(from).unwrap_or(u32::MAX);
        let header = Header { kind: Kind::StackTrace as u16, arg, ..record.header };
        let mut told = StackTrace { header, addresses: [0; STACK_PART], ..record };
        told.addresses[..part.len()].copy_from_slice(part);
        let length = LENGTHS.into_iter().find(|length| part.len() <= *length).unwrap_or(STACK_PART);
        tell(&told.as_bytes()[..HEAD_BYTES + 8 * length]);
        from += part.len();
        if from >= addresses.len() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Event, decode};
    use proptest::prelude::*;

    fn ring_bytes(id: u64, kernel: &[u64], user: &[u64]) -> Vec<u8> {
        let mut record = StackTrace::new_zeroed();
        record.header.kind = Kind::StackTrace as u16;
        record.id = id;
        record.kernel_frames = u16::try_from(kernel.len()).unwrap();
        record.user_frames = u16::try_from(user.len()).unwrap();
        let words = kernel.iter().chain(user).flat_map(|word| word.to_le_bytes());
        record.as_bytes()[..HEAD_BYTES].iter().copied().chain(words).collect()
    }

    fn parts(told: &mut Told, bytes: &[u8]) -> Vec<StackTrace> {
        let mut parts = Vec::new();
        told.tell(bytes, &mut |record| match decode(record) {
            Ok(Event::StackTrace(part)) => parts.push(part),
            other => panic!("{other:?}"),
        });
        parts
    }

    #[test]
    fn a_long_stack_is_told_in_parts_and_once() {
        let user: Vec<u64> = (1..=60).collect();
        let bytes = ring_bytes(5, &[100, 101], &user);
        let mut told = Told::default();
        let found = parts(&mut told, &bytes);
        assert_eq!(found.iter().map(|part| part.header.arg).collect::<Vec<_>>(), [0, 29, 58]);
        let addresses: Vec<u64> = found.iter().flat_map(|part| part.addresses).collect();
        assert_eq!(&addresses[..2], [100, 101]);
        assert_eq!(&addresses[2..62], &user[..]);
        assert!(found.iter().all(|part| (part.kernel_frames, part.user_frames) == (2, 60)));
        assert!(parts(&mut told, &bytes).is_empty());
    }

    #[test]
    fn what_is_above_the_event_is_left_out() {
        let mut told = Told::new(vec![50..60, 90..91]);
        let found = parts(&mut told, &ring_bytes(1, &[7, 8, 55, 70], &[1]));
        assert_eq!((found[0].kernel_frames, &found[0].addresses[..3]), (2, &[55, 70, 1][..]));
        // A sample has no such function.
        let found = parts(&mut told, &ring_bytes(2, &[7, 8], &[1]));
        assert_eq!((found[0].kernel_frames, &found[0].addresses[..3]), (2, &[7, 8, 1][..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Told::new(vec![0..u64::MAX, 0..0]).tell(&bytes, &mut |record| assert!(record.len() % 8 == 0));
        }
    }
}
