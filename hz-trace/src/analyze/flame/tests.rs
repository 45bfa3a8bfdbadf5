//! Weights are kept, whatever the stacks stand on, and go where they belong.

use super::*;
use crate::{
    decode::Event,
    model::{Folder, Model},
    symbol::{SymbolChunk, SymbolTable},
};
use hz_probes_ebpf::{
    self as wire, Header, Kind, OFF_PREEMPTED, OFF_SYSCALL, OFF_WOKEN, STACK_PART,
    runtime::{RuntimeEvent, RuntimeFound, Stack as RuntimeStack, Text},
};
use proptest::prelude::*;

const PID: u32 = 10;

fn header(kind: Kind, time_ns: u64, tid: u32, arg: u32) -> Header {
    Header { time_ns, kind: kind as u16, cpu: 1, tid, pid: PID, arg }
}

fn stack(id: u64, addresses: &[u64], kernel_frames: u16) -> Event {
    let mut told = [0; STACK_PART];
    told[..addresses.len()].copy_from_slice(addresses);
    Event::StackTrace(wire::StackTrace {
        header: header(Kind::StackTrace, 1, 11, 0),
        id,
        kernel_frames,
        user_frames: addresses.len() as u16 - kernel_frames,
        kernel_end: u8::from(kernel_frames > 0),
        user_end: 1,
        guessed_frames: 0,
        reserved: 0,
        addresses: told,
    })
}

fn sample(time_ns: u64, tid: u32, stack: u64, period: u64) -> Event {
    let header = header(Kind::CpuSample, time_ns, tid, 0);
    Event::CpuSample(wire::CpuSample { header, stack, period, event: 0, reserved: 0 })
}

fn runtime(kind: Kind, time_ns: u64, tid: u32, arg: u32, task: u64) -> Event {
    Event::Runtime(RuntimeEvent {
        header: header(kind, time_ns, tid, arg),
        task,
        ..RuntimeEvent::default()
    })
}

fn folded(events: &[Event]) -> Model {
    let mut folder = Folder::new(0, true);
    events.iter().for_each(|event| folder.fold(event));
    folder.finish(10_000)
}

/// A file at 0x1000 with functions each 16 bytes, and one of the kernel.
fn mapped() -> (Vec<Event>, SymbolTable) {
    let mut path = [0; 192];
    path[..4].copy_from_slice(b"/app");
    let file = wire::MappedFile {
        header: header(Kind::MappedFile, 0, 0, 1),
        inode: 5,
        device_major: 0,
        device_minor: 0,
        build_id: [0; 20],
        build_id_bytes: 0,
        path_bytes: 4,
        path_from: 0,
        reserved: 0,
        path,
    };
    let mapping = wire::Mapping {
        header: header(Kind::Mapping, 0, 0, 1),
        start: 0x1000,
        end: 0x2000,
        offset: 0x400,
        ..wire::Mapping::default()
    };
    let mut table = SymbolTable::default();
    let texts =
        ["main", "app::work", "app::inner", "futex_wait", "app/src/main.rs"].map(str::to_owned);
    table.add(&SymbolChunk {
        texts: texts.to_vec(),
        // The caller's address is looked up one before the return address.
        places: vec![[1, 1, 0x40f], [1, 1, 0x420], [1, 1, 0x41f], [0, 0, 0xffff_0000]],
        functions: vec![
            vec![[1, 0, 0]],
            vec![[2, 5, 7], [3, 5, 9]],
            vec![[2, 5, 7], [3, 5, 9]],
            vec![[4, 0, 0]],
        ],
        ..SymbolChunk::default()
    });
    (vec![Event::MappedFile(file), Event::Mapping(mapping)], table)
}

fn lines(flame: &Flame) -> Vec<String> {
    folded_lines(flame)
}

