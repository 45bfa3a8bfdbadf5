//! Bytes to events. Total: any bytes give an event or an error, never a panic.

use hz_probes_ebpf::{
    CpuSample, Exec, Exit, Fork, Header, HeapAlloc, HeapFree, Interrupts, Kind, Lost, MappedFile,
    Mapping, Migrate, OffCpu, Rename, StackTrace, Switch, Thread, UprobeHit, UsdtHit, Wakeup,
    Waking,
    net::{
        NetCongestion, NetDrop, NetLost, NetName, NetOwner, NetQueued, NetReset, NetRetransmit,
        NetSample, NetSocket, NetSojourn, NetSojournPart, NetState, NetSynAck, NetWindow,
    },
    net_host::{HostDevice, HostPorts, HostQueue, HostSocket, HostUnix, NetCounters},
    runtime::{
        RuntimeEvent, RuntimeFound, RuntimeLost, RuntimeThread, SpawnSite, Stack, TaskEntry, Text,
    },
};
use zerocopy::{FromBytes, IntoBytes};

/// One decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the record of its name")]
pub enum Event {
    Switch(Switch),
    Waking(Waking),
    Wakeup(Wakeup),
    WakeupNew(Wakeup),
    Migrate(Migrate),
    Fork(Fork),
    Exec(Exec),
    Exit(Exit),
    Rename(Rename),
    Thread(Thread),
    Interrupts(Interrupts),
    Lost(Lost),
    Uprobe(UprobeHit),
    /// Kinds 16 to 39: the header says which.
    Runtime(RuntimeEvent),
    RuntimeFound(RuntimeFound),
    RuntimeThread(RuntimeThread),
    Text(Text),
    SpawnSite(SpawnSite),
    Stack(Stack),
    TaskEntry(TaskEntry),
    RuntimeLost(RuntimeLost),
    Usdt(UsdtHit),
    NetSocket(NetSocket),
    NetOwner(NetOwner),
    NetRetransmit(NetRetransmit),
    NetSynAck(NetSynAck),
    NetState(NetState),
    NetReset(NetReset),
    NetSample(NetSample),
    NetCongestion(NetCongestion),
    NetWindow(NetWindow),
    NetDrop(NetDrop),
    NetName(NetName),
    NetLost(NetLost),
    NetSojourn(NetSojourn),
    NetSojournPart(NetSojournPart),
    NetQueued(NetQueued),
    HostSocket(HostSocket),
    HostPorts(HostPorts),
    HostQueue(HostQueue),
    HostDevice(HostDevice),
    HostUnix(HostUnix),
    NetCounters(NetCounters),
    StackTrace(StackTrace),
    CpuSample(CpuSample),
    OffCpu(OffCpu),
    Mapping(Mapping),
    MappedFile(MappedFile),
    HeapAlloc(HeapAlloc),
    HeapFree(HeapFree),
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The record ends before its header does.
    #[error("record of {bytes} bytes is cut short")]
    Short {
        /// Length of what was given.
        bytes: usize,
    },
    /// A newer hz wrote it, or the bytes are damaged.
    #[error("record of unknown kind {kind}")]
    UnknownKind {
        /// The kind as it travelled.
        kind: u16,
    },
}

