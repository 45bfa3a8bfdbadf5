//! Where tasks are suspended, of programs with known debug info that run on hz-runtime and on Tokio.
//! Needs no root.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/compile.rs"]
mod compile;

use compile::{Program, line_of};
use hz_trace::symbol::{DebugInfo, FutureName, Futures, Memory};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Output},
};

const PARKED: &str = include_str!("programs/parked.rs");
const ON_TOKIO: &str = include_str!("programs/parked_tokio.rs");

fn stacks(program: &Program, arguments: &[&str]) -> Output {
    let pid = program.pid().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hz-trace"));
    command.args(["tasks", "-p", &pid, "--stacks"]).args(arguments).output().unwrap()
}

fn json(program: &Program) -> Value {
    let output = stacks(program, &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const LEAKING: &str = include_str!("programs/leaking.rs");

/// The stack of the tasks of a name: depth, future, and the comment of the line that it waits at.
fn chain(look: &Value, name: &str, source: &str) -> Vec<(u64, String, Option<String>)> {
    let stack = group(look, name);
    let frames = stack["frames"].as_array().unwrap().iter();
    let told = frames.map(|frame| {
        let line = frame["line"].as_u64().and_then(|line| comment(source, line));
        let mut future = frame["future"].as_str().unwrap().to_owned();
        // Which of the file's implementations it is in.
        if let Some((before, (_, after))) =
            future.split_once("{impl#").map(|(a, b)| (a, b.split_once('}').unwrap()))
        {
            future = format!("{before}{{impl}}{after}");
        }
        (frame["depth"].as_u64().unwrap(), future, line)
    });
    told.collect()
}

fn group<'a>(look: &'a Value, name: &str) -> &'a Value {
    let mut stacks = look["stacks"].as_array().unwrap().iter();
    stacks.find(|stack| stack["name"] == name).unwrap()
}

fn comment(source: &str, line: u64) -> Option<String> {
    let text = source.lines().nth(usize::try_from(line).unwrap().checked_sub(1)?)?;
    Some(text.rsplit_once("// at: ")?.1.to_owned())
}

fn frames(chain: &[(u64, &str, &str)]) -> Vec<(u64, String, Option<String>)> {
    let frames = chain.iter().map(|(depth, future, at)| {
        (*depth, (*future).to_owned(), (!at.is_empty()).then(|| (*at).to_owned()))
    });
    frames.collect()
}

#[test]
fn every_await_of_a_suspended_task_is_told_with_its_line() {
    let program = Program::start("parked", PARKED, "2");
    let look = json(&program);
    let chain = |name| chain(&look, name, PARKED);
    assert_eq!(
        chain("nested"),
        frames(&[
            (0, "parked::nested", "nested"),
            (1, "parked::{impl}::call", "call"),
            (2, "parked::{impl}::run", "run"),
            (3, "parked::generic<alloc::string::String>", "generic"),
            (4, "parked::innermost", "innermost"),
            (5, "hz_runtime::time::sleep::Sleep", ""),
        ]),
        "{look:#}"
    );
    let recursive = chain("recursive");
    let lines: Vec<&str> = recursive.iter().filter_map(|frame| frame.2.as_deref()).collect();
    assert_eq!(lines, ["recursive", "recursive", "recursive", "bottom"], "{recursive:?}");
    let accepts = chain("accepts");
    assert_eq!(accepts[0], frames(&[(0, "parked::accepts", "accepts")])[0]);
    assert!(accepts.len() > 1 && accepts[1].1.contains("accept"), "{accepts:?}");
    assert_eq!(chain("joins")[0].2.as_deref(), Some("joins"));
    for name in ["one", "other"] {
        assert_eq!(chain(name)[0].2.as_deref(), Some(name), "{look:#}");
    }
    let receives = group(&look, "receives");
    assert_eq!(receives["tasks"].as_array().unwrap().len(), 3, "equal stacks are one: {look:#}");
    let busy = group(&look, "busy");
    let moves = busy["reason"]
        .as_str()
        .is_some_and(|reason| reason.contains("being polled") || reason.contains("moves on"));
    assert!(moves || !busy["frames"].as_array().unwrap().is_empty(), "{busy:#}");
}

#[test]
fn futures_side_by_side_are_told_with_the_field_that_holds_them() {
    let program = Program::start("parked", PARKED, "2");
    let look = json(&program);
    let select = group(&look, "select");
    let frames = select["frames"].as_array().unwrap();
    assert_eq!(comment(PARKED, frames[0]["line"].as_u64().unwrap()).unwrap(), "select");
    assert!(frames[1]["future"].as_str().unwrap().starts_with("parked::Either"), "{select:#}");
    let within = |field: &str| {
        let frame = frames.iter().find(|frame| frame["field"] == field).unwrap();
        assert_eq!(frame["depth"], 2, "{select:#}");
        comment(PARKED, frame["line"].as_u64().unwrap()).unwrap()
    };
    assert_eq!([within("first"), within("second")], ["first", "second"]);
    let innermost = frames.iter().find(|frame| frame["future"] == "parked::innermost").unwrap();
    assert_eq!(innermost["depth"], 3, "{select:#}");
}