#[test]
fn a_sample_stands_on_the_task_that_was_polled_then() {
    let (mut events, symbols) = mapped();
    events.extend([
        stack(7, &[0x1020, 0x1010], 0),
        runtime(Kind::TaskSpawn, 5, 11, 0, 3),
        runtime(Kind::PollBegin, 10, 11, 0, 3),
        sample(15, 11, 7, 100),
        runtime(Kind::PollEnd, 20, 11, 0, 3),
        sample(25, 11, 7, 40),
        sample(26, 12, 0, 2),
    ]);
    let model = folded(&events);
    let flame = flame(&model, &symbols, &FlameQuery::new(FlameKind::OnCpu));
    assert_eq!(
        lines(&flame),
        [
            "task\u{a0}3;main;app::work;app::inner_[i] 100",
            "thread 11 (no task);main;app::work;app::inner_[i] 40",
            "thread 12 (no task);[no stack] 2",
        ]
    );
    assert_eq!((flame.total, flame.samples, flame.missing.without_stack), (142, 3, 2));
    let only = FlameQuery { task: Some("task 3".to_owned()), ..FlameQuery::new(FlameKind::OnCpu) };
    assert_eq!(super::flame(&model, &symbols, &only).total, 100);
    let part = FlameQuery { from_ns: 16, to_ns: 26, ..FlameQuery::new(FlameKind::OnCpu) };
    assert_eq!(super::flame(&model, &symbols, &part).total, 40);
}

#[test]
fn stacks_without_names_say_where_they_were() {
    let (mut events, symbols) = mapped();
    events.extend([
        stack(7, &[0x1500, 0x1010], 0),
        stack(8, &[0x9999], 0),
        stack(9, &[0xffff_1234, 0x1010], 1),
    ]);
    events.extend([sample(15, 11, 7, 1), sample(16, 11, 8, 1), sample(17, 11, 9, 1)]);
    let flame = flame(
        &folded(&events),
        &symbols,
        &FlameQuery { group_by: GroupBy::None, ..FlameQuery::new(FlameKind::OnCpu) },
    );
    // The user's leaf is no return address, whatever the kernel has on top.
    assert_eq!(lines(&flame), ["[app];[kernel] 1", "[no file] 1", "main;[app] 1"]);
    assert_eq!(flame.missing.without_symbol, 3);
}

fn off(end_ns: u64, (off_ns, runq_ns): (u64, u64), flags: u32, syscall: i32) -> Event {
    Event::OffCpu(wire::OffCpu {
        header: header(Kind::OffCpu, end_ns, 11, flags),
        off_ns,
        runq_ns,
        stack: 7,
        waker_stack: 8,
        waker_tid: 12,
        waker_pid: PID,
        state: 1,
        syscall,
        args: [0xf00, 0, 0, 0],
        weight: 1,
        ..wire::OffCpu::default()
    })
}

#[test]
fn time_off_a_cpu_is_by_reason_and_ends_where_waiting_for_a_cpu_begins() {
    let (mut events, symbols) = mapped();
    events.extend([
        stack(7, &[0xffff_0000, 0x1010], 1),
        stack(8, &[0x1020], 0),
        off(500, (300, 100), OFF_SYSCALL | OFF_WOKEN, 202),
        off(900, (50, 50), OFF_PREEMPTED, 0),
    ]);
    let model = folded(&events);
    let of = |kind, from_ns, to_ns| {
        let query =
            FlameQuery { group_by: GroupBy::Thread, from_ns, to_ns, ..FlameQuery::new(kind) };
        lines(&flame(&model, &symbols, &query))
    };
    let root = "thread 11 (11)";
    assert_eq!(
        of(FlameKind::OffCpu, 0, u64::MAX),
        [
            format!("{root};lock;[app];futex_wait_[k] 200"),
            format!("{root};waiting for a CPU;[app];futex_wait_[k] 150"),
        ]
    );
    assert_eq!(of(FlameKind::RunQueue, 0, 450), [format!("{root};[app];futex_wait_[k] 50")]);
    assert_eq!(
        of(FlameKind::Wakeups, 0, u64::MAX),
        [format!("{root};woken by thread\u{a0}12;app::work;app::inner_[i] 200")]
    );
    let query = FlameQuery::new(FlameKind::OffCpu);
    let flame = flame(&model, &symbols, &query);
    let blocking = tops(&model, &symbols, &query, &flame).blocking;
    assert_eq!((blocking[0].blocked_ns, blocking[0].reason), (200, "lock"));
    assert_eq!(blocking[0].waker.as_deref(), Some("thread 12"));
    assert_eq!(blocking[0].waker_frames, ["app::work", "app::inner"]);
    let locks = locks(&model, &symbols, &query);
    assert_eq!(
        (locks.len(), locks[0].address, locks[0].waited_ns, locks[0].waiting_max),
        (1, 0xf00, 200, 1)
    );
    assert_eq!(locks[0].released_by, Some(("thread 12".to_owned(), 200)));
}

