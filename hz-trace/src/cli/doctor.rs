//! `hz-trace doctor`.

use super::CANNOT_RUN_HERE;
use anyhow::Result;
use clap::Args;
use hz_trace::doctor::{Findings, ProbeFinding, examine};
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Exits with 3 if a probe cannot run here.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let findings = examine();
        let text = if self.json {
            format!("{}\n", serde_json::to_string_pretty(&findings)?)
        } else {
            render(&findings)
        };
        io::stdout().write_all(text.as_bytes())?;
        let code = if findings.all_work() { 0 } else { CANNOT_RUN_HERE };
        Ok(ExitCode::from(code))
    }
}

fn render(findings: &Findings) -> String {
    let mut out = String::from("Host\n");
    for fact in &findings.host {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {:<20} {}", fact.name, fact.value);
        if let Some(remark) = &fact.remark {
            let _ = writeln!(out, "  {:<20} ! {remark}", "");
        }
    }
    out.push_str("\nProbes\n");
    for probe in &findings.probes {
        render_probe(&mut out, probe);
    }
    out
}

fn render_probe(out: &mut String, probe: &ProbeFinding) {
    let verdict = match (probe.hook, &probe.reason) {
        (Some(hook), _) => format!("works, with {hook}"),
        (None, reason) => {
            format!("not collected: {}", reason.as_deref().unwrap_or("reason unknown"))
        }
    };
    let _ = writeln!(out, "  {:<20} {verdict}", probe.probe);
    if !probe.fallbacks.is_empty() {
        let _ = writeln!(out, "  {:<20} would work too: {}", "", probe.fallbacks.join(", "));
    }
    for reason in &probe.not_collected {
        let _ = writeln!(out, "  {:<20} not collected: {reason}", "");
    }
}
