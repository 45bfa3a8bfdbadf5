//! `hz-trace tasks`, of a program whose tasks are known. Needs no root.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

#[path = "support/workload.rs"]
mod workload;

use serde_json::Value;
use std::{
    io::Read as _,
    process::{Command, Output, Stdio},
};
use workload::Workload;

fn tasks(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hz-trace"));
    command.arg("tasks").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

#[test]
fn every_task_is_told_with_what_it_waits_for() {
    let mut workload = Workload::start();
    workload.ask("spawn 3");
    let pid = workload.pid().to_string();
    let look = json(&tasks(&["-p", &pid, "--json", "--sort", "id"]));
    let found = look["tasks"].as_array().unwrap();
    assert_eq!(found.len(), 6, "{look:#}");
    assert_eq!(found[0]["name"], "reader");
    assert_eq!(
        (&found[0]["waits_for"]["kind"], &found[0]["waits_for"]["fd"]),
        (&"read".into(), &7.into())
    );
    let in_ns = found[1]["waits_for"]["in_ns"].as_i64().unwrap();
    assert!((1..=60_000_000_000).contains(&in_ns), "{look:#}");
    assert_eq!((&found[1]["polls"], &found[1]["worker"]), (&1.into(), &0.into()));
    let place = found[0]["spawned_at"].as_str().unwrap();
    assert!(place.contains("runtime_workload.rs:"), "{place}");
    assert!(found[0]["age_ns"].as_u64() >= found[1]["age_ns"].as_u64(), "{look:#}");
    assert_eq!(look["groups"][0]["tasks"], 3, "{look:#}");
    assert_eq!((&look["overflow"], &look["unreadable"]), (&0.into(), &0.into()));
    let page = text(&tasks(&["-p", &pid, "--name", "reader"]));
    assert!(page.contains("3 tasks alive: 3 idle") && page.contains("read fd 7"), "{page}");
    assert!(!page.contains("timer"), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    workload.end();
}

#[test]
fn a_leak_is_named_with_its_rate() {
    let mut workload = Workload::start();
    let pid = workload.pid().to_string();
    workload.ask("spawn 5");
    let watcher = Command::new(env!("CARGO_BIN_EXE_hz-trace"))
        .args(["tasks", "-p", &pid, "--watch", "10ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut watcher = Reaped(watcher);
    let looks = std::io::BufReader::new(watcher.0.stdout.take().unwrap());
    for look in std::io::BufRead::lines(looks) {
        let look: Value = serde_json::from_str(&look.unwrap()).unwrap();
        let growing = look["growing"].as_array().unwrap();
        if let Some(group) = growing.iter().find(|group| group["name"] == "timer") {
            assert!(group["per_second"].as_f64().unwrap() > 0.0, "{group}");
            assert!(group["tasks"].as_u64() > group["tasks_before"].as_u64(), "{group}");
            return;
        }
        assert!(look["tasks"].as_array().unwrap().len() < 100_000, "never said to grow");
        workload.ask("spawn 1");
    }
    panic!("the watch ended");
}

struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watch_ends_with_the_process_and_after_as_many_looks_as_asked() {
    let mut workload = Workload::start();
    let pid = workload.pid().to_string();
    let output = tasks(&["-p", &pid, "--watch", "10ms", "--count", "3", "--json"]);
    assert_eq!(text(&output).lines().count(), 3);
    workload.ask("spawn 1");
    let mut watcher = Command::new(env!("CARGO_BIN_EXE_hz-trace"))
        .args(["tasks", "-p", &pid, "--watch", "10ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It has looked once before the process ends.
    watcher.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    workload.end();
    let output = watcher.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.contains("has ended"), "{errors}");
}

#[test]
fn a_process_without_tasks_is_said_to_have_none() {
    let output = tasks(&["-p", &std::process::id().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("shows no tasks"), "{errors}");
}

#[test]
fn a_forked_child_does_not_show_its_parent_s_tasks() {
    let mut workload = Workload::start();
    workload.ask("spawn 1");
    let child = workload.ask("fork");
    let output = tasks(&["-p", &child]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(
        json(&tasks(&["-p", &workload.pid().to_string(), "--json"]))["groups"][0]["tasks"],
        1
    );
}

#[test]
fn without_a_target_one_is_chosen_and_several_are_listed() {
    let workloads = [Workload::start(), Workload::start()];
    let output = tasks(&[]);
    let page = text(&output);
    // Other tests have workloads too.
    assert!(page.starts_with("Several processes show tasks"), "{page}");
    for workload in &workloads {
        assert!(page.contains(&workload.pid().to_string()), "{page}");
    }
}