fn allocation(kind: Kind, time_ns: u64, address: u64, bytes: u32) -> Event {
    let header = header(kind, time_ns, 11, u32::from(kind == Kind::AllocSampled));
    Event::Runtime(RuntimeEvent { header, task: 0, value: address, aux: bytes, reserved: 0 })
}

#[test]
fn allocations_stand_for_what_was_not_sampled_and_live_until_they_are_freed() {
    let (mut events, symbols) = mapped();
    let mut addresses = [0; 30];
    addresses[..2].copy_from_slice(&[0x1020, 0x1010]);
    events.extend([
        Event::RuntimeFound(RuntimeFound {
            header: header(Kind::RuntimeFound, 0, 0, 1),
            alloc_mean_bytes: 1_000,
            ..RuntimeFound::default()
        }),
        Event::Stack(RuntimeStack {
            header: header(Kind::Stack, 1, 11, 1),
            frames: 2,
            is_cut: 0,
            addresses,
        }),
        allocation(Kind::AllocSampled, 100, 0xa, 100),
        allocation(Kind::AllocSampled, 200, 0xb, 100),
        allocation(Kind::FreeSampled, 300, 0xa, 100),
        allocation(Kind::FreeSampled, 310, 0xe, 100),
    ]);
    let model = folded(&events);
    let weight = 100.0 / (1.0 - (-0.1_f64).exp());
    let all = flame(&model, &symbols, &FlameQuery::new(FlameKind::Alloc));
    assert_eq!(
        lines(&all),
        [format!("thread\u{a0}11;main;app::work;app::inner_[i] {:.0}", 2.0 * weight)]
    );
    let live = flame(&model, &symbols, &FlameQuery::new(FlameKind::Live));
    assert_eq!(live.total as f64, weight.round());
    let before = FlameQuery { to_ns: 250, ..FlameQuery::new(FlameKind::Live) };
    assert_eq!(flame(&model, &symbols, &before).total as f64, (2.0 * weight).round());
    assert_eq!(model.stacks.frees_of_earlier, 1);
    let query = FlameQuery::new(FlameKind::Live);
    let sites = tops(&model, &symbols, &query, &live).sites;
    assert_eq!(
        (sites[0].function.as_str(), sites[0].place.as_str()),
        ("app::inner", "app/src/main.rs:9")
    );
    assert_eq!((sites[0].samples, sites[0].mean_life_ns), (2, Some(200)));
}

/// Draws as the sampler does: every byte with a chance of one in `mean`.
#[test]
fn the_estimate_of_ten_thousand_samples_is_within_five_percent_by_site() {
    let (mut events, symbols) = mapped();
    let mut addresses = [0; 30];
    addresses[..2].copy_from_slice(&[0x1020, 0x1010]);
    let mean = 1_000_u64;
    events.push(Event::RuntimeFound(RuntimeFound {
        header: header(Kind::RuntimeFound, 0, 0, 1),
        alloc_mean_bytes: mean,
        ..RuntimeFound::default()
    }));
    events.push(Event::Stack(RuntimeStack {
        header: header(Kind::Stack, 1, 11, 1),
        frames: 2,
        is_cut: 0,
        addresses,
    }));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as f64 / (1_u64 << 53) as f64
    };
    let (mut truth, mut leaked, mut samples, mut address) = (0_u64, 0_u64, 0, 1);
    while samples < 10_000 {
        let bytes = 16 + (draw() * 4_000.0) as u32;
        truth += u64::from(bytes);
        address += 1;
        let is_leak = address % 3 == 0;
        leaked += if is_leak { u64::from(bytes) } else { 0 };
        if draw() < -(-f64::from(bytes) / mean as f64).exp_m1() {
            samples += 1;
            events.push(allocation(Kind::AllocSampled, 100, address, bytes));
            if !is_leak {
                events.push(allocation(Kind::FreeSampled, 101, address, bytes));
            }
        }
    }
    let model = folded(&events);
    for (kind, truth) in [(FlameKind::Alloc, truth), (FlameKind::Live, leaked)] {
        let flame = flame(&model, &symbols, &FlameQuery::new(kind));
        let error = flame.total as f64 / truth as f64 - 1.0;
        assert!(error.abs() < 0.05, "{kind:?} {error}");
        let site = &tops(&model, &symbols, &FlameQuery::new(kind), &flame).sites[0];
        let estimate = if kind == FlameKind::Live { site.live_bytes } else { site.bytes };
        assert!((estimate as f64 / truth as f64 - 1.0).abs() < 0.05, "{kind:?} {estimate} {truth}");
    }
}

