//! The command as users meet it, without root. `TRYCMD=overwrite` accepts what the sessions in
//! `tests/cmd` print now.

#![expect(clippy::unwrap_used, reason = "a test dies where it fails, its helpers too")]

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn hz_trace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hz-trace"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    hz_trace(arguments).output().unwrap()
}

fn errors(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/recordings/pipeline.hzt")
}

/// The fixture's bytes, changed, in a file of their own.
fn changed(directory: &Path, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = fs::read(fixture()).unwrap();
    change(&mut bytes);
    let path = directory.join("changed.hzt");
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn sessions_go_as_they_are_written() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}

#[test]
fn a_truncated_recording_reads_and_says_so_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = changed(directory.path(), |bytes| bytes.truncate(bytes.len() - 400));
    for arguments in [&["report", &path][..], &["report", "--json", &path]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        assert!(!output.stdout.is_empty());
        assert!(errors(&output).contains("not ended properly"), "{}", errors(&output));
    }
    let svg = directory.path().join("x.svg");
    let output = run(&["export", &path, "--output", svg.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(svg.exists());
}

#[test]
fn a_recording_of_a_newer_format_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = changed(directory.path(), |bytes| bytes[8] = 7);
    let output = run(&["report", &path]);
    assert_eq!(output.status.code(), Some(1));
    let expected =
        format!("hz-trace: {path} has format 7, this hz reads up to 2; use a newer hz\n");
    assert_eq!(errors(&output), expected);
}

#[test]
fn a_failed_export_leaves_the_older_file_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("x.svg");
    fs::write(&svg, "older").unwrap();
    let path = changed(directory.path(), |bytes| bytes.truncate(20));
    let output = run(&["export", &path, "--output", svg.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(errors(&output).lines().count(), 1, "{}", errors(&output));
    let whole = fixture();
    let whole = whole.to_str().unwrap();
    let output = run(&["export", whole, "--from", "1h", "--output", svg.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&svg).unwrap(), "older");
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["changed.hzt", "x.svg"]);
}

#[test]
fn an_export_replaces_the_older_file() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("x.svg");
    fs::write(&svg, "older").unwrap();
    let output = run(&["export", fixture().to_str().unwrap(), "--output", svg.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(fs::read_to_string(&svg).unwrap().contains("<svg"));
    assert_eq!(errors(&output), format!("hz-trace: wrote {}\n", svg.display()));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let path = fixture();
    let path = path.to_str().unwrap();
    for arguments in [
        &["report", "--json", path][..],
        &["report", path],
        &["probes"],
        &["completions", "bash"],
        &["man"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = hz_trace(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), errors(&output)), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn nobody_on_standard_error_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("x.svg");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let path = fixture();
    let arguments = ["export", path.to_str().unwrap(), "--output", svg.to_str().unwrap()];
    let status = hz_trace(&arguments).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(svg.exists());
}

#[test]
fn completions_know_the_subcommands() {
    for (shell, needle) in [
        ("bash", "complete -F _hz__trace"),
        ("zsh", "#compdef hz-trace"),
        ("fish", "complete -c hz-trace"),
    ] {
        let output = run(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains(needle) && script.contains("uprobe"), "{shell}: {script:.200}");
    }
}

#[test]
fn the_manual_page_has_every_option_of_the_help() {
    let page = String::from_utf8(run(&["man"]).stdout).unwrap();
    for option in ["cgroup", "uprobe", "duration", "output", "export"] {
        assert!(page.contains(option), "{option}");
    }
}

/// What a killed hz has saved, or another one is writing, is not written over.
#[test]
fn a_partial_file_that_is_there_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("x.svg");
    let partial = directory.path().join("x.svg.partial");
    fs::write(&partial, "half").unwrap();
    let path = fixture();
    let output = run(&["export", path.to_str().unwrap(), "--output", svg.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(svg.exists());
    let mut text = String::new();
    fs::File::open(&partial).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "half");
}
