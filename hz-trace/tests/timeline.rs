//! The timeline as a file: well-formed, golden, small, and safe whatever a process calls itself.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use hz_trace as hz;
use hz_trace::export::{About, EXPORTERS, Subject};
use hz_trace::model::{Model, State};
use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[path = "support/simulate.rs"]
mod simulate;

fn about() -> About {
    About {
        title: "shop-api".to_owned(),
        target: "pid 4711".to_owned(),
        host: "build-7".to_owned(),
        kernel: "6.18.5".to_owned(),
        recorded_ns: 0,
        probes: vec!["libssl.so:SSL_read".to_owned(), "checkout".to_owned()],
        lost: 1_204,
        not_collected: vec!["steal time: this host is not a guest".to_owned()],
        flames: Vec::new(),
        own_cpu_pct: Some(0.8),
        own_memory_bytes: Some(41_000_000),
    }
}

fn export(subject: &Subject<'_>) -> String {
    let mut bytes = Vec::new();
    EXPORTERS[0].export(subject, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn svg(model: &Model) -> String {
    export(&Subject::new(model, &about()))
}

/// What an SVG consists of.
#[derive(Debug, Default, PartialEq)]
struct Parts {
    /// Elements by name.
    elements: BTreeMap<String, usize>,
    /// Attributes by name.
    attributes: BTreeMap<String, usize>,
    /// Text of `text` and `title` elements.
    words: Vec<String>,
    /// What is in scripts.
    scripts: Vec<String>,
}

/// Reads an SVG; panics if it is not well-formed.
fn read(svg: &str) -> Parts {
    let mut reader = Reader::from_str(svg);
    reader.config_mut().check_end_names = true;
    let mut parts = Parts::default();
    let mut open: Vec<String> = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(parts.element(&start)),
            Event::Empty(start) => drop(parts.element(&start)),
            Event::End(_) => drop(open.pop()),
            Event::Text(text) => parts.word(open.last(), &text.xml10_content()),
            Event::GeneralRef(reference) => {
                let name = format!("&{};", &*reference);
                parts.word(open.last(), &quick_xml::escape::unescape(&name).unwrap());
            }
            Event::CData(data) => parts.scripts.push(data.to_string()),
            Event::Eof => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(open, Vec::<String>::new());
    parts
}

impl Parts {
    fn element(&mut self, start: &BytesStart<'_>) -> String {
        let name = start.name().as_ref().to_owned();
        *self.elements.entry(name.clone()).or_default() += 1;
        if matches!(name.as_str(), "text" | "title" | "desc") {
            self.words.push(String::new());
        }
        for attribute in start.attributes() {
            let key = attribute.unwrap().key.as_ref().to_owned();
            *self.attributes.entry(key).or_default() += 1;
        }
        name
    }

    /// Text comes in parts, between references to characters.
    fn word(&mut self, open: Option<&String>, text: &str) {
        if open.is_some_and(|name| matches!(name.as_str(), "text" | "title" | "desc")) {
            self.words.last_mut().unwrap().push_str(text);
        }
    }

    fn data(&self) -> serde_json::Value {
        let json = self.scripts.iter().find(|script| script.starts_with('{')).unwrap();
        serde_json::from_str(json).unwrap()
    }

    fn says(&self, words: &str) -> bool {
        self.words.iter().any(|each| each.contains(words))
    }
}

#[test]
fn a_small_recording_looks_as_it_did() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/timeline/service.svg");
    // The script has tests of its own, and the version changes.
    let drawn = svg(&simulate::service()).replace(concat!("hz ", env!("CARGO_PKG_VERSION")), "hz");
    let (drawn, _) = drawn.rsplit_once("<script>").unwrap();
    let drawn = format!("{drawn}</svg>");
    if std::env::var_os("HZ_BLESS").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(drawn.lines()).position(|(golden, drawn)| golden != drawn);
    assert!(
        golden == drawn,
        "line {differs:?} differs from {}: look at the new picture, then HZ_BLESS=1",
        path.display()
    );
}

#[test]
fn the_picture_says_what_matters() {
    let parts = read(&svg(&simulate::service()));
    for words in [
        "shop-api",
        "pid 4711 · 40.0 ms · 2 CPUs · 4 threads",
        "lost 1,204",
        "hz used 0.8 % CPU, 41 MB",
        "Worst wait: worker-0 (tid 4712) waited 8.11 ms for CPU 1, at 13.1 ms, all behind rustc (pid 991).",
        "8.11 ms waiting for CPU 1, all behind rustc (pid 991)",
        "1,204 lost",
        "1,204 records lost on CPU 0",
        "runnable: waits for a CPU",
        "not recorded",
        "Not collected: steal time",
        "15 ms",
    ] {
        assert!(parts.says(words), "{words}: {:#?}", parts.words);
    }
    assert!(!parts.says("stopped"), "the legend has only what there is");
    let data = parts.data();
    assert_eq!(data["resolution"], 0, "a small recording is embedded whole");
    let worst = &data["worst"][0];
    let length_ns = worst["end"].as_u64().unwrap() - worst["start"].as_u64().unwrap();
    assert_eq!(length_ns, worst["ran"][0][1].as_u64().unwrap(), "{worst}");
}

/// What the script reads, as `timeline_data.js` does.
struct Numbers(Vec<u8>);

impl Numbers {
    fn of(base64: &str) -> Self {
        let digit = |each: u8| match each {
            b'A'..=b'Z' => each - b'A',
            b'a'..=b'z' => each - b'a' + 26,
            b'0'..=b'9' => each - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let bytes = base64.as_bytes().chunks(4).flat_map(|four| {
            let bits = four.iter().fold(0, |bits, each| bits << 6 | u32::from(digit(*each)));
            let padding = four.iter().filter(|each| **each == b'=').count();
            bits.to_be_bytes()[1..4 - padding].to_vec()
        });
        Self(bytes.collect::<Vec<_>>().into_iter().rev().collect())
    }

    fn byte(&mut self) -> u64 {
        self.0.pop().unwrap().into()
    }

    fn number(&mut self) -> u64 {
        let byte = self.byte();
        if byte < 128 { byte } else { (byte & 127) + 128 * self.number() }
    }

    /// Length of a piece of a thread's life in units.
    fn thread_piece(&mut self, actors: u64) -> u64 {
        let head = self.number();
        let has = |flag: u64| head >> flag & 1 == 1;
        if head % 16 == 8 {
            let mask = self.byte();
            (0..mask.count_ones()).for_each(|_| assert!(self.byte() > 0));
            if mask & (1 << 3 | 1 << 4) != 0 {
                self.number();
            }
            return head >> 6;
        }
        assert!(head % 16 < 8, "{head}");
        if has(4) {
            self.number();
        }
        if has(5) {
            assert!(self.number() < 2 + actors);
        }
        head >> 6
    }

    /// Length of a piece of a CPU's time in units.
    fn cpu_piece(&mut self, actors: u64) -> u64 {
        let head = self.number();
        match head % 4 {
            2 => assert!(self.number() < actors),
            3 => {
                let named = self.number().min(3);
                let weights: u64 = (0..named)
                    .map(|_| {
                        assert!(self.number() < actors);
                        self.byte()
                    })
                    .sum();
                assert!(weights + self.byte() + self.byte() + self.byte() > 0);
            }
            _ => {}
        }
        head >> 2
    }
}

fn check_lanes_are_tiled(model: &Model) {
    let data = read(&svg(model)).data();
    let unit = data["unit"].as_u64().unwrap();
    let actors = data["actors"].as_array().unwrap();
    for lane in data["lanes"].as_array().unwrap() {
        let mut numbers = Numbers::of(lane["pieces"].as_str().unwrap());
        let (mut at, kind) = (lane["start"].as_u64().unwrap(), lane["kind"].as_str().unwrap());
        while !numbers.0.is_empty() {
            let count = actors.len() as u64;
            at +=
                if kind == "cpu" { numbers.cpu_piece(count) } else { numbers.thread_piece(count) };
        }
        let end_ns = match kind {
            "density" => 0,
            "thread" => {
                let tid = actors[lane["actor"].as_u64().unwrap() as usize][0].as_u64();
                let thread = model.threads.iter().find(|each| Some(u64::from(each.tid)) == tid);
                thread.unwrap().end_ns - model.start_ns
            }
            _ => model.end_ns - model.start_ns,
        };
        assert_eq!(at, end_ns / unit, "{kind} {lane:.300}");
    }
}

#[test]
fn embedded_lanes_tile_the_recording_at_any_resolution() {
    check_lanes_are_tiled(&simulate::service());
    check_lanes_are_tiled(&simulate::storm(400_000_000));
    check_lanes_are_tiled(&simulate::busy_machine(6, 700_000_000, 100));
}

#[test]
fn a_part_of_a_recording_is_drawn_alone() {
    let model = simulate::service();
    let about = about();
    let part = Subject::new(&model, &about).part(12_000_000, 16_000_000);
    let parts = read(&export(&part));
    assert!(parts.says("4.00 ms of 40.0 ms"), "{:#?}", parts.words);
    assert!(parts.says("14.0 ms") || parts.says("14 ms"), "{:#?}", parts.words);
    assert!(!parts.says("20 ms") && !parts.says("records lost on"), "{:#?}", parts.words);
    assert_eq!(parts.data()["from_ns"], 12_000_000);
    assert_eq!(parts.data()["span_ns"], 4_000_000);
    let beyond = Subject::new(&model, &about).part(50_000_000, 60_000_000);
    assert_eq!(beyond.duration_ns(), 0);
    read(&export(&beyond));
}

#[test]
fn a_long_recording_points_at_its_worst_waits() {
    let parts = read(&svg(&simulate::incident()));
    for words in [
        "Worst wait: worker (tid 4714) waited 60.4 ms for CPU 1, at 4.99 s, all behind backup (pid 880).",
        "60.3 ms waiting for CPU 0, all behind backup (pid 880)",
        "A column of 1 px is 9.19 ms",
    ] {
        assert!(parts.says(words), "{words}: {:#?}", parts.words);
    }
}

#[test]
fn nothing_recorded_is_a_picture_too() {
    let parts = read(&svg(&Model::default()));
    assert!(parts.says("No thread waited for a CPU."), "{:#?}", parts.words);
}

#[test]
fn many_threads_share_a_lane_that_says_so() {
    let parts = read(&svg(&simulate::busy_machine(4, 50_000_000, 90)));
    assert!(parts.says("50 threads more"), "{:#?}", parts.words);
    let lanes = parts.data()["lanes"].as_array().unwrap().len();
    assert_eq!(lanes, 4 + 4 + 40 + 1);
}

#[test]
fn a_large_recording_is_a_small_file() {
    let model = simulate::storm(4_000_000_000);
    assert!(model.records > 3_000_000 && model.switches > 1_000_000, "{}", model.records);
    let drawn = svg(&model);
    assert!(drawn.len() <= 2_000_000, "{} bytes", drawn.len());
    assert!(read(&drawn).data()["resolution"].as_u64() > Some(0));
}

#[test]
fn a_large_machine_is_a_small_file() {
    let drawn = svg(&simulate::busy_machine(64, 2_000_000_000, 400));
    assert!(drawn.len() <= 2_000_000, "{} bytes", drawn.len());
}

/// The same recording with other names, in which nothing but text may differ.
fn renamed(name: &[u8; 16], title: &str) -> (Parts, Parts) {
    let model = simulate::service();
    let mut hostile = model.clone();
    hostile.threads.iter_mut().for_each(|thread| thread.comm = *name);
    let mut plain = model.clone();
    plain.threads.iter_mut().for_each(|thread| thread.comm = *b"plain\0\0\0\0\0\0\0\0\0\0\0");
    let mut about = about();
    let expected = read(&export(&Subject::new(&plain, &about)));
    about.title = title.to_owned();
    about.target = title.to_owned();
    about.host = title.to_owned();
    about.probes = vec![title.to_owned(); 2];
    about.not_collected = vec![title.to_owned()];
    (read(&export(&Subject::new(&hostile, &about))), expected)
}

fn check_harmless(name: &[u8; 16], title: &str) {
    let (hostile, plain) = renamed(name, title);
    assert_eq!(hostile.elements, plain.elements);
    assert_eq!(hostile.attributes, plain.attributes);
    assert_eq!(hostile.scripts.len(), plain.scripts.len());
    let json = hostile.scripts.iter().find(|script| script.starts_with('{')).unwrap();
    assert!(!json.contains(['<', '>', '&']), "safe in HTML too");
    let shown = hostile.words.iter().flat_map(|words| words.chars());
    for each in shown {
        let is_bidi = matches!(each, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!each.is_control() && !is_bidi, "{each:?}");
    }
}

#[test]
fn hostile_names_cannot_inject_anything() {
    check_harmless(b"</script><img s/", "</title><script>alert(1)</script>");
    check_harmless(b"]]><b onload=x>\0", "]]><![CDATA[");
    check_harmless(b"\"'<&>&amp;&#0;\x01\0", "\" onload=\"alert(1)");
    check_harmless(
        b"\xff\xfe\xe2\x80\xae\xe2\x81\xa6\x1b[2J\x07\0\0\0",
        "\u{202e}\u{0}\u{ffff}\r\n\u{85}",
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_name_injects_anything(name in any::<[u8; 16]>(), title in "\\PC{0,20}|.{0,20}") {
        check_harmless(&name, &title);
    }

    #[test]
    fn any_recording_is_drawn(cpus in 1..5_u16, threads in 1..12_u32, length_ns in 1..3_000_000_u64) {
        let mut model = simulate::busy_machine(cpus, length_ns, threads);
        // States that the simulation does not have.
        let states = State::ALL.iter().cycle();
        for (span, state) in model.threads[0].spans.iter_mut().zip(states) {
            span.state = *state;
        }
        read(&svg(&model));
    }
}
