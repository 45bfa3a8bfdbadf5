# shellcheck shell=bash
# The environment of a build; the other scripts source it. Not a command.
#
# Sets HZ_ROOT, CARGO_TARGET_DIR and HZ_BPF_TOOLCHAIN, each only where the caller has not.

HZ_ROOT=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
HZ_CACHE=${HZ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hz}
# rustup puts cargo here; a shell that is not a login shell may not have it on its path.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin

# CI builds in a fresh clone each time: what it compiled has to outlive the clone.
if [ -n "${HZ_TARGET_DIR:-}" ]; then
    CARGO_TARGET_DIR=$HZ_TARGET_DIR
elif [ -z "${CARGO_TARGET_DIR:-}" ]; then
    if [ -n "${CI:-}" ]; then CARGO_TARGET_DIR=$HZ_CACHE/target; else CARGO_TARGET_DIR=$HZ_ROOT/target; fi
fi

# Prints the rustup toolchain that compiles BPF in Rust, or fails when there is none.
#
# A nightly with rust-src builds `core` itself; its LLVM must be the one bpf-linker links, or the
# linker meets bitcode it cannot read. Otherwise it is Debian's rustc, which has a prebuilt `core`.
bpf_toolchain() {
    local toolchains=${RUSTUP_HOME:-$HOME/.rustup}/toolchains nightly
    for nightly in "$toolchains"/nightly-*; do
        if [ -d "$nightly/lib/rustlib/src/rust/library/core" ] && llvm_of "$nightly/bin/rustc" >/dev/null; then
            echo "${nightly##*/}"
            return
        fi
    done
    [ -x "$toolchains/hz-bpf/bin/rustc" ] && [ -d "$toolchains/hz-bpf/lib/rustlib/bpfel-unknown-none" ] && echo hz-bpf
}

# Prints the LLVM major version of a rustc, if one can have a bpf-linker for it: its llvm-config is
# here. Naming LLVMs that may yet be installed is scripts/setup's business.
llvm_of() {
    local major
    major=$("$1" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    [ -x "/usr/lib/llvm-$major/bin/llvm-config" ] && echo "$major"
}

if [ -z "${HZ_BPF_TOOLCHAIN:-}" ]; then
    HZ_BPF_TOOLCHAIN=$(bpf_toolchain) || HZ_BPF_TOOLCHAIN=
fi
[ -z "$HZ_BPF_TOOLCHAIN" ] || export HZ_BPF_TOOLCHAIN
export PATH HZ_ROOT HZ_CACHE CARGO_TARGET_DIR

# Makes the target directory forget the workspace's own crates when another checkout built them.
#
# Cargo tells members of a workspace apart by their path below its root and their freshness by file
# times, so in a shared directory an older checkout would be handed a newer one's build.
own_target_dir() {
    local checkout stamp=$1/.hz-checkout
    checkout="$HZ_ROOT $(stat -c '%i %W' "$HZ_ROOT")"
    mkdir -p "$1"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$checkout" ]; then
        (cd "$1" && find . -maxdepth 5 \( -path '*/.fingerprint/hz-*' -o -path '*/build/hz-*' \) -prune -exec rm -rf {} +)
        echo "$checkout" >"$stamp"
    fi
}