#[test]
fn a_stack_in_parts_is_put_together_in_any_order() {
    let addresses: Vec<u64> = (0..70).map(|place| 0x1001 + place).collect();
    let parts: Vec<Event> = [29, 0, 58]
        .into_iter()
        .map(|from| {
            let Event::StackTrace(mut part) = stack(7, &addresses[from..(from + 29).min(70)], 0)
            else {
                panic!()
            };
            part.header.arg = from as u32;
            part.user_frames = 70;
            Event::StackTrace(part)
        })
        .collect();
    let model = folded(&parts);
    let stack = &model.stacks.stacks[0];
    assert_eq!(*stack.addresses, *addresses);
    assert!(stack.is_whole());
    assert!(!folded(&parts[..2]).stacks.stacks[0].is_whole());
}

proptest! {
    #[test]
    fn no_weight_is_lost_however_it_is_grouped(
        samples in proptest::collection::vec((0..9_000_u64, 11..14_u32, 0..4_u64, 1..10_000_u64), 0..40),
        cut_ns in 0..10_000_u64,
    ) {
        let (mut events, symbols) = mapped();
        events.extend([stack(1, &[0x1020, 0x1010], 0), stack(2, &[0xffff_0000, 0x1010], 1)]);
        let mut samples = samples;
        samples.sort_unstable();
        events.extend(samples.iter().map(|(time, tid, stack, period)| sample(*time, *tid, *stack, *period)));
        let model = folded(&events);
        let truth: u64 = samples.iter().map(|(.., period)| period).sum();
        for group_by in [GroupBy::Task, GroupBy::Thread, GroupBy::Process, GroupBy::Cpu, GroupBy::None] {
            let query = FlameQuery { group_by, ..FlameQuery::new(FlameKind::OnCpu) };
            let whole = flame(&model, &symbols, &query);
            prop_assert_eq!(whole.total, truth);
            prop_assert_eq!(whole.stacks.values().sum::<u64>(), truth);
            let before = flame(&model, &symbols, &FlameQuery { to_ns: cut_ns, ..query.clone() });
            let after = flame(&model, &symbols, &FlameQuery { from_ns: cut_ns, ..query });
            prop_assert_eq!(before.total + after.total, truth);
        }
    }

    #[test]
    fn any_records_fold(bytes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 24..300), 0..20), kinds in proptest::collection::vec(96..104_u16, 20)) {
        let mut folder = Folder::new(0, true);
        for (mut bytes, kind) in bytes.into_iter().zip(kinds) {
            bytes[8..10].copy_from_slice(&kind.to_le_bytes());
            if let Ok(event) = crate::decode::decode(&bytes) {
                folder.fold(&event);
            }
        }
        let model = folder.finish(10);
        for kind in FlameKind::ALL {
            let query = FlameQuery::new(kind);
            let flame = flame(&model, &SymbolTable::default(), &query);
            let _ = tops(&model, &SymbolTable::default(), &query, &flame);
        }
        let _ = locks(&model, &SymbolTable::default(), &FlameQuery::new(FlameKind::OffCpu));
        let _ = model.stacks.distinct_places();
    }
}

#[test]
fn a_name_of_a_task_is_its_own() {
    let (mut events, symbols) = mapped();
    let mut text = [0; 124];
    text[..8].copy_from_slice(b"checkout");
    events.extend([
        Event::Text(Text { header: header(Kind::Text, 1, 11, 9), bytes: 8, text }),
        Event::SpawnSite(wire::runtime::SpawnSite {
            header: header(Kind::SpawnSite, 1, 11, 4),
            name: 9,
            ..Default::default()
        }),
        stack(7, &[0x1020, 0x1010], 0),
        runtime(Kind::TaskSpawn, 5, 11, 4, 3),
        runtime(Kind::PollBegin, 10, 11, 0, 3),
        sample(15, 11, 7, 100),
        runtime(Kind::PollEnd, 20, 11, 0, 3),
    ]);
    let flame = flame(&folded(&events), &symbols, &FlameQuery::new(FlameKind::OnCpu));
    assert_eq!(lines(&flame), ["checkout;main;app::work;app::inner_[i] 100"]);
}
