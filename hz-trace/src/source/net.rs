//! The kernel probe `net`: its programs, its ring, its ledger, and its snapshots.

use super::{
    Scope, bpf,
    net_setup::{choose_programs, configure, is_iterator, is_optional, missing_function},
    network_namespaces::NetworkNamespace,
};
use crate::{
    error::StartError,
    host::{self, KernelTypes},
    recording::{BpfCost, LedgerRow},
};
use hz_probes_ebpf::{Header, Kind, Loss, net::NetSite};
use libbpf_rs::{
    Link, MapCore as _, MapFlags, Object, ObjectBuilder, RingBuffer, RingBufferBuilder,
};
use std::{
    cell::RefCell,
    fmt,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    rc::Rc,
};
use zerocopy::FromBytes as _;

pub(super) const NAME: &str = "net";

/// The programs, empty when they were not built.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/net.bpf.o"));

/// The iterator over open files.
pub(super) const HOLDERS: &str = "net_holders";
/// The iterator over sockets.
pub(super) const SAMPLE: &str = "net_sample";

/// Records that one [`Net::drain`] reads at most: what the ring holds of the smallest.
const DRAIN_MAX: usize = (16 << 20) / 40;

/// Records behind each other, as they came out of the ring.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// The loaded probe. Dropping it detaches everything.
///
/// # Minimum kernel
///
/// Linux 5.14 with BTF.
pub struct Net {
    links: Vec<Link>,
    sampler: Option<Link>,
    ring: RingBuffer<'static>,
    waiting: Rc<RefCell<Waiting>>,
    object: Object,
    missing: Vec<String>,
    hook: &'static str,
}

impl fmt::Debug for Net {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Net").field("links", &self.links.len()).finish_non_exhaustive()
    }
}

impl Net {
    /// Loads the programs; nothing is attached yet. `processes` is the map of the target's processes,
    /// if processes are the target.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn load(scope: &Scope, processes: Option<BorrowedFd<'_>>) -> Result<Self, StartError> {
        if OBJECT.is_empty() {
            return Err(StartError::NotBuilt { probe: NAME });
        }
        let types = KernelTypes::of_running_kernel()?;
        let hook = "tcp_retransmit_skb";
        if !types.has_tracepoint(hook) {
            return Err(StartError::NoHook { probe: NAME, hook });
        }
        let load = |may_attach_functions| {
            let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
            let chosen = choose_programs(&mut open, &types, may_attach_functions);
            configure(&mut open, scope, processes, &types)?;
            Ok((open.load().map_err(refused)?, chosen))
        };
        // Some kernels refuse them only when they are loaded.
        let (object, (hook, missing)) = load(true).or_else(|_: StartError| load(false))?;
        let waiting = Rc::default();
        let ring = ring(&object, &waiting)?;
        Ok(Self { links: Vec::new(), sampler: None, ring, waiting, object, missing, hook })
    }

    /// Where the owners of sockets come from: a tracepoint or a function.
    #[must_use]
    pub const fn hook(&self) -> &'static str {
        self.hook
    }

    /// Attaches every program. What the probe can do without and this kernel refuses is missing then.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn attach(&mut self) -> Result<(), StartError> {
        for program in self.object.progs_mut().filter(|program| program.autoload()) {
            let name = program.name().to_string_lossy().into_owned();
            match program.attach() {
                Ok(link) if name == SAMPLE => self.sampler = Some(link),
                Ok(_) if is_iterator(&name) => {}
                Ok(link) => self.links.push(link),
                Err(_) if is_optional(&name) => {
                    self.missing.push(missing_function(&name));
                }
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(())
    }

    /// Records nothing more. What is in the ring can still be drained, and snapshots be taken.
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// Calls `each` with a record for every socket that a process of the target has open.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the iterator cannot be attached or read.
    pub fn holders(&self, each: impl FnMut(&[u8])) -> Result<(), StartError> {
        let program = self.object.progs_mut().find(|program| program.name() == HOLDERS);
        let program = program.ok_or(StartError::NotBuilt { probe: NAME })?;
        let link = program.attach().map_err(refused)?;
        let file = open_iterator(link.as_fd()).map_err(|error| refused(error.into()))?;
        read_records(file, each).map_err(|error| refused(error.into()))
    }

    /// Calls `each` with what the queues of every socket of the target in `namespace` hold.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered or the iterator not be read.
    pub fn sample(&self, namespace: &NetworkNamespace, each: impl FnMut(&[u8])) -> io::Result<()> {
        let Some(link) = &self.sampler else { return Ok(()) };
        let file = namespace.within(|| open_iterator(link.as_fd()))??;
        read_records(file, each)
    }

    /// Gives every record that waits to `record`, oldest first. Does not block, and reads no more than
    /// the ring holds, however fast it fills.
    pub fn drain(&mut self, mut record: impl FnMut(&[u8])) {
        // The result is the number of records, or an error of a callback, which gives none.
        self.ring.consume_raw_n(DRAIN_MAX);
        let mut waiting = self.waiting.borrow_mut();
        let mut begin = 0;
        for end in &waiting.ends {
            record(&waiting.bytes[begin..*end]);
            begin = *end;
        }
        waiting.bytes.clear();
        waiting.ends.clear();
    }

    pub(super) fn map(&self, name: &str) -> Option<libbpf_rs::Map<'_>> {
        self.object.maps().find(|map| map.name() == name)
    }

    /// One site's counters, all CPUs together.
    #[must_use]
    pub fn row(&self, site: NetSite) -> Loss {
        let mut sum = Loss::default();
        let found = self.map("LEDGER").and_then(|map| {
            map.lookup_percpu(&(site as u32).to_ne_bytes(), MapFlags::ANY).ok().flatten()
        });
        for cpu in found.unwrap_or_default() {
            if let Ok((loss, _)) = Loss::read_from_prefix(&cpu) {
                sum.add(&loss);
            }
        }
        sum
    }

    /// What became of every run of a hook.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerRow> {
        NetSite::ALL.iter().map(|site| LedgerRow::new(site.tag(), &self.row(*site))).collect()
    }

    /// What each program took.
    #[must_use]
    pub fn cost(&self) -> Vec<BpfCost> {
        let programs = self.object.progs_mut().filter(|program| program.autoload());
        programs
            .map(|program| bpf::cost(&program.name().to_string_lossy(), program.as_fd()))
            .collect()
    }

    /// What this kernel lacks and the probe can do without.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

