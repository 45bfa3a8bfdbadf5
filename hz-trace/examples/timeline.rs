//! Draws an invented recording: `timeline service|incident|busy|large|storm|idle OUTPUT.svg`, and says how long
//! that took.

use hz_trace as hz;
use hz_trace::export::{About, EXPORTERS, Subject};
use hz_trace::model::Model;
use std::time::Instant;

#[path = "../tests/support/simulate.rs"]
mod simulate;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "service".to_owned());
    let output = arguments.next().unwrap_or_else(|| "timeline.svg".to_owned());
    let model = match kind.as_str() {
        "busy" => simulate::busy_machine(8, 2_000_000_000, 80),
        "large" => simulate::busy_machine(64, 2_000_000_000, 400),
        "incident" => simulate::incident(),
        "bar" => simulate::storm(3_750_000_000),
        "storm" => simulate::storm(10_000_000_000),
        "idle" => Model { end_ns: 1_000_000, ..Model::default() },
        _ => simulate::service(),
    };
    let about = About {
        title: "shop-api".to_owned(),
        target: "pid 4711".to_owned(),
        host: "build-7".to_owned(),
        kernel: "6.18.5".to_owned(),
        recorded_ns: 0,
        probes: vec!["libssl.so:SSL_read".to_owned(), "shop-api:checkout".to_owned()],
        lost: model.cpus.iter().flat_map(|cpu| &cpu.lost).map(|lost| lost.count).sum(),
        own_cpu_pct: Some(0.8),
        own_memory_bytes: Some(41_000_000),
        ..About::default()
    };
    let begun = Instant::now();
    let mut bytes = Vec::new();
    EXPORTERS[0].export(&Subject::new(&model, &about), &mut bytes)?;
    eprintln!(
        "{} records, {} switches: {} bytes in {:?}",
        model.records,
        model.switches,
        bytes.len(),
        begun.elapsed()
    );
    std::fs::write(output, bytes)
}
