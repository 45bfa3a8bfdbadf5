//! Measures what a user probe costs by the first instruction of its function, on this machine:
//! `cargo run --release --example uprobe_cost`, as root.
//!
//! This is what the warning about single-stepped instructions rests on.

#[cfg(target_arch = "x86_64")]
mod measure {
    use hz_trace::source::{Scope, Uprobes};
    use hz_trace::symbol::{FirstInstruction, Site, UprobeSpec};
    use std::error::Error;
    use std::time::Instant;

    /// Calls for each figure; the ring holds them all.
    const CALLS: u32 = 50_000;
    const ROUNDS: usize = 5;

    macro_rules! functions {
        ($($name:ident: $first:literal, $rest:literal;)*) => {
            $(std::arch::global_asm!(
                concat!(".globl ", stringify!($name)),
                concat!(".type ", stringify!($name), ", @function"),
                concat!(stringify!($name), ":"),
                $first,
                $rest,
                "ret",
                concat!(".size ", stringify!($name), ", . - ", stringify!($name)),
            );)*
            // SAFETY: the functions above take and give nothing and keep every register they must.
            unsafe extern "C" { $(safe fn $name();)* }
            const FUNCTIONS: &[(&str, &str, extern "C" fn())] =
                &[$((stringify!($name), $first, $name),)*];
        };
    }

    functions! {
        hz_cost_push: "push rbp", "pop rbp";
        hz_cost_push_r12: "push r12", "pop r12";
        hz_cost_nop: "nop", "";
        hz_cost_nop5: ".byte 0x0f, 0x1f, 0x44, 0, 0", "";
        hz_cost_nop9: ".byte 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0", "";
        hz_cost_jmp: "jmp 2f", "2:";
        hz_cost_call: "call 2f", "2: pop rax";
        hz_cost_mov: "mov rax, rdi", "";
        hz_cost_xor: "xor eax, eax", "";
        hz_cost_sub: "sub rsp, 24", "add rsp, 24";
        hz_cost_test: "test rdi, rdi", "";
        hz_cost_lea: "lea rax, [rip + 1]", "";
        hz_cost_ret: "ret", "";
        hz_cost_endbr64: "endbr64", "nop";
        hz_cost_endbr64_push: "endbr64", "push rbp; pop rbp";
    }

    /// Median nanoseconds of a call.
    fn call_ns(function: extern "C" fn(), mut between: impl FnMut()) -> u128 {
        let mut rounds: Vec<u128> = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..CALLS {
                function();
            }
            rounds.push(start.elapsed().as_nanos() / u128::from(CALLS));
            between();
        }
        rounds.sort_unstable();
        rounds[ROUNDS / 2]
    }

    fn probed_ns(
        site: &Site,
        function: extern "C" fn(),
        scope: &Scope,
    ) -> Result<u128, Box<dyn Error>> {
        let mut uprobes = Uprobes::attach(std::slice::from_ref(site), scope, false, None)?;
        let mut count = 0;
        let took = call_ns(function, || count += uprobes.drain(&mut |_| ()));
        let per_call = if site.wants_return { 2 } else { 1 };
        assert_eq!(count, per_call * ROUNDS * CALLS as usize, "hits were lost");
        Ok(took)
    }

    pub(super) fn run() -> Result<(), Box<dyn Error>> {
        let binary = std::env::current_exe()?.to_string_lossy().into_owned();
        let own = Scope::Processes(vec![std::process::id()]);
        println!(
            "{:22} {:>8} {:>9} {:>9} {:>9}  hz says",
            "function", "bare ns", "mark ns", "pid ns", "span ns"
        );
        for (name, _, function) in FUNCTIONS {
            let symbol = (*name).to_owned();
            let spec = UprobeSpec { binary: binary.clone(), symbol, wants_return: false };
            let mark = spec.resolve(&[], 1)?.remove(0);
            let span = Site { wants_return: true, ..mark.clone() };
            let bare = call_ns(*function, || ());
            let everyone = probed_ns(&mark, *function, &Scope::All)?;
            let one = probed_ns(&mark, *function, &own)?;
            let both = probed_ns(&span, *function, &own)?;
            let says = match &mark.first {
                FirstInstruction::Stepped { instruction } => format!("stepped: {instruction}"),
                other => format!("{other:?}"),
            };
            println!("{name:22} {bare:8} {everyone:9} {one:9} {both:9}  {says}");
        }
        let start = Instant::now();
        let spec = UprobeSpec { binary, symbol: "hz_cost_*".into(), wants_return: true };
        let sites = spec.resolve(&[], 100)?;
        let resolved = start.elapsed();
        let uprobes = Uprobes::attach(&sites, &own, true, None)?;
        let attached = start.elapsed() - resolved;
        drop(uprobes);
        let dropped = start.elapsed() - resolved - attached;
        println!(
            "{} spans: resolved in {resolved:?}, attached in {attached:?}, taken away in {dropped:?}",
            sites.len()
        );
        Ok(())
    }
}

#[cfg(target_arch = "x86_64")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    measure::run()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    eprintln!("measured on x86-64 only");
}
