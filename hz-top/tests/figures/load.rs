//! A load of known shape: this binary, started again in a network namespace of its own.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The interface whose queue is slow.
pub(crate) const INTERFACE: &str = "hz0";

/// Connections through which nothing goes.
pub(crate) const CLIENTS: usize = 40;

/// Connections that nobody accepts.
pub(crate) const UNACCEPTED: usize = 5;

/// Connections that the load has closed.
pub(crate) const CLOSED: usize = 25;

/// The port of the one connection that is busy.
pub(crate) const PINGED: u16 = 7_004;

const ASKED: &str = "HZ_TEST_LOAD";

const SETUP: &str = "ip link set lo up
ip link add hz0 type veth peer name hz1
ip address add 10.77.0.1/24 dev hz0
ip link set hz0 up
ip link set hz1 up
ip neigh add 10.77.0.2 lladdr 02:00:00:00:00:77 dev hz0
tc qdisc add dev hz0 root tbf rate 400kbit burst 2000 limit 20000";

/// A running load.
pub(crate) struct Load(Child);

impl Load {
    /// Starts it and waits until it is in full swing.
    pub(crate) fn start() -> Self {
        let child = Command::new("unshare")
            .arg("--net")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "load", "--ignored", "--nocapture"])
            .env(ASKED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut load = Self(child);
        let lines = BufReader::new(load.0.stdout.as_mut().unwrap()).lines();
        let mut said = lines.map(Result::unwrap).filter(|line| line.ends_with("in full swing"));
        assert!(said.next().is_some(), "the load does not start");
        load
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a started copy: loads the machine until the one that started it is gone.
pub(crate) fn run_if_asked() {
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    for line in SETUP.lines() {
        let mut words = line.split(' ');
        let status = Command::new(words.next().unwrap()).args(words).status();
        assert!(status.unwrap().success(), "{line}");
    }
    let kept = (still_connections(), full_connection(), unaccepted_connections());
    close_connections();
    start_threads();
    thread::sleep(Duration::from_millis(300));
    println!("\nin full swing");
    // Ends with the test, also if that is killed.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(kept);
}

fn connect(server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    (client, server.accept().unwrap().0)
}

fn still_connections() -> (TcpListener, Vec<(TcpStream, TcpStream)>) {
    let server = TcpListener::bind("127.0.0.1:7001").unwrap();
    let connections = (0..CLIENTS).map(|_| connect(&server)).collect();
    (server, connections)
}

/// Its reader reads nothing.
fn full_connection() -> (TcpStream, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut writer, reader) = connect(&server);
    writer.set_nonblocking(true).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        match writer.write(&[7; 65_536]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
            }
            sent => assert!(sent.unwrap() > 0),
        }
    }
    (writer, reader)
}

fn unaccepted_connections() -> (TcpListener, Vec<TcpStream>) {
    let server = TcpListener::bind("127.0.0.1:7002").unwrap();
    let address = server.local_addr().unwrap();
    let clients = (0..UNACCEPTED).map(|_| TcpStream::connect(address).unwrap()).collect();
    (server, clients)
}

fn close_connections() {
    let server = TcpListener::bind("127.0.0.1:7003").unwrap();
    for _ in 0..CLOSED {
        let (client, accepted) = connect(&server);
        // Who closes first keeps TIME_WAIT.
        drop(client);
        drop(accepted);
    }
}

fn start_threads() {
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.to_owned()).spawn(work).unwrap();
    };
    start("burner", Box::new(burn));
    let server = TcpListener::bind(("127.0.0.1", PINGED)).unwrap();
    let (mut client, mut accepted) = connect(&server);
    start(
        "ping",
        Box::new(move || {
            loop {
                client.write_all(&[1]).unwrap();
                client.read_exact(&mut [0]).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        }),
    );
    start(
        "pong",
        Box::new(move || {
            loop {
                accepted.read_exact(&mut [0]).unwrap();
                accepted.write_all(&[2]).unwrap();
            }
        }),
    );
    start("flood", Box::new(flood));
}

/// Six of ten milliseconds, if nobody else wants the CPU.
fn burn() {
    loop {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(6) {
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_millis(4));
    }
}

/// Twenty times what the queue lets through.
fn flood() {
    let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    loop {
        let _ = socket.send_to(&[7; 1_000], "10.77.0.2:9");
        thread::sleep(Duration::from_millis(1));
    }
}
