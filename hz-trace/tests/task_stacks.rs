//! Where tasks are suspended, of programs with known debug info that run on hz-runtime and on Tokio.
//! Needs no root.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/compile.rs"]
mod compile;

use compile::{Program, line_of};
use serde_json::Value;
use std::process::{Command, Output};

const PARKED: &str = include_str!("programs/parked.rs");

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
