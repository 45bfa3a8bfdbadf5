//! The unwinder in the kernel beside framehop, on the same samples: perf writes each sample too, with its
//! registers and the top of its stack.

use super::*;
use crate::decode::{Event, decode};
use elf_file::Elf;
use framehop::{
    ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _,
    x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64},
};
use hz_probes_ebpf::{CpuSample, StackEnd, StackTrace};
use mappings::Area;
use perf_event::{Builder, Clock};
use perf_ring::{Ring, number};
use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

const SAMPLE_HZ: u32 = 1999;
/// Samples that are enough to say something of one in a thousand.
const SAMPLES: usize = 2000;
/// Of the stack, in each sample. The program's own stacks are deeper now and then.
const STACK_BYTES: u32 = 16 << 10;
const RING_PAGES: usize = 2048;

/// Of `include/uapi/linux/perf_event.h` and `arch/x86/include/uapi/asm/perf_regs.h`.
const SAMPLE: u32 = 9;
const SAMPLE_TYPE: u64 = 1 << 1 | 1 << 2 | 1 << 12 | 1 << 13;
const BP_SP_IP: u64 = 1 << 6 | 1 << 7 | 1 << 8;

fn copies(builder: &mut Builder<'_>) {
    builder.clockid(Clock::MONOTONIC);
    builder.sample_regs_user(BP_SP_IP).sample_stack_user(STACK_BYTES);
    builder.attrs_mut().sample_type = SAMPLE_TYPE;
}

/// What perf wrote of a sample.
#[derive(Debug)]
struct Copy {
    tid: u32,
    time_ns: u64,
    bp: u64,
    sp: u64,
    ip: u64,
    stack: Vec<u8>,
}

/// Reads samples with a user stack.
fn parse(mut bytes: &[u8], copies: &mut Vec<Copy>) {
    while let Some(size) = number(bytes, 6, 2) {
        let (record, rest) = bytes.split_at(usize::try_from(size).unwrap());
        bytes = rest;
        let long = |at| number(record, at, 8).unwrap();
        if number(record, 0, 4) != Some(u64::from(SAMPLE)) || long(24) == 0 {
            continue;
        }
        // Header, pid and tid, time, ABI, registers, bytes of the stack, the stack, how much of it is true.
        let length = usize::try_from(long(56)).unwrap();
        let used = if length == 0 { 0 } else { long(64 + length) };
        copies.push(Copy {
            tid: number(record, 12, 4).unwrap().try_into().unwrap(),
            time_ns: long(16),
            bp: long(32),
            sp: long(40),
            ip: long(48),
            stack: record[64..64 + usize::try_from(used).unwrap()].to_vec(),
        });
    }
}

/// What was recorded of one process.
#[derive(Default)]
struct Taken {
    samples: Vec<CpuSample>,
    stacks: HashMap<u64, BTreeMap<u32, StackTrace>>,
    copies: Vec<Copy>,
    areas: Vec<Area>,
}

fn take(pid: u32) -> Taken {
    let settings = StackSettings {
        scope: Scope::All,
        follow_children: false,
        has_oncpu: true,
        has_offcpu: false,
        sample_hz: SAMPLE_HZ,
        sample_by: SampleBy::Clock,
        off_min: Duration::ZERO,
        off_one_in: 1,
        has_rows: true,
        heap_mean_bytes: None,
        program: None,
        ring_bytes: 8 << 20,
    };
    let mut stacks = Stacks::load_with(settings, None, true).unwrap();
    stacks.sampling.adapt = copies;
    let areas: Vec<Area> = stacks.mappings.areas(pid).values().cloned().collect();
    let tables = stacks.tables.as_ref().unwrap();
    tables.update(pid, areas.clone());
    tables.settle(PATIENCE);
    stacks.attach().unwrap();
    let counters = std::mem::take(&mut stacks.sampling.counters);
    let rings = counters.iter().map(|counter| Ring::map(counter, RING_PAGES));
    let mut rings: Vec<Ring> = rings.collect::<Result<_, _>>().unwrap();
    let mut taken = Taken { areas, ..Taken::default() };
    let start = Instant::now();
    while taken.samples.len() < SAMPLES && start.elapsed() < Duration::from_secs(25) {
        std::thread::sleep(Duration::from_millis(10));
        rings.iter_mut().for_each(|ring| parse(&ring.take(), &mut taken.copies));
        stacks.drain(&mut |record| match decode(record) {
            Ok(Event::CpuSample(sample)) if sample.header.pid == pid => taken.samples.push(sample),
            Ok(Event::StackTrace(part)) if part.header.pid == pid => {
                taken.stacks.entry(part.id).or_default().insert(part.header.arg, part);
            }
            _ => {}
        });
    }
    taken
}

/// framehop, with the files of a process.
fn unwinder(pid: u32, areas: &[Area]) -> UnwinderX86_64<Vec<u8>> {
    let mut unwinder = UnwinderX86_64::new();
    for area in areas {
        let elf = if &*area.path == b"[vdso]" {
            Elf::read(&tables::own_vdso()[..])
        } else {
            mappings::open(pid, area).and_then(|file| Elf::read(&file))
        };
        let Some(elf) = elf else { continue };
        let (Some(address), Some(frames)) = (elf.address_of(area.offset), elf.eh_frame) else {
            continue;
        };
        let end = frames.address + frames.bytes.len() as u64;
        let sections = ExplicitModuleSectionInfo {
            eh_frame_svma: Some(frames.address..end),
            eh_frame: Some(frames.bytes),
            ..Default::default()
        };
        let name = String::from_utf8_lossy(&area.path).into_owned();
        let bias = area.start.wrapping_sub(address);
        unwinder.add_module(Module::new(name, area.start..area.end, bias, sections));
    }
    unwinder
}

