//! The command `hz-runtime`, as its users run it.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const COMMAND: &str = env!("CARGO_BIN_EXE_hz-runtime");

/// A running service; killed when it is dropped.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    fn start() -> Self {
        let mut command = Command::new(COMMAND);
        command.args(["serve", "--listen", "127.0.0.1:0", "--workers", "2"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().split(',').next().unwrap();
        Self { child, address: address.parse().unwrap() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// The answer to one request.
    fn get(&self, path: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_route_answers() {
    let service = Service::start();
    for (path, status, body) in [
        ("/healthz", "200", "ok\n"),
        ("/cpu?us=10", "200", "spent 10 us\n"),
        ("/block?us=10", "200", "spent 10 us\n"),
        ("/sleep?us=10", "200", "slept for 10 us\n"),
        ("/spawn?n=10", "200", "joined 10 tasks\n"),
        ("/cpu", "400", "/cpu needs us=N\n"),
        ("/cpu?us=-1", "400", "us=-1 is no number from 0 to 10000000\n"),
        ("/spawn?n=100001", "400", "n=100001 is no number from 0 to 100000\n"),
        ("/elsewhere", "404", "no such route"),
    ] {
        let answer = service.get(path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains(&format!("\r\n\r\n{body}")), "{path}: {answer}");
    }
}

#[test]
fn a_load_of_many_connections_is_answered_in_full() {
    let service = Service::start();
    let mut load = Command::new(COMMAND);
    load.arg("load").arg(service.address.to_string());
    load.args(["--connections", "100", "--duration", "1", "--json"]);
    load.args(["--mix", "echo=90,cpu:10=5,spawn:5=5"]);
    let output = load.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["requests"].as_u64().unwrap() >= 100, "{report}");
    assert_eq!((&report["refused"], &report["broken"]), (&0.into(), &0.into()), "{report}");
    assert!(report["latency"]["max_us"].as_f64() >= report["latency"]["p50_us"].as_f64());
}

#[test]
fn a_load_whose_output_nobody_reads_ends_quietly() {
    let service = Service::start();
    for json in [&[][..], &["--json"]] {
        let mut load = Command::new(COMMAND);
        load.arg("load").arg(service.address.to_string()).args(["--duration", "1"]).args(json);
        let mut child = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn a_request_that_is_being_answered_outlives_the_signal() {
    let mut service = Service::start();
    let mut slow = service.connect();
    write!(slow, "GET /sleep?us=300000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // The same connection's next answers come after it, so another one says that it is served.
    let _idle = service.connect();
    assert!(service.get("/healthz").ends_with("ok\n"));
    service.terminate();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("slept for 300000 us\n"), "{answer}");
    assert_eq!(service.exit_code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(COMMAND).args(["serve", "--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("hz-runtime: cannot listen on {address}; choose another with --listen: ");
    assert!(said.starts_with(&expected), "{said}");
}

#[test]
fn a_load_without_a_service_says_whom_it_asked() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut load = Command::new(COMMAND);
    let output =
        load.arg("load").arg(closed.to_string()).args(["--duration", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("hz-runtime: no answer from {closed}: ")), "{said}");
}
