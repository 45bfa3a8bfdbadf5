//! What the kernel's files and the usual tools say, read again and again on a thread of its own.

use hz_trace::host::clock::monotonic_ns;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Between two readings of files.
const PAUSE: Duration = Duration::from_millis(20);

/// `tc` is asked at each so many-th of them.
const TC_EACH: u32 = 3;

/// Sums, or what there is, by name: time in nanoseconds of `CLOCK_MONOTONIC`, and figure.
type Series = BTreeMap<String, Vec<(u64, f64)>>;

/// What the peers said.
pub(crate) struct Peers(Series);

/// Peers that are being asked.
pub(crate) struct Following {
    /// The last moment that is of interest.
    end_ns: Arc<AtomicU64>,
    files: JoinHandle<Series>,
    pidstat: JoinHandle<Series>,
}

impl Peers {
    /// Asks from now on, of this process and its threads.
    pub(crate) fn follow(pid: u32) -> Following {
        let end_ns = Arc::new(AtomicU64::new(u64::MAX));
        let has_begun = Arc::new(AtomicBool::new(false));
        let (end, begun) = (Arc::clone(&end_ns), Arc::clone(&has_begun));
        let pidstat = thread::spawn(move || ask_pidstat(pid, &end, &begun));
        let end = Arc::clone(&end_ns);
        let files = thread::spawn(move || read_files(pid, &end));
        while !has_begun.load(Ordering::Relaxed) {
            assert!(
                !pidstat.is_finished(),
                "pidstat says nothing; scripts/setup --test installs it"
            );
            thread::sleep(Duration::from_millis(10));
        }
        Following { end_ns, files, pidstat }
    }

    /// What a sum grew by between two moments.
    pub(crate) fn grew(&self, name: &str, from_ns: u64, to_ns: u64) -> f64 {
        let points = self.points(name);
        at(points, to_ns) - at(points, from_ns)
    }

    /// The least and the largest of what was there between two moments.
    pub(crate) fn range(&self, name: &str, from_ns: u64, to_ns: u64) -> (f64, f64) {
        let points = self.points(name).iter();
        let inside = points.filter(|(time_ns, _)| (from_ns..=to_ns).contains(time_ns));
        let edges = (f64::INFINITY, f64::NEG_INFINITY);
        inside.fold(edges, |(least, largest), point| (least.min(point.1), largest.max(point.1)))
    }

    fn points(&self, name: &str) -> &[(u64, f64)] {
        let points = self.0.get(name).map_or(&[][..], Vec::as_slice);
        assert!(points.len() > 2, "{name} was read {} times", points.len());
        points
    }
}

impl Following {
    /// Asks until the moment is over.
    pub(crate) fn until(self, end_ns: u64) -> Peers {
        self.end_ns.store(end_ns, Ordering::Relaxed);
        let mut series = self.files.join().unwrap();
        series.extend(self.pidstat.join().unwrap());
        Peers(series)
    }
}

/// A sum at a moment between two readings.
fn at(points: &[(u64, f64)], time_ns: u64) -> f64 {
    let later = points.iter().position(|point| point.0 >= time_ns).expect("read until then");
    let (after, before) = (points[later], points[later.checked_sub(1).expect("read before then")]);
    let share = (time_ns - before.0) as f64 / (after.0 - before.0) as f64;
    before.1 + share * (after.1 - before.1)
}

fn add(series: &mut Series, name: String, time_ns: u64, figure: f64) {
    series.entry(name).or_default().push((time_ns, figure));
}

fn read_files(pid: u32, end_ns: &AtomicU64) -> Series {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
    let threads: Vec<(String, String)> = tasks
        .map(|task| {
            let directory = task.path().display().to_string();
            let name = fs::read_to_string(format!("{directory}/comm")).unwrap();
            (name.trim().to_owned(), directory)
        })
        .collect();
    let mut series = Series::new();
    for round in 0_u32.. {
        let is_last = monotonic_ns() > end_ns.load(Ordering::Relaxed);
        read_stat(&mut series);
        threads.iter().for_each(|(name, directory)| read_thread(&mut series, name, directory));
        let (time_ns, text) = read(&format!("/proc/{pid}/net/snmp"));
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Tcp:")).collect();
        let place = lines[0].split(' ').position(|name| name == "OutSegs").unwrap();
        let sent = lines[1].split(' ').nth(place).unwrap().parse().unwrap();
        add(&mut series, "TCP segments sent".to_owned(), time_ns, sent);
        if is_last || round.is_multiple_of(TC_EACH) {
            ask_tc(pid, &mut series);
        }
        if is_last {
            break;
        }
        thread::sleep(PAUSE);
    }
    series
}

/// A file, and the moment at which it was read.
fn read(path: &str) -> (u64, String) {
    let before = monotonic_ns();
    let text = fs::read_to_string(path).unwrap();
    (before.midpoint(monotonic_ns()), text)
}

