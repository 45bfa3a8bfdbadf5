//! A network namespace, opened once and looked at again and again.

use super::{
    NetworkNamespace, counters,
    error::{LookError, NamespaceError},
    inet::{AF_INET, AF_INET6, Common, InetRequest, SOCK_DIAG_BY_FAMILY, TCP, UDP, socket, state},
    owners::Owners,
    ports::{PortRange, Ports},
    route::{
        self, DeviceNames, LinkMessage, Look, QueueLengths, QueueMessage, RTM_GETLINK,
        RTM_GETQDISC, RTM_NEWLINK, RTM_NEWQDISC,
    },
    socket::{Netlink, Question},
    unix::{self, UnixRequest},
};
use crate::host::clock;
use hz_probes_ebpf::{
    Header, Kind,
    net_host::{HostDevice, HostPorts, HostQueue, HostSocket, HostUnix, NetCounters},
};
use rustix::net::netlink::SOCK_DIAG;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _},
};
use zerocopy::IntoBytes as _;

/// Sockets that one look keeps, of TCP and UDP together; those in `TIME_WAIT` are counted only.
pub const SOCKETS_MAX: usize = 50_000;

/// What a look is to bring, beside TCP sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// UDP sockets.
    pub has_udp: bool,
    /// Unix sockets.
    pub has_unix: bool,
    /// Devices and queueing disciplines.
    pub has_queues: bool,
    /// TCP sockets in `TIME_WAIT`, each; they are counted in any case.
    pub has_time_wait: bool,
}

impl Wanted {
    /// All but single sockets in `TIME_WAIT`.
    pub const ALL: Self =
        Self { has_udp: true, has_unix: true, has_queues: true, has_time_wait: false };
    /// TCP sockets, ports and counters.
    pub const TCP: Self =
        Self { has_udp: false, has_unix: false, has_queues: false, has_time_wait: false };
}

/// What a look brought. All records have one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// TCP and UDP sockets.
    pub sockets: Vec<HostSocket>,
    /// TCP connections, counted by where they go.
    pub ports: Vec<HostPorts>,
    /// Queueing disciplines.
    pub queues: Vec<HostQueue>,
    /// What may wait in them, packets and bytes, by device and handle, as far as their kinds say.
    pub limits: BTreeMap<(u32, u32), (Option<u64>, Option<u64>)>,
    /// Devices.
    pub devices: Vec<HostDevice>,
    /// Unix sockets.
    pub unix: Vec<HostUnix>,
    /// What the namespace has counted, what was left out, and how long the look took.
    pub counters: NetCounters,
    /// Dumps that the kernel did not give.
    pub refused: Vec<LookError>,
}

impl Snapshot {
    /// Says of every socket who has it open.
    pub fn own(&mut self, owners: &mut Owners) {
        let inodes = self.sockets.iter().map(|socket| socket.inode).filter(|inode| *inode != 0);
        owners.refresh(inodes.chain(self.unix.iter().map(|socket| socket.inode)));
        let of = |header: &mut Header, inode| {
            if let Some(holders) = owners.holders(inode) {
                (header.pid, header.arg) = (holders.pid, holders.count);
            }
        };
        self.sockets.iter_mut().for_each(|socket| of(&mut socket.header, socket.inode));
        self.unix.iter_mut().for_each(|socket| of(&mut socket.header, socket.inode));
    }

    /// Every record, the one that ends the look last.
    pub fn records(&self, mut each: impl FnMut(&[u8])) {
        self.sockets.iter().for_each(|record| each(record.as_bytes()));
        self.ports.iter().for_each(|record| each(record.as_bytes()));
        self.devices.iter().for_each(|record| each(record.as_bytes()));
        self.queues.iter().for_each(|record| each(record.as_bytes()));
        self.unix.iter().for_each(|record| each(record.as_bytes()));
        each(self.counters.as_bytes());
    }
}

