//! The layout of every record kind, as a recording carries it.

use hz_probes_ebpf::{
    CpuSample, Exec, Exit, Fork, Header, HeapAlloc, HeapFree, Interrupts, Kind, Lost, MappedFile,
    Mapping, Migrate, OffCpu, Rename, StackTrace, Switch, Thread, UprobeHit, UsdtHit, Wakeup,
    Waking,
    runtime::{RuntimeEvent, RuntimeFound, RuntimeLost, SpawnSite, Stack, TaskEntry, Text},
};
use serde::{Deserialize, Serialize};

/// One record kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSchema {
    /// The kind as it travels.
    pub kind: u16,
    /// Its name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u32,
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

/// One field of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its unit, or what its number counts or names.
    pub unit: String,
    /// Where it begins in the record.
    pub offset: u32,
    /// Its length in bytes.
    pub bytes: u32,
}

/// Fields of a record, with offsets and lengths from the compiler.
macro_rules! fields {
    ($record:ty: $($name:ident = $unit:literal),* $(,)?) => {
        vec![$($crate::recording::schema::field(stringify!($name), $unit, std::mem::offset_of!($record, $name), |record: &$record| size_of_val(&record.$name)),)*]
    };
}
pub(super) use fields;

pub(super) fn field<T: zerocopy::FromZeros>(
    name: &str,
    unit: &str,
    offset: usize,
    size: fn(&T) -> usize,
) -> Field {
    Field {
        name: name.to_owned(),
        unit: unit.to_owned(),
        offset: u32::try_from(offset).unwrap_or(u32::MAX),
        bytes: u32::try_from(size(&T::new_zeroed())).unwrap_or(u32::MAX),
    }
}

/// The layout of every kind this build knows.
#[must_use]
pub fn schema() -> Vec<RecordSchema> {
    Kind::ALL
        .iter()
        .map(|kind| RecordSchema {
            kind: *kind as u16,
            name: kind.tag().to_owned(),
            bytes: u32::try_from(kind.record_bytes()).unwrap_or(u32::MAX),
            fields: header_fields().into_iter().chain(own_fields(*kind)).collect(),
        })
        .collect()
}

fn header_fields() -> Vec<Field> {
    fields!(Header: time_ns = "ns", kind = "kind", cpu = "cpu", tid = "thread", pid = "process", arg = "by kind")
}

fn own_fields(kind: Kind) -> Vec<Field> {
    match kind {
        Kind::Switch => {
            fields!(Switch: next_pid = "process", prev_state = "bits", flags = "bits", next_prio = "priority")
        }
        Kind::Waking => fields!(Waking: waker_pid = "process", flags = "bits"),
        Kind::Wakeup | Kind::WakeupNew => {
            fields!(Wakeup: occupant_tid = "thread", occupant_pid = "process")
        }
        Kind::Migrate => fields!(Migrate: from_cpu = "cpu", occupant_tid = "thread"),
        Kind::Fork => fields!(Fork: parent_pid = "process", reserved = "none", comm = "text"),
        Kind::Exec => fields!(Exec: comm = "text"),
        Kind::Exit => fields!(Exit: nvcsw = "count", nivcsw = "count", run_delay_ns = "ns"),
        Kind::Rename => fields!(Rename: comm = "text"),
        Kind::Thread => {
            fields!(Thread: nvcsw = "count", nivcsw = "count", run_delay_ns = "ns", start_ns = "ns", state = "bits", flags = "bits", prio = "priority", comm = "text")
        }
        Kind::Interrupts => {
            fields!(Interrupts: since_ns = "ns", hard_ns = "ns", soft_ns = "ns", steal_ns = "ns")
        }
        Kind::Lost => fields!(Lost: since_ns = "ns", count = "count"),
        Kind::Uprobe => fields!(UprobeHit: flags = "bits", reserved = "none"),
        Kind::RuntimeFound => {
            fields!(RuntimeFound: flight_kinds = "bits", asked_kinds = "bits", offered_kinds = "bits", alloc_mean_bytes = "bytes")
        }
        Kind::Text => fields!(Text: bytes = "bytes", text = "text"),
        Kind::SpawnSite => {
            fields!(SpawnSite: name = "text number", file = "text number", line = "line", column = "column", future = "text number", future_bytes = "bytes")
        }
        Kind::Stack => {
            fields!(Stack: frames = "count", is_cut = "boolean", addresses = "addresses")
        }
        Kind::TaskEntry => {
            fields!(TaskEntry: task = "task", parent = "task", spawned_ns = "ns", last_poll_ns = "ns", polls = "count", future = "address", wait_value = "by waits_for", waits_for = "number", wait_arg = "by waits_for", state = "number", priority = "level", worker = "worker", name = "text number")
        }
        Kind::RuntimeLost => fields!(RuntimeLost: since_ns = "ns", count = "count"),
        Kind::Usdt => fields!(UsdtHit: args = "by probe", count = "count", unread = "bits"),
        Kind::StackTrace => {
            fields!(StackTrace: id = "stack", kernel_frames = "count", user_frames = "count", kernel_end = "number", user_end = "number", guessed_frames = "count", reserved = "none", addresses = "addresses")
        }
        Kind::CpuSample => {
            fields!(CpuSample: stack = "stack", period = "by event", event = "number", reserved = "none")
        }
        Kind::OffCpu => {
            fields!(OffCpu: off_ns = "ns", runq_ns = "ns", stack = "stack", waker_stack = "stack", waker_tid = "thread", waker_pid = "process", state = "bits", syscall = "system call", args = "by system call", lock_value = "number", lock_owner = "thread", weight = "count", reserved = "none")
        }
        Kind::Mapping => {
            fields!(Mapping: start = "address", end = "address", offset = "bytes", flags = "bits", reserved = "none")
        }
        Kind::MappedFile => {
            fields!(MappedFile: inode = "inode", device_major = "number", device_minor = "number", build_id = "bytes", build_id_bytes = "bytes", path_bytes = "bytes", path_from = "bytes", reserved = "none", path = "text")
        }
        Kind::HeapAlloc => {
            fields!(HeapAlloc: stack = "stack", address = "address", bytes = "bytes", mean_bytes = "bytes")
        }
        Kind::HeapFree => fields!(HeapFree: address = "address"),
        kind if kind.is_runtime_event() => {
            fields!(RuntimeEvent: task = "task", value = "by kind", aux = "by kind", reserved = "none")
        }
        kind => super::schema_net::own_fields(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_tile_every_record() {
        for record in schema() {
            let mut end = 0;
            for field in &record.fields {
                assert_eq!(field.offset, end, "{}.{}", record.name, field.name);
                end += field.bytes;
            }
            assert_eq!(end, record.bytes, "{}", record.name);
        }
    }
}
