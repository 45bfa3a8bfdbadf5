//! Passes each USDT probe of the runtime, for tools to be tried on.
//!
//! `usdt ROUNDS` says `ready PID`, reads a line, passes every probe so many times and says how often
//! a tracer was there.

use hz_probes_ebpf::Kind;
use hz_runtime::probe::{
    Spawn,
    usdt::{Event, Gate, fire, fire_named, fire_spawn, otel_alloc, otel_free},
};
use std::{io, panic::Location};

fn main() -> io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    println!("ready {}", std::process::id());
    io::stdin().read_line(&mut String::new())?;
    let fired: u32 = (1..=rounds)
        .map(|round| Kind::ALL.iter().map(|kind| pass(*kind, round)).sum::<u32>())
        .sum();
    println!("fired {fired}");
    Ok(())
}

/// Passes the probe of a kind if a tracer is there; returns how often.
fn pass(kind: Kind, round: u32) -> u32 {
    if !Gate::of(kind).wants_usdt() {
        return 0;
    }
    let event = Event { task: u64::from(round), value: 1 << 40, arg: kind as u32, aux: u32::MAX };
    match kind {
        Kind::TaskSpawn => fire_spawn(event.task, event.value, &spawn()),
        Kind::RequestBegin | Kind::SpanBegin | Kind::SpanEnd | Kind::Mark => {
            fire_named(kind, event, "a name");
        }
        _ => fire(kind, event),
    }
    otel_alloc(0x1000, 64, 512 << 10);
    otel_free(0x1000);
    1
}

fn spawn() -> Spawn<'static> {
    Spawn {
        name: Some("worker"),
        location: Location::caller(),
        future: "()",
        future_bytes: 0,
        priority: 2,
    }
}
