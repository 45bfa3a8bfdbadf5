//! Netlink's framing: messages of a datagram, attributes of a message. Total: what does not fit ends the
//! iteration, whatever the bytes are.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kernel's `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MessageHeader {
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
}

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLM_F_REQUEST: u16 = 1;
/// Set by the kernel when what it tells changed while it told.
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub(super) const NLM_F_DUMP: u16 = 0x300;

const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// The messages of a datagram, each with its payload.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (MessageHeader, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = MessageHeader::read_from_prefix(datagram).ok()?;
        let length = usize::try_from(header.length).ok()?;
        let payload = datagram.get(size_of::<MessageHeader>()..length)?;
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// Attributes (`struct nlattr`): type without its flags, and payload.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = u16::read_from_prefix(bytes).ok()?;
        let (kind, _) = u16::read_from_prefix(rest).ok()?;
        let payload = bytes.get(4..usize::from(length))?;
        bytes = bytes.get(aligned(usize::from(length))..).unwrap_or_default();
        Some((kind & 0x3fff, payload))
    })
}

/// Reads a kernel's struct that may be shorter or longer than this build knows it: what is missing
/// is zero.
pub(super) fn padded<T: FromBytes + IntoBytes>(bytes: &[u8]) -> T {
    let mut value = T::new_zeroed();
    let length = bytes.len().min(size_of::<T>());
    value.as_mut_bytes()[..length].copy_from_slice(&bytes[..length]);
    value
}

/// A text of the kernel's in a field of `N` bytes, cut so that a NUL ends it.
pub(super) fn name<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut name = [0; N];
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let length = text.len().min(N.saturating_sub(1));
    name[..length].copy_from_slice(&text[..length]);
    name
}

/// A request to dump: header and body, with zeros up to the next multiple of four.
pub(super) fn dump_request(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = size_of::<MessageHeader>() + body.len();
    let header = MessageHeader {
        length: u32::try_from(length).unwrap_or(u32::MAX),
        kind,
        flags: NLM_F_REQUEST | NLM_F_DUMP,
        sequence,
        port: 0,
    };
    let mut request = header.as_bytes().to_vec();
    request.extend_from_slice(body);
    request.resize(aligned(length), 0);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_framed_is_found_and_a_cut_message_is_not() {
        let request = dump_request(20, 7, &[1, 2, 3, 4, 5]);
        let found: Vec<_> = messages(&request).collect();
        assert_eq!((found.len(), found[0].0.kind, found[0].1), (1, 20, &[1, 2, 3, 4, 5][..]));
        assert_eq!(messages(&request[..20]).count(), 0);
        let two = [request.as_slice(), request.as_slice()].concat();
        assert_eq!(messages(&two).count(), 2);
    }

    #[test]
    fn attributes_are_read_up_to_the_one_that_lies_about_its_length() {
        let bytes = [5, 0, 1, 0x80, 9, 0, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4, 200, 0, 3, 0];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &[9][..]), (2, &[1, 2, 3, 4][..])]);
        // A length of less than the attribute's own head must not stand still.
        assert_eq!(attributes(&[0, 0, 1, 0, 4, 0, 1, 0]).count(), 0);
    }

    #[test]
    fn names_end_with_nul() {
        assert_eq!(name::<4>(b"veth0\0x"), *b"vet\0");
        assert_eq!(name::<8>(b"fq\0xx"), *b"fq\0\0\0\0\0\0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_framed_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let framed: usize = messages(&bytes).map(|(_, payload)| payload.len() + 16).sum();
            prop_assert!(framed <= bytes.len());
            let framed: usize = attributes(&bytes).map(|(_, payload)| payload.len() + 4).sum();
            prop_assert!(framed <= bytes.len());
            let _ = padded::<MessageHeader>(&bytes);
        }
    }
}