/// Decodes one record.
///
/// `bytes` may be longer than the record, since newer layouts append fields, and shorter down to
/// the header: fields that an older layout lacks are zero.
///
/// # Errors
///
/// [`DecodeError`] if `bytes` does not hold a header or names a kind this build does not know.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let short = DecodeError::Short { bytes: bytes.len() };
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| short)?;
    let kind =
        Kind::from_wire(header.kind).ok_or(DecodeError::UnknownKind { kind: header.kind })?;
    Ok(match kind {
        Kind::Switch => Event::Switch(record(bytes)),
        Kind::Waking => Event::Waking(record(bytes)),
        Kind::Wakeup => Event::Wakeup(record(bytes)),
        Kind::WakeupNew => Event::WakeupNew(record(bytes)),
        Kind::Migrate => Event::Migrate(record(bytes)),
        Kind::Fork => Event::Fork(record(bytes)),
        Kind::Exec => Event::Exec(record(bytes)),
        Kind::Exit => Event::Exit(record(bytes)),
        Kind::Rename => Event::Rename(record(bytes)),
        Kind::Thread => Event::Thread(record(bytes)),
        Kind::Interrupts => Event::Interrupts(record(bytes)),
        Kind::Lost => Event::Lost(record(bytes)),
        Kind::Uprobe => Event::Uprobe(record(bytes)),
        Kind::RuntimeFound => Event::RuntimeFound(record(bytes)),
        Kind::RuntimeThread => Event::RuntimeThread(record(bytes)),
        Kind::Text => Event::Text(record(bytes)),
        Kind::SpawnSite => Event::SpawnSite(record(bytes)),
        Kind::Stack => Event::Stack(record(bytes)),
        Kind::TaskEntry => Event::TaskEntry(record(bytes)),
        Kind::RuntimeLost => Event::RuntimeLost(record(bytes)),
        Kind::Usdt => Event::Usdt(record(bytes)),
        Kind::NetSocket => Event::NetSocket(record(bytes)),
        Kind::NetOwner => Event::NetOwner(record(bytes)),
        Kind::NetRetransmit => Event::NetRetransmit(record(bytes)),
        Kind::NetSynAck => Event::NetSynAck(record(bytes)),
        Kind::NetState => Event::NetState(record(bytes)),
        Kind::NetReset => Event::NetReset(record(bytes)),
        Kind::NetSample => Event::NetSample(record(bytes)),
        Kind::NetCongestion => Event::NetCongestion(record(bytes)),
        Kind::NetWindow => Event::NetWindow(record(bytes)),
        Kind::NetDrop => Event::NetDrop(record(bytes)),
        Kind::NetName => Event::NetName(record(bytes)),
        Kind::NetLost => Event::NetLost(record(bytes)),
        Kind::NetSojourn => Event::NetSojourn(record(bytes)),
        Kind::NetSojournPart => Event::NetSojournPart(record(bytes)),
        Kind::NetQueued => Event::NetQueued(record(bytes)),
        Kind::HostSocket => Event::HostSocket(record(bytes)),
        Kind::HostPorts => Event::HostPorts(record(bytes)),
        Kind::HostQueue => Event::HostQueue(record(bytes)),
        Kind::HostDevice => Event::HostDevice(record(bytes)),
        Kind::HostUnix => Event::HostUnix(record(bytes)),
        Kind::NetCounters => Event::NetCounters(record(bytes)),
        Kind::StackTrace => Event::StackTrace(record(bytes)),
        Kind::CpuSample => Event::CpuSample(record(bytes)),
        Kind::OffCpu => Event::OffCpu(record(bytes)),
        Kind::Mapping => Event::Mapping(record(bytes)),
        Kind::MappedFile => Event::MappedFile(record(bytes)),
        Kind::HeapAlloc => Event::HeapAlloc(record(bytes)),
        Kind::HeapFree => Event::HeapFree(record(bytes)),
        kind if kind.is_runtime_event() => Event::Runtime(record(bytes)),
        _ => return Err(DecodeError::UnknownKind { kind: header.kind }),
    })
}

/// Reads `bytes` as a `T`; what is missing at the end is zero.
#[inline]
fn record<T: FromBytes + IntoBytes>(bytes: &[u8]) -> T {
    if let Ok((whole, _)) = T::read_from_prefix(bytes) {
        return whole;
    }
    let mut padded = T::new_zeroed();
    padded.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    padded
}

