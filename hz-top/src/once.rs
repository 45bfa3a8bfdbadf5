//! What `--once` prints.

use crate::App;
use anyhow::Result;
use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Write as _},
};

/// What is wrong, each with its evidence.
pub(crate) fn warnings(app: &App) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for finding in app.findings() {
        let _ = writeln!(out, "{}: {}", finding.warning, finding.sentence);
        finding.evidence.iter().for_each(|line| _ = writeln!(out, "    {line}"));
    }
    if out.is_empty() {
        out.push_str("nothing found wrong\n");
    }
    out
}

/// Prints; nobody reading is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
