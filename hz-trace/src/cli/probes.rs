//! `hz-trace probes`.

use super::table::Table;
use anyhow::Result;
use clap::Args;
use hz_trace::probe::PROBES;
use serde_json::json;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub(crate) struct ProbesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ProbesArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let text = if self.json { as_json() } else { as_text() };
        io::stdout().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn as_text() -> String {
    let mut text = String::new();
    for probe in PROBES {
        let kinds: Vec<&str> = probe.emits().iter().map(|kind| kind.tag()).collect();
        let mut table = Table::new(&["", ""]);
        for (label, value) in [
            ("written in", probe.language().to_owned()),
            ("hooks", probe.hooks().join(", else ")),
            ("at", probe.places().join(" ")),
            ("emits", kinds.join(" ")),
            ("costs", probe.cost().to_owned()),
        ] {
            table.row(vec![label.to_owned(), value]);
        }
        let rows = table.render();
        let rows = rows.split_once('\n').map_or("", |(_, rows)| rows);
        text.push_str(&format!("{}: {}\n{rows}\n", probe.name(), probe.about()));
    }
    text.pop();
    text
}

fn as_json() -> String {
    let probes: Vec<_> = PROBES
        .iter()
        .map(|probe| {
            let emits: Vec<&str> = probe.emits().iter().map(|kind| kind.tag()).collect();
            json!({
                "name": probe.name(),
                "about": probe.about(),
                "language": probe.language(),
                "hooks": probe.hooks(),
                "places": probe.places(),
                "emits": emits,
                "cost": probe.cost(),
            })
        })
        .collect();
    format!("{:#}\n", json!({ "probes": probes }))
}