impl Event {
    /// What every record begins with.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> &Header {
        match self {
            Self::Switch(record) => &record.header,
            Self::Waking(record) => &record.header,
            Self::Wakeup(record) | Self::WakeupNew(record) => &record.header,
            Self::Migrate(record) => &record.header,
            Self::Fork(record) => &record.header,
            Self::Exec(record) => &record.header,
            Self::Exit(record) => &record.header,
            Self::Rename(record) => &record.header,
            Self::Thread(record) => &record.header,
            Self::Interrupts(record) => &record.header,
            Self::Lost(record) => &record.header,
            Self::Uprobe(record) => &record.header,
            Self::Runtime(record) => &record.header,
            Self::RuntimeFound(record) => &record.header,
            Self::RuntimeThread(record) => &record.header,
            Self::Text(record) => &record.header,
            Self::SpawnSite(record) => &record.header,
            Self::Stack(record) => &record.header,
            Self::TaskEntry(record) => &record.header,
            Self::RuntimeLost(record) => &record.header,
            Self::Usdt(record) => &record.header,
            Self::NetSocket(record) => &record.header,
            Self::NetOwner(record) => &record.header,
            Self::NetRetransmit(record) => &record.header,
            Self::NetSynAck(record) => &record.header,
            Self::NetState(record) => &record.header,
            Self::NetReset(record) => &record.header,
            Self::NetSample(record) => &record.header,
            Self::NetCongestion(record) => &record.header,
            Self::NetWindow(record) => &record.header,
            Self::NetDrop(record) => &record.header,
            Self::NetName(record) => &record.header,
            Self::NetLost(record) => &record.header,
            Self::NetSojourn(record) => &record.header,
            Self::NetSojournPart(record) => &record.header,
            Self::NetQueued(record) => &record.header,
            Self::HostSocket(record) => &record.header,
            Self::HostPorts(record) => &record.header,
            Self::HostQueue(record) => &record.header,
            Self::HostDevice(record) => &record.header,
            Self::HostUnix(record) => &record.header,
            Self::NetCounters(record) => &record.header,
            Self::StackTrace(record) => &record.header,
            Self::CpuSample(record) => &record.header,
            Self::OffCpu(record) => &record.header,
            Self::Mapping(record) => &record.header,
            Self::MappedFile(record) => &record.header,
            Self::HeapAlloc(record) => &record.header,
            Self::HeapFree(record) => &record.header,
        }
    }

    /// What every record begins with.
    pub(crate) const fn header_mut(&mut self) -> &mut Header {
        match self {
            Self::Switch(record) => &mut record.header,
            Self::Waking(record) => &mut record.header,
            Self::Wakeup(record) | Self::WakeupNew(record) => &mut record.header,
            Self::Migrate(record) => &mut record.header,
            Self::Fork(record) => &mut record.header,
            Self::Exec(record) => &mut record.header,
            Self::Exit(record) => &mut record.header,
            Self::Rename(record) => &mut record.header,
            Self::Thread(record) => &mut record.header,
            Self::Interrupts(record) => &mut record.header,
            Self::Lost(record) => &mut record.header,
            Self::Uprobe(record) => &mut record.header,
            Self::Runtime(record) => &mut record.header,
            Self::RuntimeFound(record) => &mut record.header,
            Self::RuntimeThread(record) => &mut record.header,
            Self::Text(record) => &mut record.header,
            Self::SpawnSite(record) => &mut record.header,
            Self::Stack(record) => &mut record.header,
            Self::TaskEntry(record) => &mut record.header,
            Self::RuntimeLost(record) => &mut record.header,
            Self::Usdt(record) => &mut record.header,
            Self::NetSocket(record) => &mut record.header,
            Self::NetOwner(record) => &mut record.header,
            Self::NetRetransmit(record) => &mut record.header,
            Self::NetSynAck(record) => &mut record.header,
            Self::NetState(record) => &mut record.header,
            Self::NetReset(record) => &mut record.header,
            Self::NetSample(record) => &mut record.header,
            Self::NetCongestion(record) => &mut record.header,
            Self::NetWindow(record) => &mut record.header,
            Self::NetDrop(record) => &mut record.header,
            Self::NetName(record) => &mut record.header,
            Self::NetLost(record) => &mut record.header,
            Self::NetSojourn(record) => &mut record.header,
            Self::NetSojournPart(record) => &mut record.header,
            Self::NetQueued(record) => &mut record.header,
            Self::HostSocket(record) => &mut record.header,
            Self::HostPorts(record) => &mut record.header,
            Self::HostQueue(record) => &mut record.header,
            Self::HostDevice(record) => &mut record.header,
            Self::HostUnix(record) => &mut record.header,
            Self::NetCounters(record) => &mut record.header,
            Self::StackTrace(record) => &mut record.header,
            Self::CpuSample(record) => &mut record.header,
            Self::OffCpu(record) => &mut record.header,
            Self::Mapping(record) => &mut record.header,
            Self::MappedFile(record) => &mut record.header,
            Self::HeapAlloc(record) => &mut record.header,
            Self::HeapFree(record) => &mut record.header,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_round_trips() {
        let header =
            Header { time_ns: 5, kind: Kind::Switch as u16, cpu: 1, tid: 7, ..Header::default() };
        let switch = Switch { header, next_pid: 9, prev_state: 1, flags: 0, next_prio: 120 };
        assert_eq!(decode(switch.as_bytes()), Ok(Event::Switch(switch)));
    }

    #[test]
    fn a_longer_record_is_read_and_a_shorter_one_is_padded() {
        let header = Header { kind: Kind::Exit as u16, ..Header::default() };
        let exit = Exit { header, nvcsw: 3, nivcsw: 4, run_delay_ns: 5 };
        let mut bytes = exit.as_bytes().to_vec();
        bytes.extend([0xff; 8]);
        assert_eq!(decode(&bytes), Ok(Event::Exit(exit)));
        let older = Exit { run_delay_ns: 0, ..exit };
        assert_eq!(decode(&bytes[..40]), Ok(Event::Exit(older)));
    }

    #[test]
    fn every_kind_has_an_event() {
        for kind in Kind::ALL {
            let header = Header { kind: *kind as u16, ..Header::default() };
            let mut bytes = vec![0; kind.record_bytes()];
            bytes[..24].copy_from_slice(header.as_bytes());
            assert_eq!(decode(&bytes).map(|event| event.header().kind), Ok(*kind as u16));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_err(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_bytes_of_a_known_kind_decode(kind in 1..14_u16, mut bytes in proptest::collection::vec(any::<u8>(), 24..128)) {
            bytes[8..10].copy_from_slice(&kind.to_le_bytes());
            prop_assert!(decode(&bytes).is_ok());
        }
    }
}