#[test]
fn a_boxed_future_of_any_type_is_followed_by_its_table_of_functions() {
    let program = Program::start("parked", PARKED, "2");
    let look = json(&program);
    assert_eq!(
        chain(&look, "boxed", PARKED)[..2],
        frames(&[(0, "parked::boxed", "boxed"), (1, "parked::innermost", "innermost")]),
        "{look:#}"
    );
}

#[test]
fn tasks_of_tokio_are_told_in_the_same_way() {
    let program = Program::start("parked_tokio", ON_TOKIO, "2");
    let look = json(&program);
    let sleeper = chain(&look, "sleeper", ON_TOKIO);
    assert_eq!(
        sleeper[..2],
        frames(&[(0, "parked_tokio::sleeper", "sleeper"), (1, "parked_tokio::naps", "naps")]),
        "{look:#}"
    );
    assert_eq!(sleeper[2].1, "tokio::time::sleep::Sleep", "{sleeper:?}");
    let receiver = chain(&look, "receiver", ON_TOKIO);
    assert_eq!(receiver[0].2.as_deref(), Some("receiver"), "{look:#}");
    assert!(receiver[1].1.contains("recv"), "{receiver:?}");
}

#[test]
fn a_leak_is_named_with_the_await_it_is_parked_at() {
    let program = Program::start("leaking", LEAKING, "2");
    let watched = |name: &str| {
        let output =
            stacks(&program, &["--watch", "100ms", "--count", "12", "--json", "--name", name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        last["growing"].as_array().unwrap().clone()
    };
    let growing = watched("leak");
    let by_place = growing.iter().find(|group| group["parked"].is_string()).unwrap();
    let line = line_of(LEAKING, "leak");
    let place = format!("leaking::forgotten at {}:{line}", program.source().display());
    assert_eq!(by_place["parked"], Value::String(place), "{growing:#?}");
    assert!(by_place["tasks"].as_u64() > by_place["tasks_before"].as_u64(), "{growing:#?}");
    assert_eq!(watched("short"), Vec::<Value>::new(), "what comes and goes is no leak");
}

#[test]
fn the_page_has_every_future_and_its_line() {
    let program = Program::start("parked", PARKED, "2");
    let output = stacks(&program, &["--name", "nested"]);
    let page = String::from_utf8(output.stdout).unwrap();
    let line = line_of(PARKED, "innermost");
    for words in [
        "Where they are suspended".to_owned(),
        format!("          parked::innermost  {}:{line}", program.source().display()),
        "            hz_runtime::time::sleep::Sleep".to_owned(),
        "waits for: timer".to_owned(),
    ] {
        assert!(page.contains(&words), "{words}\n{page}");
    }
}

#[test]
fn without_types_in_its_debug_info_it_says_what_helps() {
    for debuginfo in ["0", "line-tables-only"] {
        let program = Program::start("parked", PARKED, debuginfo);
        let output = stacks(&program, &[]);
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{debuginfo}");
        assert!(words.contains("no debug info: ") && words.contains("debug = \"full\""), "{words}");
    }
}

/// Memory that is never twice the same, and now and then not there.
struct Noise(std::cell::Cell<u64>);

impl Noise {
    fn next(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        state
    }
}

impl Memory for Noise {
    fn read(&self, _: u64, into: &mut [u8]) -> bool {
        // Small numbers are states that there are.
        let mask = if self.next().is_multiple_of(2) { 7 } else { 255 };
        into.iter_mut().for_each(|byte| *byte = (self.next() & mask) as u8);
        !self.next().is_multiple_of(16)
    }
}

/// Follows every task of the program many times through noise.
fn follow(info: &DebugInfo, names: &[FutureName], noise: &Noise, times: u32) -> usize {
    let mut futures = Futures::new(info);
    if futures.learn(info, names.iter().cloned()).is_err() {
        return 0;
    }
    let mut told = 0;
    for name in names {
        for _ in 0..times {
            let stack = futures.stack(name, noise.next(), (noise, noise.next()));
            let frames = stack.map_or(0, |frames| frames.len());
            assert!(frames <= 64, "{frames}");
            told += frames;
        }
    }
    told
}

#[test]
fn hostile_memory_and_damaged_debug_info_have_an_end() {
    let program = Program::start("parked", PARKED, "2");
    let names: Vec<FutureName> = json(&program)["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| FutureName {
            name: task["future"].as_str().unwrap().to_owned(),
            bytes: task["future_bytes"].as_u64().unwrap(),
            spawned_at: task["spawned_at"].as_str().unwrap().to_owned(),
        })
        .collect();
    let binary = program.source().with_extension("");
    let noise = Noise(std::cell::Cell::new(0x9e37_79b9_7f4a_7c15));
    let read = |path: &Path| DebugInfo::read(path, path, &[]);
    assert!(follow(&read(&binary).unwrap(), &names, &noise, 500) > 1_000);
    let whole = std::fs::read(&binary).unwrap();
    let damaged = program.source().with_extension("damaged");
    for _ in 0..4 {
        let mut bytes = whole.clone();
        // Debug info is the last two thirds of it.
        let from = bytes.len() / 3;
        for _ in 0..400 {
            let place = from + noise.next() as usize % (bytes.len() - from);
            bytes[place] = noise.next() as u8;
        }
        std::fs::write(&damaged, &bytes).unwrap();
        if let Ok(info) = read(&damaged) {
            follow(&info, &names, &noise, 20);
        }
    }
}
