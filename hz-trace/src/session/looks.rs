//! A recording without BPF: what the kernel says of sockets when it is asked, where programs are not
//! permitted.

use super::{
    Collect as _, Observer, Outcome, Progress, RecordError, SECOND, Settings, TICK,
    collector::{Collector, STREAM_SOCKETS},
    disk::Disk,
    own::OwnMeter,
    sockets::SocketsCollect,
    target::{Attached, Watch},
};
use crate::{
    host::{self, clock},
    recording::{Meta, State, schema},
    source::{Scope, processes_of},
};
use hz_probes_ebpf::{COMM_BYTES, Header, Kind, Thread};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    time::{Duration, Instant},
};
use zerocopy::IntoBytes as _;

/// What only events show.
const NOT_COLLECTED: [&str; 5] = [
    "why and when something was sent again, and by whom: only its count, without BPF",
    "connects, accepts, ends and resets of connections, and requests on them: without BPF",
    "closed windows and packets dropped, with the kernel's reasons: without BPF",
    "threads and tasks that own sockets: processes only, without BPF",
    "what lives for less than the time between two looks: without BPF",
];

/// Looks at the sockets of a target until the duration is over, the target has ended or the observer says
/// so, and writes what it sees into `out`. Needs no permission but to see the target.
///
/// # Errors
///
/// [`RecordError`].
pub fn record_looks<W: Write + Send + 'static>(
    settings: &Settings,
    out: W,
    observer: &mut dyn Observer,
) -> Result<Outcome, RecordError> {
    let mut own = OwnMeter::start();
    let attached = settings.target.resolve(settings.follow_children)?;
    let start_ns = clock::monotonic_ns();
    let mut looks = Looks::of(settings, &attached, start_ns);
    let disk = Disk::start(out, &looks.meta).map_err(RecordError::Write)?;
    own.mark_started();
    observer.recording(&looks.meta);
    looks.begin()?;
    let mut watch = Watch::new(attached.held, attached.watched);
    watch.release()?;
    let because = looks.run(settings, &disk, &mut watch, observer)?;
    looks.end();
    looks.hand_over(&disk, true);
    let state = State { own: own.read(), ..looks.state(true, &because) };
    let file_bytes = disk.finish(state.clone()).map_err(RecordError::Write)?;
    let command_status = watch.command_status();
    Ok(Outcome { meta: looks.meta, state, command_status, file_bytes })
}

struct Looks {
    sockets: SocketsCollect,
    collector: Collector,
    scope: Scope,
    named: BTreeSet<u32>,
    meta: Meta,
}

impl Looks {
    fn of(settings: &Settings, attached: &Attached, start_ns: u64) -> Self {
        let sockets = SocketsCollect::new(&attached.scope, settings.sockets_every);
        let meta = Meta {
            hz_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host::name(),
            kernel: host::kernel_release(),
            cpus: u32::try_from(host::online_cpus()).unwrap_or(u32::MAX),
            start_ns,
            start_realtime_ns: clock::realtime_ns(),
            target: attached.target.clone(),
            probes: vec![sockets.name()],
            not_collected: NOT_COLLECTED.map(str::to_owned).to_vec(),
            schema: schema(),
            ..Meta::default()
        };
        Self {
            sockets,
            collector: Collector::default(),
            scope: attached.scope.clone(),
            named: BTreeSet::new(),
            meta,
        }
    }

    fn begin(&mut self) -> Result<(), RecordError> {
        self.name_processes();
        Ok(self.sockets.begin(&mut self.collector)?)
    }

    fn run(
        &mut self,
        settings: &Settings,
        disk: &Disk,
        watch: &mut Watch,
        observer: &mut dyn Observer,
    ) -> Result<String, RecordError> {
        let began = Instant::now();
        let mut last = began;
        loop {
            std::thread::sleep(TICK);
            self.sockets.drain(&mut self.collector);
            self.hand_over(disk, false);
            if last.elapsed() >= SECOND {
                last = Instant::now();
                self.each_second(began.elapsed(), disk, observer);
            }
            if observer.wants_stop() {
                return Ok("interrupted".to_owned());
            }
            if settings.duration.is_some_and(|duration| began.elapsed() >= duration) {
                return Ok("duration over".to_owned());
            }
            if let Some(because) = watch.ended() {
                return Ok(because);
            }
        }
    }

    fn each_second(&mut self, elapsed: Duration, disk: &Disk, observer: &mut dyn Observer) {
        self.name_processes();
        let state = self.state(false, "");
        let (records, lost) = (state.received, state.lost());
        observer.progress(&Progress { elapsed, records, lost });
        disk.write_state(state);
    }

    fn end(&mut self) {
        self.name_processes();
        self.sockets.end(&mut self.collector);
    }

    /// Says what the target's processes are called that have not been named yet.
    fn name_processes(&mut self) {
        for pid in processes_of(&self.scope) {
            if self.named.contains(&pid) {
                continue;
            }
            let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
            self.named.insert(pid);
            let time_ns = clock::monotonic_ns();
            let header =
                Header { time_ns, kind: Kind::Thread as u16, tid: pid, pid, ..Header::default() };
            let mut record = Thread { header, ..Thread::default() };
            let name = name.trim_end().as_bytes();
            let length = name.len().min(COMM_BYTES - 1);
            record.comm[..length].copy_from_slice(&name[..length]);
            self.collector.push(STREAM_SOCKETS, record.as_bytes());
        }
    }

    fn hand_over(&mut self, disk: &Disk, is_last: bool) {
        std::iter::from_fn(|| disk.spare()).for_each(|spare| self.collector.keep(spare));
        for batch in self.collector.take_ready(is_last) {
            if is_last {
                disk.write_waiting(batch);
            } else if let Some(refused) = disk.write(batch) {
                self.collector.note_dropped(&refused);
            }
        }
    }

    fn state(&self, is_final: bool, because: &str) -> State {
        let missing = self.sockets.not_collected();
        State {
            time_ns: clock::monotonic_ns(),
            is_final,
            ended_because: because.to_owned(),
            received: self.collector.received(),
            dropped_by_writer: self.collector.dropped(),
            not_collected: self.meta.not_collected.iter().cloned().chain(missing).collect(),
            ..State::default()
        }
    }
}
