//! What a probe costs depends on the instruction it replaces.
//!
//! The kernel emulates a few instructions; every other one it executes out of line, one step under
//! the trap flag, which takes a second exception and twenty times the time.
//! <https://github.com/torvalds/linux/blob/v6.18/arch/x86/kernel/uprobes.c>: `branch_setup_xol_ops`
//! and `push_setup_xol_ops` say which.

use iced_x86::{
    Code, Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, Mnemonic, Register,
};

/// What the kernel does with the instruction under a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirstInstruction {
    /// It is emulated: the cheap way.
    Emulated,
    /// It is single-stepped: about twenty times dearer.
    Stepped {
        /// The instruction, in AT&T syntax.
        instruction: String,
    },
    /// It could not be decoded.
    Unknown,
    /// Not x86-64: hz does not know this architecture's rules.
    NotChecked,
}

/// `endbr64`.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Judges the instruction at the start of `code`, which is at `address`.
pub(super) fn judge(code: &[u8], address: u64) -> FirstInstruction {
    let instruction = decode(code, address);
    if instruction.is_invalid() {
        return FirstInstruction::Unknown;
    }
    if is_emulated(code, &instruction) {
        return FirstInstruction::Emulated;
    }
    let mut text = String::new();
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_uppercase_hex(false);
    formatter.format(&instruction, &mut text);
    FirstInstruction::Stepped { instruction: text }
}

/// Bytes to go past the function's start to find a cheaper instruction, which every call executes
/// too and which no jump comes back to: a `push` behind an `endbr64`. The return address is still
/// on top of the stack there, so that return probes work as well.
pub(super) fn cheaper_start(code: &[u8]) -> u64 {
    let Some(rest) = code.strip_prefix(&ENDBR64) else { return 0 };
    if is_push(&decode(rest, 0), rest) { ENDBR64.len() as u64 } else { 0 }
}

/// Bytes to go past the function's start to the first instruction that is cheap: one that every call
/// executes, that no jump in `code` comes back to, and before which no argument and not the stack pointer
/// was changed. 0 if there is none.
pub(super) fn cheapest_start(code: &[u8]) -> u64 {
    let mut at = 0;
    while at < CHEAP_WITHIN {
        let Some(rest) = code.get(at..) else { return 0 };
        let instruction = decode(rest, at as u64);
        if instruction.is_invalid() {
            return 0;
        }
        if is_emulated(rest, &instruction) {
            return if at == 0 || !is_jumped_to(code, at as u64) { at as u64 } else { 0 };
        }
        if !keeps_arguments(&instruction) {
            return 0;
        }
        at += instruction.len();
    }
    0
}

/// How far a cheap instruction may be from the function's start, bytes.
const CHEAP_WITHIN: usize = 32;

/// Registers that hold none of the first three arguments and not the stack pointer.
const SPARE: [Register; 16] = [
    Register::RAX,
    Register::EAX,
    Register::RBX,
    Register::EBX,
    Register::RCX,
    Register::ECX,
    Register::RBP,
    Register::EBP,
    Register::R8,
    Register::R8D,
    Register::R9,
    Register::R9D,
    Register::R10,
    Register::R10D,
    Register::R11,
    Register::R11D,
];

/// Whether arguments and stack are the same behind it, and the next instruction comes next.
fn keeps_arguments(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Test | Mnemonic::Cmp | Mnemonic::Endbr64 | Mnemonic::Nop => true,
        Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Xor | Mnemonic::Movzx => {
            SPARE.contains(&instruction.op0_register())
        }
        _ => false,
    }
}

/// Whether a direct jump in `code` goes to `at`. What follows the function is read as code too: that may
/// find a jump that is none.
fn is_jumped_to(code: &[u8], at: u64) -> bool {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    // That of an instruction which is no jump is 0.
    decoder.iter().any(|instruction| instruction.near_branch_target() == at)
}

fn decode(code: &[u8], address: u64) -> Instruction {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode()
}

fn is_emulated(code: &[u8], instruction: &Instruction) -> bool {
    is_nop(code, instruction) || is_push(instruction, code) || is_branch(instruction, code)
}