/// Hundredths of a second since the beginning, and switches.
fn read_stat(series: &mut Series) {
    let (time_ns, text) = read("/proc/stat");
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| words[place].parse::<f64>().unwrap();
        if words[0] == "ctxt" {
            add(series, "switches".to_owned(), time_ns, number(1));
        } else if words[0].starts_with("cpu") && words[0] != "cpu" {
            // Waiting for a disk is idle, too.
            let idle_ns = (number(4) + number(5)) * 1e7;
            add(series, format!("{} idle", words[0]), time_ns, idle_ns);
            // In user mode, nice or not, in the kernel, or they would have if the hypervisor had let them.
            let threads_ns = [1, 2, 3, 8].map(number).iter().sum::<f64>() * 1e7;
            add(series, format!("{} threads", words[0]), time_ns, threads_ns);
        }
    }
}

fn read_thread(series: &mut Series, name: &str, directory: &str) {
    let (time_ns, text) = read(&format!("{directory}/schedstat"));
    let sums: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    add(series, format!("{name} ms on a CPU"), time_ns, sums[0] / 1e6);
    add(series, format!("{name} ms waited for a CPU"), time_ns, sums[1] / 1e6);
    add(series, format!("{name} ms runnable"), time_ns, (sums[0] + sums[1]) / 1e6);
    let (time_ns, text) = read(&format!("{directory}/status"));
    for (kind, key) in
        [("voluntary", "voluntary_ctxt_switches:"), ("involuntary", "nonvoluntary_ctxt_switches:")]
    {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let count = line.trim().parse().unwrap();
        add(series, format!("{name} {kind} switches"), time_ns, count);
    }
}

/// A tool's output in the network namespace of a process.
fn inside(pid: u32, command: &[&str]) -> String {
    let pid = pid.to_string();
    let mut tool = Command::new("nsenter");
    let output = tool.args(["--net", "--target", &pid, "--"]).args(command).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ask_tc(pid: u32, series: &mut Series) {
    let before = monotonic_ns();
    let device = super::load::INTERFACE;
    let said = inside(pid, &["tc", "-s", "-j", "qdisc", "show", "dev", device]);
    let time_ns = before.midpoint(monotonic_ns());
    let queues: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    let queue = queues.iter().find(|queue| queue["kind"] == "tbf").unwrap();
    for (name, key) in [
        ("packets that the queue dropped", "drops"),
        ("packets that the queue sent", "packets"),
        ("packets in the queue", "qlen"),
        ("bytes in the queue", "backlog"),
    ] {
        add(series, name.to_owned(), time_ns, queue[key].as_f64().unwrap());
    }
}

/// A tool that is ended with the test.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It says what was a second's, so its sums are made here.
fn ask_pidstat(pid: u32, end_ns: &AtomicU64, has_begun: &AtomicBool) -> Series {
    let child = Command::new("stdbuf")
        .args(["-oL", "pidstat", "-H", "-h", "-t", "-u", "-w", "-p", &pid.to_string(), "1", "60"])
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .spawn();
    let mut tool = Tool(child.unwrap());
    let lines = BufReader::new(tool.0.stdout.take().unwrap()).lines();
    let (mut series, mut names, mut now_ns) = (Series::new(), Vec::new(), 0);
    for line in lines.map(Result::unwrap) {
        if line.starts_with('#') {
            if now_ns > end_ns.load(Ordering::Relaxed) {
                break;
            }
            names = line.split_whitespace().skip(1).map(str::to_owned).collect();
            // What it says then has just been read.
            now_ns = monotonic_ns();
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if names.is_empty() || words.is_empty() {
            continue;
        }
        let column = |name: &str| words[names.iter().position(|each| each == name).unwrap()];
        let Some(thread) = column("Command").strip_prefix("|__") else { continue };
        for (figure, name, part) in [
            ("ms on a CPU by pidstat", "%CPU", 10.0),
            ("ms waited for a CPU by pidstat", "%wait", 10.0),
            ("voluntary switches by pidstat", "cswch/s", 1.0),
        ] {
            let points = series.entry(format!("{thread} {figure}")).or_default();
            let (before_ns, sum) = points.last().copied().unwrap_or((now_ns, 0.0));
            let rate: f64 = column(name).parse().unwrap();
            points.push((now_ns, sum + rate * part * (now_ns - before_ns) as f64 / 1e9));
        }
        has_begun.store(true, Ordering::Relaxed);
    }
    series
}

/// A socket as `ss` has it.
pub(crate) struct Connection {
    pub(crate) state: String,
    pub(crate) receive_queue: u64,
    pub(crate) send_queue: u64,
    pub(crate) local: SocketAddr,
    /// 0: none.
    pub(crate) peer_port: u16,
    pub(crate) pid: Option<u32>,
}

/// All TCP sockets in the network namespace of a process.
pub(crate) fn connections(pid: u32) -> Vec<Connection> {
    let said = inside(pid, &["ss", "-H", "-t", "-a", "-n", "-p"]);
    let lines = said.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let owner = words.get(5).and_then(|users| users.split("pid=").nth(1)?.split(',').next());
        Connection {
            state: words[0].to_owned(),
            receive_queue: words[1].parse().unwrap(),
            send_queue: words[2].parse().unwrap(),
            local: words[3].parse().unwrap(),
            peer_port: words[4].rsplit(':').next().unwrap().parse().unwrap_or(0),
            pid: owner.map(|pid| pid.parse().unwrap()),
        }
    });
    lines.collect()
}