/// A network namespace. It is held open, and outlives its processes until this is dropped.
#[derive(Debug)]
pub struct Namespace {
    inode: u32,
    diag: Netlink,
    route: Netlink,
    files: Files,
}

/// Files that stay those of the namespace in which they were opened.
#[derive(Debug)]
struct Files {
    snmp: File,
    netstat: File,
    range: File,
    reserved: File,
}

impl Namespace {
    /// Opens that of a process.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] if the process is gone, or another's and this user may not enter it.
    pub fn of(pid: u32) -> Result<Self, NamespaceError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => NamespaceError::NoSuchProcess { pid },
            io::ErrorKind::PermissionDenied => NamespaceError::NotPermitted { pid },
            _ => NamespaceError::Io { pid, source },
        };
        let namespace = NetworkNamespace::of(pid).map_err(failed)?;
        let inode = u32::try_from(namespace.inode).unwrap_or(0);
        let opened = namespace.within(|| Self::open_here(inode)).and_then(|opened| opened);
        opened.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => NamespaceError::NotPermitted { pid },
            _ => NamespaceError::Io { pid, source },
        })
    }

    fn open_here(inode: u32) -> io::Result<Self> {
        // Not /proc/self: that is the namespace of the process's first thread.
        let file = |path: &str| File::open(path);
        Ok(Self {
            inode,
            diag: Netlink::open(Some(SOCK_DIAG))?,
            // `NETLINK_ROUTE` is 0.
            route: Netlink::open(None)?,
            files: Files {
                snmp: file("/proc/thread-self/net/snmp")?,
                netstat: file("/proc/thread-self/net/netstat")?,
                range: file("/proc/sys/net/ipv4/ip_local_port_range")?,
                reserved: file("/proc/sys/net/ipv4/ip_local_reserved_ports")?,
            },
        })
    }

    /// Its inode, by which records name it.
    #[must_use]
    pub const fn inode(&self) -> u32 {
        self.inode
    }

    /// Looks at all that is wanted now.
    #[must_use]
    pub fn look(&mut self, wanted: Wanted) -> Snapshot {
        let look = Look { time_ns: clock::monotonic_ns(), netns: self.inode };
        let mut snapshot = Snapshot::default();
        let mut ports = Ports::new(self.files.range());
        self.tcp(look, wanted, &mut ports, &mut snapshot);
        if wanted.has_udp {
            self.udp(look, &mut snapshot);
        }
        if wanted.has_unix {
            self.unix(look, &mut snapshot);
        }
        if wanted.has_queues {
            self.queues(look, &mut snapshot);
        }
        let header = Header {
            time_ns: look.time_ns,
            kind: Kind::NetCounters as u16,
            cpu: u16::MAX,
            ..Header::default()
        };
        snapshot.counters.header = header;
        snapshot.counters.netns = look.netns;
        if self.files.counters(&mut snapshot.counters).is_err() {
            snapshot.counters.header.arg = 1;
        }
        let left_out = snapshot.counters.left_out.saturating_add(ports.left_out);
        snapshot.counters.left_out = left_out;
        snapshot.ports = ports.finish(look.time_ns, look.netns);
        snapshot.counters.took_ns = clock::monotonic_ns().saturating_sub(look.time_ns);
        snapshot
    }

    /// Listeners first: which connections are theirs is known by them.
    fn tcp(&mut self, look: Look, wanted: Wanted, ports: &mut Ports, snapshot: &mut Snapshot) {
        let common = Common { time_ns: look.time_ns, netns: look.netns, protocol: TCP };
        for family in [AF_INET, AF_INET6] {
            self.inet(common, (family, 1 << state::LISTEN), snapshot, |socket| {
                ports.listener(socket);
                true
            });
        }
        // Sockets that are neither connected nor listening are in no table of the kernel's.
        let others = !(1 << state::LISTEN);
        for family in [AF_INET, AF_INET6] {
            self.inet(common, (family, others), snapshot, |socket| {
                ports.count(socket);
                wanted.has_time_wait || socket.state != state::TIME_WAIT
            });
        }
    }

    fn udp(&mut self, look: Look, snapshot: &mut Snapshot) {
        let common = Common { time_ns: look.time_ns, netns: look.netns, protocol: UDP };
        for family in [AF_INET, AF_INET6] {
            self.inet(common, (family, u32::MAX), snapshot, |_| true);
        }
    }

    /// Dumps sockets of a family in some states, and keeps those that are to be kept.
    fn inet(
        &mut self,
        common: Common,
        (family, states): (u8, u32),
        snapshot: &mut Snapshot,
        mut is_kept: impl FnMut(&HostSocket) -> bool,
    ) {
        let request = InetRequest::new(family, common.protocol, states);
        let (what, module) = match common.protocol {
            TCP => ("TCP sockets", "tcp_diag"),
            _ => ("UDP sockets", "udp_diag"),
        };
        let (request, answer) = (request.as_bytes(), SOCK_DIAG_BY_FAMILY);
        let question =
            Question { what, module, request: SOCK_DIAG_BY_FAMILY, answer, body: request };
        let Snapshot { sockets, counters, refused, .. } = snapshot;
        let asked = self.diag.ask(question, |payload| {
            let Some(socket) = socket(payload, common).filter(&mut is_kept) else { return };
            if sockets.len() < SOCKETS_MAX {
                sockets.push(socket);
            } else {
                counters.left_out = counters.left_out.saturating_add(1);
            }
        });
        refused.extend(asked.err());
    }

    fn unix(&mut self, look: Look, snapshot: &mut Snapshot) {
        let question = Question {
            what: "Unix sockets",
            module: "unix_diag",
            request: SOCK_DIAG_BY_FAMILY,
            answer: SOCK_DIAG_BY_FAMILY,
            body: UnixRequest::ALL.as_bytes(),
        };
        let Snapshot { unix, counters, refused, .. } = snapshot;
        let asked = self.diag.ask(question, |payload| {
            let Some(socket) = unix::socket(payload, look.time_ns, look.netns) else { return };
            if unix.len() < SOCKETS_MAX {
                unix.push(socket);
            } else {
                counters.left_out = counters.left_out.saturating_add(1);
            }
        });
        refused.extend(asked.err());
    }

    fn queues(&mut self, look: Look, snapshot: &mut Snapshot) {
        let question = |request, answer, body| Question {
            what: "devices and queues",
            module: "sch_generic",
            request,
            answer,
            body,
        };
        let (link, queue) = (LinkMessage::default(), QueueMessage::default());
        let Snapshot { devices, queues, limits, refused, .. } = snapshot;
        let links = question(RTM_GETLINK, RTM_NEWLINK, link.as_bytes());
        let mut lengths = QueueLengths::new();
        let asked = self.route.ask(links, |payload| {
            devices.extend(route::device(payload, look));
            lengths.extend(route::queue_length(payload));
        });
        refused.extend(asked.err());
        let names: DeviceNames =
            devices.iter().map(|device| (device.header.arg, device.device)).collect();
        let disciplines = question(RTM_GETQDISC, RTM_NEWQDISC, queue.as_bytes());
        let each = |payload: &[u8]| {
            queues.extend(route::queue(payload, look, &names));
            limits.extend(route::limit(payload, &lengths));
        };
        refused.extend(self.route.ask(disciplines, each).err());
    }
}

impl Files {
    fn counters(&mut self, counters: &mut NetCounters) -> io::Result<()> {
        counters::parse(&again(&mut self.snmp)?, counters);
        counters::parse(&again(&mut self.netstat)?, counters);
        Ok(())
    }

    fn range(&mut self) -> PortRange {
        let range = again(&mut self.range).unwrap_or_default();
        PortRange::parse(&range, &again(&mut self.reserved).unwrap_or_default())
    }
}

/// Reads a file from its beginning.
fn again(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