/// The kernel compares with the ones it would write itself, and takes any prefix before 0x90.
fn is_nop(code: &[u8], instruction: &Instruction) -> bool {
    const NOPS: [&[u8]; 6] = [
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    let code = &code[..instruction.len().min(code.len())];
    let is_one_byte = code.last() == Some(&0x90) && instruction.mnemonic() == Mnemonic::Nop;
    is_one_byte || NOPS.contains(&code)
}

/// `push` of a 64-bit register, with a REX prefix at most.
fn is_push(instruction: &Instruction, code: &[u8]) -> bool {
    let prefix = code.first().copied().unwrap_or_default();
    let has_only_rex = instruction.len() == 1 || (0x40..0x50).contains(&prefix);
    instruction.code() == Code::Push_r64 && instruction.len() <= 2 && has_only_rex
}

/// Relative `call` and `jmp`, and jumps on a flag; none with an operand-size prefix.
fn is_branch(instruction: &Instruction, code: &[u8]) -> bool {
    let code = &code[..instruction.len().min(code.len())];
    let opcode = code.iter().position(|byte| !is_prefix(*byte)).unwrap_or(code.len());
    let (prefixes, rest) = code.split_at(opcode);
    let is_relative =
        matches!(rest, [0xe8 | 0xe9 | 0xeb | 0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..]);
    is_relative && !prefixes.contains(&0x66)
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stepped(instruction: &str) -> FirstInstruction {
        FirstInstruction::Stepped { instruction: instruction.to_owned() }
    }

    #[test]
    fn what_the_kernel_emulates_is_cheap() {
        let cheap: [&[u8]; 14] = [
            &[0x55],
            &[0x41, 0x57],
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            &[0xe8, 1, 2, 3, 4],
            &[0xe9, 1, 2, 3, 4],
            &[0xeb, 5],
            &[0x74, 5],
            &[0x0f, 0x84, 1, 2, 3, 4],
            &[0x0f, 0x8f, 1, 2, 3, 4],
            &[0x66, 0x0f, 0x1f, 0x44, 0, 0],
        ];
        for code in cheap {
            assert_eq!(judge(code, 0x1000), FirstInstruction::Emulated, "{code:x?}");
        }
    }

    #[test]
    fn what_is_stepped_is_named() {
        let dear: [(&[u8], &str); 9] = [
            (&ENDBR64, "endbr64"),
            (&[0x48, 0x83, 0xec, 0x18], "sub $0x18,%rsp"),
            (&[0x48, 0x89, 0xf8], "mov %rdi,%rax"),
            (&[0x31, 0xc0], "xor %eax,%eax"),
            (&[0xc3], "ret"),
            (&[0x68, 1, 0, 0, 0], "push $1"),
            (&[0x48, 0x83, 0xec, 0x5c], "sub $0x5c,%rsp"),
            (&[0xff, 0xe0], "jmp *%rax"),
            (&[0xe3, 2], "jrcxz 0x0000000000001004"),
        ];
        for (code, text) in dear {
            assert_eq!(judge(code, 0x1000), stepped(text), "{code:x?}");
        }
        assert_eq!(judge(&[], 0), FirstInstruction::Unknown);
        assert_eq!(judge(&[0x06], 0), FirstInstruction::Unknown);
    }

    #[test]
    fn only_a_push_behind_an_endbr64_is_preferred() {
        assert_eq!(cheaper_start(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), 4);
        assert_eq!(cheaper_start(&[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x54]), 4);
        assert_eq!(cheaper_start(&[0xf3, 0x0f, 0x1e, 0xfa, 0xeb, 0xfe]), 0);
        assert_eq!(cheaper_start(&[0xf3, 0x0f, 0x1e, 0xfa]), 0);
        assert_eq!(cheaper_start(&[0x55]), 0);
    }

    #[test]
    fn a_cheap_instruction_is_found_behind_what_changes_no_argument() {
        // test %rdi,%rdi; je: as glibc's free begins.
        assert_eq!(cheapest_start(&[0x48, 0x85, 0xff, 0x0f, 0x84, 1, 2, 3, 4]), 3);
        // mov %rdi,%rax; push %rbp
        assert_eq!(cheapest_start(&[0x48, 0x89, 0xf8, 0x55]), 3);
        // endbr64; cmpb $0,0x10(%rip); je
        assert_eq!(
            cheapest_start(&[0xf3, 0x0f, 0x1e, 0xfa, 0x80, 0x3d, 16, 0, 0, 0, 0, 0x74, 5]),
            11
        );
        // push %rbp at once
        assert_eq!(cheapest_start(&[0x55]), 0);
        // mov %rax,%rdi; push: the argument is another
        assert_eq!(cheapest_start(&[0x48, 0x89, 0xc7, 0x55]), 0);
        // sub $8,%rsp; push: the stack is another
        assert_eq!(cheapest_start(&[0x48, 0x83, 0xec, 8, 0x55]), 0);
        // test; je; jmp back to the je
        assert_eq!(cheapest_start(&[0x48, 0x85, 0xff, 0x74, 9, 0xeb, 0xfc]), 0);
        assert_eq!(cheapest_start(&[]), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(code in proptest::collection::vec(any::<u8>(), 0..20), address: u64) {
            let _ = judge(&code, address);
            let _ = cheaper_start(&code);
            let start = cheapest_start(&code);
            prop_assert!(start < CHEAP_WITHIN as u64);
        }
    }
}
