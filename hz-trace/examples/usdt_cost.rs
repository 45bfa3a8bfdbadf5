//! Measures what a USDT probe of the runtime costs, off and recorded, on this machine:
//! `cargo run --release --example usdt_cost`, as root.

use hz_runtime::probe;
use hz_trace::{
    source::{Scope, Usdt},
    symbol::{UsdtProbe, UsdtSpec},
};
use std::{error::Error, time::Instant};

/// Hits for each figure; the ring holds them all.
const HITS: u32 = 50_000;
const ROUNDS: usize = 5;

/// Median nanoseconds of `pass`.
fn pass_ns(pass: impl Fn(), mut between: impl FnMut()) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        (0..HITS).for_each(|_| pass());
        rounds.push(start.elapsed().as_nanos() as f64 / f64::from(HITS));
        between();
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn recorded_ns(probe: &UsdtProbe, pass: impl Fn(), scope: &Scope) -> Result<f64, Box<dyn Error>> {
    let mut usdt = Usdt::attach(std::slice::from_ref(probe), scope, false)?;
    let mut count = 0;
    let took = pass_ns(pass, || count += usdt.drain(&mut |_| ()));
    assert_eq!(count, ROUNDS * HITS as usize, "hits were lost");
    Ok(took)
}

fn main() -> Result<(), Box<dyn Error>> {
    let binary = std::env::current_exe()?.to_string_lossy().into_owned();
    let spec = |name: &str| UsdtSpec {
        binary: binary.clone(),
        provider: "hz_runtime".to_owned(),
        name: name.to_owned(),
    };
    let own = Scope::Processes(vec![std::process::id()]);
    println!("{:12} {:>9} {:>9} {:>9}", "probe", "off ns", "all ns", "pid ns");
    let probes: [(&str, fn()); 2] = [("park", probe::park), ("mark", || probe::mark("here", 1))];
    for (name, pass) in probes {
        let probe = spec(name).resolve(&[], 1)?.remove(0);
        let off = pass_ns(pass, || ());
        let everyone = recorded_ns(&probe, pass, &Scope::All)?;
        let one = recorded_ns(&probe, pass, &own)?;
        println!("{name:12} {off:9.1} {everyone:9.0} {one:9.0}");
    }
    let all = spec("*").resolve(&[], 100)?;
    let start = Instant::now();
    let usdt = Usdt::attach(&all, &Scope::All, false)?;
    let attached = start.elapsed();
    drop(usdt);
    let dropped = start.elapsed() - attached;
    println!("{} probes: attached in {attached:?}, taken away in {dropped:?}", all.len());
    Ok(())
}