/// What came out.
#[derive(Debug, Default)]
struct Compared {
    same: usize,
    /// Of all: those that go to the outermost function without a guess.
    complete: usize,
    /// Deeper than what perf copied of them.
    deep: usize,
    different: Vec<String>,
}

fn compare(pid: u32, taken: &Taken) -> Compared {
    let unwinder = unwinder(pid, &taken.areas);
    let mut cache = CacheX86_64::<_>::new();
    let mut by_thread: HashMap<u32, BTreeMap<u64, &Copy>> = HashMap::new();
    for copy in &taken.copies {
        by_thread.entry(copy.tid).or_default().insert(copy.time_ns, copy);
    }
    let mut compared = Compared::default();
    for sample in &taken.samples {
        // Both clocks are read within the same interrupt.
        let at = sample.header.time_ns;
        let near = u64::from(1_000_000_000 / SAMPLE_HZ / 4);
        let of_thread = by_thread.get(&sample.header.tid);
        let copies = of_thread.into_iter().flat_map(|copies| copies.range(at - near..at + near));
        let copy = copies.min_by_key(|(time_ns, _)| time_ns.abs_diff(at));
        let (Some((_, copy)), Some(parts)) = (copy, taken.stacks.get(&sample.stack)) else {
            continue;
        };
        let first = parts.values().next().unwrap();
        let kernel = usize::from(first.kernel_frames);
        let ours = parts.values().flat_map(|part| part.addresses);
        let ours: Vec<u64> = ours.skip(kernel).take(usize::from(first.user_frames)).collect();
        if ours.len() < usize::from(first.user_frames) {
            continue;
        }
        let end = StackEnd::from_wire(first.user_end).unwrap();
        if end == StackEnd::Outermost && first.guessed_frames == 0 {
            compared.complete += 1;
        }
        let mut is_deep = false;
        let mut read = |address: u64| {
            let at =
                address.checked_sub(copy.sp).and_then(|at| usize::try_from(at).ok()).ok_or(())?;
            is_deep |= at + 8 > copy.stack.len();
            number(&copy.stack, at, 8).ok_or(())
        };
        let registers = UnwindRegsX86_64::new(copy.ip, copy.sp, copy.bp);
        let mut frames = unwinder.iter_frames(copy.ip, registers, &mut cache, &mut read);
        let mut theirs = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            theirs.push(FrameAddress::address(frame));
        }
        if ours == theirs {
            compared.same += 1;
        } else if is_deep {
            compared.deep += 1;
        } else {
            let end = end.tag();
            let text =
                format!("{end}, {} guessed\n  {ours:x?}\n  {theirs:x?}", first.guessed_frames);
            compared.different.push(text);
        }
    }
    compared
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program that says when it has begun.
fn start(program: &Path, arguments: &[&str]) -> Running {
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    Running(child)
}

fn assert_the_same(running: &Running) {
    let pid = running.0.id();
    let taken = take(pid);
    let compared = compare(pid, &taken);
    let all = compared.same + compared.different.len() + compared.deep;
    println!(
        "{} of {all} the same, {} deeper than what was copied, {} complete; {} samples, {} copies",
        compared.same,
        compared.deep,
        compared.complete,
        taken.samples.len(),
        taken.copies.len()
    );
    for different in compared.different.iter().take(5) {
        println!("{different}");
    }
    assert!(all * 10 > SAMPLES * 9, "{all} of {} samples could be compared", taken.samples.len());
    assert!(compared.deep * 50 <= all, "{} were too deep", compared.deep);
    let different = compared.different.len();
    assert!(different * 1000 <= all - compared.deep, "{different} of {all} differ");
    assert!(compared.complete * 100 >= all * 99, "{} of {all} are complete", compared.complete);
}

/// Compiles one of the fixtures' workloads, as releases are.
fn compile(source: &str, name: &str, command: &mut Command) -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, source).unwrap();
    let program = directory.path().join("program");
    match command.arg("-o").arg(&program).arg(&path).status() {
        Ok(status) => assert!(status.success(), "{command:?}"),
        Err(error) => {
            println!("skipped: {} cannot be run: {error}", command.get_program().display());
            return None;
        }
    }
    Some(directory)
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_in_cpp_has_the_same_stacks_and_they_are_complete() {
    let source = include_str!("../../../../fixtures/workloads/stacks.cpp");
    let mut compiler = Command::new("g++");
    compiler.args(["-O2", "-fomit-frame-pointer", "-pthread"]);
    if let Some(directory) = compile(source, "stacks.cpp", &mut compiler) {
        assert_the_same(&start(&directory.path().join("program"), &["30"]));
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_program_in_rust_has_the_same_stacks_and_they_are_complete() {
    let source = include_str!("../../../../fixtures/workloads/stacks.rs");
    let mut compiler = Command::new("rustc");
    compiler.args(["-O", "--edition", "2024"]);
    if let Some(directory) = compile(source, "stacks.rs", &mut compiler) {
        assert_the_same(&start(&directory.path().join("program"), &["30"]));
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn python_has_the_same_stacks_and_they_are_complete() {
    let script = "import time,json,zlib,re,decimal\nprint('ready',flush=True)\nend=time.time()+30\nwhile time.time()<end:\n d=json.dumps([{'a':i,'b':str(i)} for i in range(300)],indent=1)\n zlib.compress(d.encode())\n re.findall(r'(\\w+):? ?(\\d+)?',d)\n decimal.Decimal(7).sqrt()\n sorted(json.loads(d),key=lambda x:x['b'])";
    assert_the_same(&start(Path::new("python3"), &["-c", script]));
}