/// A reader of the ring that puts records into `waiting`.
fn ring(
    object: &Object,
    waiting: &Rc<RefCell<Waiting>>,
) -> Result<RingBuffer<'static>, StartError> {
    let waiting = Rc::clone(waiting);
    let events = object.maps().find(|map| map.name() == "EVENTS");
    let events = events.ok_or(StartError::NotBuilt { probe: NAME })?;
    let mut builder = RingBufferBuilder::new();
    let keep = move |bytes: &[u8]| {
        let mut waiting = waiting.borrow_mut();
        waiting.bytes.extend_from_slice(bytes);
        let end = waiting.bytes.len();
        waiting.ends.push(end);
        0
    };
    builder.add(&events, keep).map_err(refused)?;
    builder.build().map_err(refused)
}

/// Opens an iterator, which sees the network namespace of the thread that opens it.
fn open_iterator(link: BorrowedFd<'_>) -> io::Result<File> {
    // SAFETY: takes a descriptor and returns a new one or a negative error.
    let fd = unsafe { libbpf_sys::bpf_iter_create(link.as_raw_fd()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Reads an iterator to its end. Records are of several kinds, and none is cut by the end of a read.
fn read_records(mut file: File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    while let Ok((header, _)) = Header::read_from_prefix(rest) {
        let length = Kind::from_wire(header.kind).map_or(rest.len(), Kind::record_bytes);
        let Some((record, behind)) = rest.split_at_checked(length) else { break };
        each(record);
        rest = behind;
    }
    Ok(())
}

pub(super) fn refused(source: libbpf_rs::Error) -> StartError {
    // The verifier, too, refuses with a permission error.
    if source.kind() == libbpf_rs::ErrorKind::PermissionDenied && !host::may_trace() {
        return StartError::NotPermitted { probe: NAME };
    }
    StartError::Refused { probe: NAME, source }
}
