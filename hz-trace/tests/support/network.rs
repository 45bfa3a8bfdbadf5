//! Network namespaces without names: they are gone with the test, however it ends.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::JoinHandle,
    time::Duration,
};

/// A network namespace, which lives as long as its file is open.
pub(crate) struct Namespace {
    file: File,
    /// A process in it, by which it is found, as containers are. It ends when its input does.
    inhabitant: Option<Child>,
}

impl Namespace {
    fn new() -> Self {
        let make = || {
            // SAFETY: takes no memory; only this thread, which ends at once, changes its namespace.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            File::open("/proc/thread-self/ns/net").expect("a namespace has a file")
        };
        let file = std::thread::spawn(make).join().expect("root may make namespaces");
        let mut namespace = Self { file, inhabitant: None };
        let inhabitant = namespace.within(|| Command::new("cat").stdin(Stdio::piped()).spawn());
        namespace.inhabitant = Some(inhabitant.expect("cat is there"));
        namespace
    }

    pub(crate) fn inode(&self) -> u32 {
        u32::try_from(self.file.metadata().expect("it is open").ino()).expect("inodes are small")
    }

    /// Does something in a thread that is in the namespace; what it opens and starts stays there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter namespaces");
                work()
            });
            inside.join().expect("the work succeeds")
        })
    }

    /// Runs a command there, or says why not.
    pub(crate) fn run(&self, command: &str) -> Result<String, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = self.within(|| Command::new(words[0]).args(&words[1..]).output());
        let output = output.map_err(|error| format!("{command}: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// The kernel's counters of it: `RetransSegs`, `TCPTimeouts`, …
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let texts = self.within(|| {
            ["snmp", "netstat"]
                .map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")))
        });
        let mut counters = BTreeMap::new();
        for text in texts {
            let text = text.expect("the kernel counts");
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.chunks_exact(2) {
                let values = pair[1].split_whitespace().skip(1);
                for (name, value) in pair[0].split_whitespace().skip(1).zip(values) {
                    counters.insert(name.to_owned(), value.parse().unwrap_or(0));
                }
            }
        }
        counters
    }

    /// What a counter has grown by since `before`.
    pub(crate) fn grown(&self, before: &BTreeMap<String, u64>, name: &str) -> u64 {
        let at = |counters: &BTreeMap<String, u64>| counters.get(name).copied().unwrap_or(0);
        at(&self.counters()) - at(before)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(mut inhabitant) = self.inhabitant.take() {
            let _ = inhabitant.kill();
            let _ = inhabitant.wait();
        }
    }
}

/// Two namespaces with a link between them: 10.77.0.1 and 10.77.0.2.
pub(crate) struct Link {
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
}

pub(crate) const SERVER: &str = "10.77.0.2:5000";

impl Link {
    /// `None`, with the reason said, where the kernel or the tools cannot.
    pub(crate) fn new() -> Option<Self> {
        let link = Self { client: Namespace::new(), server: Namespace::new() };
        let server = format!("/proc/{}/fd/{}", std::process::id(), link.server.file.as_raw_fd());
        let made = (|| {
            link.client.run("ip link add va type veth peer name vb")?;
            link.client.run(&format!("ip link set vb netns {server}"))?;
            for (namespace, device, address) in
                [(&link.client, "va", "10.77.0.1/24"), (&link.server, "vb", "10.77.0.2/24")]
            {
                namespace.run(&format!("ip address add {address} dev {device}"))?;
                namespace.run(&format!("ip link set {device} up"))?;
                namespace.run("ip link set lo up")?;
            }
            Ok::<_, String>(())
        })();
        made.map_err(|reason| println!("skipped: {reason}")).ok().map(|()| link)
    }

    /// Lets timeouts be as short as the link is, instead of 200 ms and longer. The first of a handshake stays
    /// a second.
    pub(crate) fn shorten_timeouts(&self) -> Result<(), String> {
        for (namespace, route) in [
            (&self.client, "10.77.0.0/24 dev va src 10.77.0.1"),
            (&self.server, "10.77.0.0/24 dev vb src 10.77.0.2"),
        ] {
            namespace
                .run(&format!("ip route replace {route} proto kernel scope link rto_min 20ms"))?;
        }
        Ok(())
    }

    /// Adds a rule to the table `filter` of `namespace`; says why it cannot.
    pub(crate) fn rule(namespace: &Namespace, rule: &str) -> Option<()> {
        let legacy = namespace.run(&format!("iptables-legacy {rule}"));
        let added = legacy.or_else(|_| namespace.run(&format!("iptables {rule}")));
        added.map_err(|reason| println!("skipped: {reason}")).ok().map(drop)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        self.client.within(|| TcpStream::connect(SERVER)).expect("the server listens")
    }

    pub(crate) fn listen(&self) -> TcpListener {
        self.server.within(|| TcpListener::bind(SERVER)).expect("the address is there")
    }
}

/// Reads what comes on every connection, until told to end.
pub(crate) struct Reader {
    thread: Option<JoinHandle<()>>,
}

static STOPS: AtomicBool = AtomicBool::new(false);

impl Reader {
    pub(crate) fn start(listener: TcpListener) -> Self {
        STOPS.store(false, Ordering::Relaxed);
        listener.set_nonblocking(true).expect("a listener");
        let accept = move || {
            let mut readers = Vec::new();
            while !STOPS.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => readers.push(std::thread::spawn(move || read_all(stream))),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            readers.into_iter().for_each(|reader| reader.join().expect("it reads"));
        };
        Self { thread: Some(std::thread::spawn(accept)) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        STOPS.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read_all(mut stream: TcpStream) {
    let mut buffer = vec![0; 65_536];
    let _ = stream.set_nonblocking(false);
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

/// Chooses the congestion control of a socket.
pub(crate) fn set_congestion(stream: &TcpStream, algorithm: &str) {
    // SAFETY: the pointer and the length are those of a string that lives meanwhile.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            algorithm.as_ptr().cast(),
            u32::try_from(algorithm.len()).expect("a short name"),
        )
    };
    assert_eq!(result, 0, "{algorithm}: {}", io::Error::last_os_error());
}

/// The socket's number (`SO_COOKIE`).
pub(crate) fn cookie(stream: &TcpStream) -> u64 {
    let mut cookie = 0_u64;
    let mut length = 8;
    // SAFETY: both pointers are to variables of the sizes that the kernel expects.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    cookie
}

/// Whether an address is the server's.
pub(crate) fn is_server(address: SocketAddr) -> bool {
    address.to_string() == SERVER
}
