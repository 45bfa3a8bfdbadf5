//! `hz-trace probes`.

use super::table::Table;
use anyhow::Result;
use clap::Args;
use hz_trace::{probe::PROBES, symbol::UsdtProbe};
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
    /// List the statically defined probes (USDT) of a program or library instead
    #[arg(long, value_name = "BINARY")]
    usdt: Option<String>,
}

impl ProbesArgs {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let text = match (&self.usdt, self.json) {
            (None, false) => as_text(),
            (None, true) => as_json(),
            (Some(binary), false) => usdts_as_text(&UsdtProbe::of(binary, &[])?),
            (Some(binary), true) => usdts_as_json(&UsdtProbe::of(binary, &[])?),
        };
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

fn usdts_as_text(probes: &[UsdtProbe]) -> String {
    if probes.is_empty() {
        return "no statically defined probes (USDT)\n".to_owned();
    }
    let mut table = Table::new(&["PROBE", ">PLACES", "SEMAPHORE", "ARGUMENTS"]);
    for probe in probes {
        let semaphore = match (probe.has_semaphore, probe.is_swallowed) {
            (false, _) => "none",
            (true, false) => "works",
            (true, true) => "swallowed",
        };
        let places = probe.places.to_string();
        table.row(vec![probe.full_name(), places, semaphore.to_owned(), probe.arguments.clone()]);
    }
    table.render()
}

fn usdts_as_json(probes: &[UsdtProbe]) -> String {
    let probes: Vec<_> = probes
        .iter()
        .map(|probe| {
            let arguments: Vec<&str> = probe.arguments.split_whitespace().collect();
            json!({
                "binary": probe.binary,
                "provider": probe.provider,
                "name": probe.name,
                "places": probe.places,
                "has_semaphore": probe.has_semaphore,
                "semaphore_is_swallowed": probe.is_swallowed,
                "arguments": arguments,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "probes": probes }))
}
