//! Names resolved in real files: this test program, libc, and what the C compiler makes.

use super::*;
use std::process::Command;

#[inline(never)]
fn hz_target_function(value: u64) -> u64 {
    std::hint::black_box(value) + 1
}

fn own_exe() -> String {
    assert_eq!(hz_target_function(1), 2);
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

fn resolve(binary: &str, symbol: &str) -> Result<Vec<Site>, ResolveError> {
    let spec = UprobeSpec { binary: binary.into(), symbol: symbol.into(), wants_return: false };
    spec.resolve(&[], SITES_MAX)
}

fn said(binary: &str, symbol: &str) -> String {
    resolve(binary, symbol).unwrap_err().to_string()
}

/// Compiles C and returns the folder that holds the result, and its path.
fn compile(source: &str, flags: &[&str]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("a.c"), dir.path().join("built"));
    std::fs::write(&input, source).unwrap();
    let status = Command::new("cc").args(flags).arg("-o").arg(&output).arg(&input).status();
    assert!(status.unwrap().success());
    let path = output.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn a_rust_function_is_found_by_its_path_and_by_a_glob() {
    let own = own_exe();
    let exact = resolve(&own, "hz_trace::symbol::tests::hz_target_function").unwrap();
    assert_eq!(exact.len(), 1, "{exact:?}");
    assert_eq!(exact[0].symbol, "hz_trace::symbol::tests::hz_target_function");
    assert_eq!(resolve(&own, "hz_trace::*::hz_target_f?nction").unwrap(), exact);
    assert_ne!(exact[0].first, FirstInstruction::Unknown);
}

#[test]
fn a_library_function_is_found_by_soname() {
    let sites = resolve("libc.so.6", "getaddrinfo").unwrap();
    assert_eq!(sites.len(), 1, "{sites:?}");
    assert!(sites[0].file_offset > 0);
}

#[test]
fn a_misspelt_function_is_suggested() {
    let text = said("libc.so.6", "getadrinfo");
    assert!(text.contains("no function getadrinfo in /"), "{text}");
    assert!(text.contains("did you mean getaddrinfo"), "{text}");
    let text = said(&own_exe(), "hz_target_function");
    assert!(text.contains("did you mean hz_trace::symbol::tests::hz_target_function"), "{text}");
}

#[test]
fn an_imported_an_indirect_and_a_stripped_function_say_so() {
    let source = "int puts(const char *); static int hidden(void) { return 1; }
        static void *choose(void) { return (void *)hidden; }
        int chosen(void) __attribute__((ifunc(\"choose\")));
        int main(void) { puts(\"\"); return chosen() + hidden(); }";
    let (_dir, built) = compile(source, &[]);
    let text = said(&built, "puts");
    assert!(text.ends_with("which only calls it; name the library that defines it"), "{text}");
    let text = said(&built, "chosen");
    assert!(text.contains("the loader chooses"), "{text}");
    let (_dir, stripped) = compile(source, &["-s"]);
    let text = said(&stripped, "hidden");
    assert!(text.contains("which is stripped"), "{text}");
}

#[test]
fn aliases_are_one_site_and_cold_parts_none() {
    let source = "int a(void) { return 1; } int b(void) __attribute__((alias(\"a\")));
        __asm__(\".type a.cold, @function\\n a.cold: ret\\n .size a.cold, 1\\n\");
        int main(void) { return a(); }";
    let (_dir, built) = compile(source, &["-O0"]);
    assert_eq!(resolve(&built, "a").unwrap()[0].address, resolve(&built, "b").unwrap()[0].address);
    assert_eq!(resolve(&built, "?").unwrap().len(), 1);
    assert_eq!(resolve(&built, "a*").unwrap().len(), 1);
}

#[test]
fn a_probe_goes_behind_an_endbr64() {
    let source = "__asm__(\".globl f\\n.type f, @function\\nf: endbr64\\npush %rbp\\npop %rbp\\nret\\n.size f, .-f\");
        __asm__(\".globl g\\n.type g, @function\\ng: endbr64\\nret\\n.size g, .-g\");
        int main(void) { return 0; }";
    let (_dir, built) = compile(source, &[]);
    let push = &resolve(&built, "f").unwrap()[0];
    let ret = &resolve(&built, "g").unwrap()[0];
    assert_eq!(push.first, FirstInstruction::Emulated);
    assert_eq!(push.warning(), None);
    assert_eq!(ret.first, FirstInstruction::Stepped { instruction: "endbr64".to_owned() });
    let skipped = push.file_offset.wrapping_sub(push.address);
    assert_eq!(skipped, ret.file_offset.wrapping_sub(ret.address) + 4);
    let warning = ret.warning().unwrap();
    assert!(warning.starts_with(&format!("g at {:#x} of ", ret.address)), "{warning}");
    assert!(warning.contains("`endbr64`"), "{warning}");
}

#[test]
fn a_glob_that_means_too_much_says_how_much() {
    let text = said("libc.so.6", "*");
    assert!(text.starts_with("* means ") && text.ends_with("more than 100; narrow it"), "{text}");
}

#[test]
fn a_script_a_directory_and_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    for path in [script.to_str().unwrap(), "/etc", "/dev/zero"] {
        let text = said(path, "main");
        assert!(text.contains("is no ELF program or library"), "{text}");
    }
    assert!(said("no-such-program", "main").starts_with("no binary no-such-program"));
}

#[test]
fn a_return_probe_on_a_go_program_is_refused() {
    let source =
        "__attribute__((section(\".gopclntab\"))) int table = 1; int main(void) { return table; }";
    let (_dir, built) = compile(source, &[]);
    let spec: UprobeSpec = format!("{built}:main%return").parse().unwrap();
    let text = spec.resolve(&[], SITES_MAX).unwrap_err().to_string();
    assert!(text.contains("is a Go program"), "{text}");
    assert!(resolve(&built, "main").is_ok());
}
