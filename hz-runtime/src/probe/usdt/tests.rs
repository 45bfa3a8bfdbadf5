use super::*;
use object::{Object as _, ObjectSection as _, ObjectSegment as _};
use std::{collections::BTreeMap, fs};

/// Notes of this program: `provider:name` to the semaphore's address and the arguments.
fn notes() -> BTreeMap<String, (u64, String)> {
    let bytes = fs::read("/proc/self/exe").unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let section = file.section_by_name(".note.stapsdt").unwrap().data().unwrap();
    let mut notes = BTreeMap::new();
    let mut rest = section;
    while rest.len() >= 12 {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (name_bytes, bytes) = (word(0).next_multiple_of(4), word(4));
        let note = &rest[12 + name_bytes..][..bytes];
        let semaphore = u64::from_le_bytes(note[16..24].try_into().unwrap());
        let mut texts = note[24..].split(|byte| *byte == 0);
        let mut text = || String::from_utf8(texts.next().unwrap().to_vec()).unwrap();
        let name = format!("{}:{}", text(), text());
        assert_eq!(notes.insert(name.clone(), (semaphore, text())), None, "{name} twice");
        rest = &rest[12 + name_bytes + bytes.next_multiple_of(4)..];
    }
    notes
}

fn runtime_kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| kind.is_runtime_event())
}

#[test]
fn every_event_has_one_note_with_its_name_and_a_semaphore_of_its_own() {
    let notes = notes();
    let mut semaphores: Vec<_> = runtime_kinds()
        .map(|kind| {
            let name = format!("hz_runtime:{}", kind.tag());
            let (semaphore, arguments) = notes.get(&name).unwrap_or_else(|| panic!("{name}"));
            let count = arguments.split(' ').count();
            let expected = match kind {
                Kind::TaskSpawn => 6,
                Kind::RequestBegin | Kind::SpanBegin | Kind::SpanEnd | Kind::Mark => 5,
                _ => 4,
            };
            assert_eq!(count, expected, "{name}: {arguments}");
            *semaphore
        })
        .collect();
    semaphores.extend(["alloc", "free"].map(|name| notes[&format!("otel_memory:{name}")].0));
    semaphores.sort_unstable();
    semaphores.dedup();
    assert_eq!(semaphores.len(), KINDS + 2);
    assert_eq!(notes["otel_memory:alloc"].1.split(' ').count(), 3);
}

#[test]
fn no_file_page_with_a_semaphore_is_mapped_twice() {
    let bytes = fs::read("/proc/self/exe").unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let section = file.section_by_name(".probes").unwrap();
    let (start, length) = section.file_range().unwrap();
    assert_eq!(section.address() % 4096, 0);
    let page = start & !4095..(start + length).next_multiple_of(4096);
    let mappings = file.segments().filter(|segment| {
        let (offset, bytes) = segment.file_range();
        offset & !4095 < page.end && (offset + bytes).next_multiple_of(4096) > page.start
    });
    assert_eq!(mappings.count(), 1, "{page:x?}");
}

#[test]
fn a_gate_tells_its_two_listeners_apart() {
    let (task, ring) = (Kind::TaskWake, Kind::Steal);
    assert!(!Gate::of(task).is_open() && !Gate::of(ring).is_open());
    set_ring_kinds(ring.runtime_bit());
    // What the kernel does when a tracer comes.
    GATES.0[place(task)].fetch_add(1, Ordering::Relaxed);
    assert!(Gate::of(task).wants_usdt() && !Gate::of(task).wants_ring());
    assert!(Gate::of(ring).wants_ring() && !Gate::of(ring).wants_usdt());
    set_ring_kinds(ring.runtime_bit() | task.runtime_bit());
    assert!(Gate::of(task).wants_usdt() && Gate::of(task).wants_ring());
    set_ring_kinds(0);
    assert!(Gate::of(task).wants_usdt() && !Gate::of(ring).is_open());
    GATES.0[place(task)].fetch_sub(1, Ordering::Relaxed);
    assert!(!Gate::of(task).is_open() && !Gate::of(Kind::Switch).is_open());
}

#[test]
fn a_text_always_ends_in_nul() {
    assert_eq!(&terminated("ab")[..3], b"ab\0");
    assert_eq!(terminated(&"x".repeat(500)).iter().position(|byte| *byte == 0), Some(127));
}

#[test]
fn a_probe_that_nobody_is_at_does_nothing() {
    for kind in Kind::ALL {
        fire(*kind, Event::default());
        fire_named(*kind, Event::default(), "name");
    }
    let spawn = Spawn {
        name: None,
        location: std::panic::Location::caller(),
        future: "",
        future_bytes: 0,
        priority: 0,
    };
    fire_spawn(1, 0, &spawn);
    otel_alloc(1, 2, 3);
    otel_free(1);
    assert!(!otel_is_on());
}
