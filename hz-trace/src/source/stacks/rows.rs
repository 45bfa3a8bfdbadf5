//! Rules for leaving functions, from `.eh_frame` to the rows that the unwinder in the kernel searches.

use super::elf_file::{Elf, Section};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, Expression, FrameDescriptionEntry,
    LittleEndian, Operation, RegisterRule, UnwindContext, UnwindExpression, UnwindSection,
    UnwindTableRow, X86_64,
};
use hz_probes_ebpf::{Cfa, Fp, ROWS_MAX, Row, Rule};

/// The `EM_*` of the architecture that rows are made for. arm64 keeps return addresses in a register,
/// which rows have no place for yet: there, frame pointers are followed.
const EM_X86_64: u16 = 62;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// The rows of a file, by address relative to [`Elf::lowest`]; none if nothing can be read.
///
/// What cannot be read leaves a gap, and the rest stays. Total: any file gives rows, never a panic.
pub(super) fn build(elf: &Elf) -> Vec<Row> {
    if elf.machine != EM_X86_64 {
        return Vec::new();
    }
    let mut builder = Builder { lowest: elf.lowest(), marks: Vec::new() };
    if let Some(section) = &elf.eh_frame {
        builder.add_section(section);
    }
    if !builder.marks.is_empty() {
        builder.add_plts(&elf.plts);
    }
    builder.finish()
}

/// The rule from an address on.
#[derive(Clone, Copy, Debug)]
struct Mark {
    pc: u32,
    /// At one address: ends of functions come before what linkers do not tell, and that before begins of
    /// functions.
    rank: u8,
    rule: u32,
}

const END: u8 = 0;
const PLT: u8 = 1;
const BEGIN: u8 = 2;

struct Builder {
    lowest: u64,
    marks: Vec<Mark>,
}

impl Builder {
    fn add_section(&mut self, section: &Section) {
        let frames = EhFrame::new(&section.bytes, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(section.address);
        let mut context = UnwindContext::new();
        let mut entries = frames.entries(&bases);
        // Behind an entry whose length is wrong there is nothing to be found.
        while let Ok(Some(entry)) = entries.next() {
            if self.marks.len() > ROWS_MAX {
                return;
            }
            let CieOrFde::Fde(partial) = entry else { continue };
            if let Ok(entry) = partial.parse(EhFrame::cie_from_offset) {
                self.add_function(&frames, &bases, &mut context, &entry);
            }
        }
    }

    fn add_function<'a>(
        &mut self,
        frames: &EhFrame<Reader<'a>>,
        bases: &BaseAddresses,
        context: &mut UnwindContext<usize>,
        entry: &FrameDescriptionEntry<Reader<'a>>,
    ) {
        if entry.len() == 0 {
            return;
        }
        let is_signal = entry.cie().is_signal_trampoline();
        if let Ok(mut table) = entry.rows(frames, bases, context) {
            while let Ok(Some(row)) = table.next_row() {
                let rule =
                    if is_signal { Rule::plain(Cfa::Signal) } else { rule(row, frames, entry) };
                self.mark(row.start_address(), BEGIN, rule);
            }
        }
        self.mark(entry.end_address(), END, Rule::plain(Cfa::Unknown));
    }

    /// Not every linker tells how to leave its linkage tables.
    fn add_plts(&mut self, plts: &[(u64, u64)]) {
        for (address, bytes) in plts {
            let rule = Rule { cfa: Cfa::Plt, cfa_offset: 11 * 8, fp: Fp::Same, fp_offset: 0 };
            // The first entry, which calls the linker, is entered by a jump with two words pushed.
            self.mark(address.saturating_add(16), PLT, rule);
            self.mark(address.saturating_add(*bytes), END, Rule::plain(Cfa::Unknown));
        }
    }

    fn mark(&mut self, address: u64, rank: u8, rule: Rule) {
        let pc = address.checked_sub(self.lowest).and_then(|pc| u32::try_from(pc).ok());
        if let Some(pc) = pc {
            self.marks.push(Mark { pc, rank, rule: rule.pack() });
        }
    }

    fn finish(mut self) -> Vec<Row> {
        self.marks.sort_by_key(|mark| (mark.pc, mark.rank));
        let mut rows: Vec<Row> = Vec::new();
        for Mark { pc, rule, .. } in self.marks {
            // What begins where another ends wins.
            if rows.last().is_some_and(|last| last.pc == pc) {
                rows.pop();
            }
            if rows.last().is_none_or(|last| last.rule != rule) {
                rows.push(Row { pc, rule });
            }
        }
        rows.truncate(ROWS_MAX);
        rows
    }
}

/// One row of the compiler's table as a rule.
fn rule<'a>(
    row: &UnwindTableRow<usize>,
    frames: &EhFrame<Reader<'a>>,
    entry: &FrameDescriptionEntry<Reader<'a>>,
) -> Rule {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Offset(-8)) => {}
        Some(RegisterRule::Undefined) => return Rule::plain(Cfa::Outermost),
        _ => return Rule::plain(Cfa::Hard),
    }
    let expression = |place: &UnwindExpression<usize>| place.get(frames).ok();
    let (cfa, cfa_offset) = match row.cfa() {
        CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => (Cfa::Sp, *offset),
        CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => (Cfa::Fp, *offset),
        CfaRule::RegisterAndOffset { .. } => return Rule::plain(Cfa::Hard),
        CfaRule::Expression(place) => match expression(place).and_then(|it| cfa_of(&it, entry)) {
            Some(found) => found,
            None => return Rule::plain(Cfa::Hard),
        },
    };
    let (fp, fp_offset) = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => (Fp::Same, 0),
        Some(RegisterRule::Offset(offset)) => (Fp::Saved, offset),
        Some(RegisterRule::Expression(place)) => {
            match expression(&place).and_then(|it| fp_place_of(&it, entry)) {
                Some(offset) => (Fp::SavedAtFp, offset),
                None => (Fp::Lost, 0),
            }
        }
        _ => (Fp::Lost, 0),
    };
    let (Ok(cfa_offset), Ok(fp_offset)) = (i32::try_from(cfa_offset), i32::try_from(fp_offset))
    else {
        return Rule::plain(Cfa::Hard);
    };
    // Of an offset that does not fit, only the frame pointer is lost.
    let whole = Rule { cfa, cfa_offset, fp, fp_offset };
    if Rule::cfa_of(whole.pack()) == Cfa::Hard as u32 {
        return Rule { fp: Fp::Lost, fp_offset: 0, ..whole };
    }
    whole
}

/// Operations of an expression, up to a bound.
fn operations<'a>(
    expression: &Expression<Reader<'a>>,
    entry: &FrameDescriptionEntry<Reader<'a>>,
) -> Option<Vec<Operation<Reader<'a>>>> {
    let mut iterator = expression.operations(entry.cie().encoding());
    let mut operations = Vec::new();
    while let Some(operation) = iterator.next().ok()? {
        operations.push(operation);
        if operations.len() > 16 {
            return None;
        }
    }
    Some(operations)
}

/// The two expressions for a CFA that compilers and linkers write.
fn cfa_of<'a>(
    expression: &Expression<Reader<'a>>,
    entry: &FrameDescriptionEntry<Reader<'a>>,
) -> Option<(Cfa, i64)> {
    use Operation as Op;
    match operations(expression, entry)?.as_slice() {
        // A function that aligns its stack keeps the CFA in its frame.
        [Op::RegisterOffset { register: X86_64::RBP, offset, .. }, Op::Deref { size: 8, .. }] => {
            Some((Cfa::FpMemory, *offset))
        }
        // rsp + 8 + ((rip & 15) >= 11) * 8
        [
            Op::RegisterOffset { register: X86_64::RSP, offset: 8, .. },
            Op::RegisterOffset { register: X86_64::RA, offset: 0, .. },
            Op::UnsignedConstant { value: 15 },
            Op::And,
            Op::UnsignedConstant { value: pushed @ 1..16 },
            Op::Ge,
            Op::UnsignedConstant { value: 3 },
            Op::Shl,
            Op::Plus,
        ] => Some((Cfa::Plt, pushed.cast_signed() * 8)),
        _ => None,
    }
}

/// The frame pointer saved at the frame pointer: a function that aligns its stack.
fn fp_place_of<'a>(
    expression: &Expression<Reader<'a>>,
    entry: &FrameDescriptionEntry<Reader<'a>>,
) -> Option<i64> {
    match operations(expression, entry)?.as_slice() {
        [Operation::RegisterOffset { register: X86_64::RBP, offset, .. }] => Some(*offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;

    fn read(path: &str) -> Elf {
        Elf::read(&File::open(path).unwrap()).unwrap()
    }

    fn is_sound(rows: &[Row]) -> bool {
        rows.windows(2).all(|pair| pair[0].pc < pair[1].pc && pair[0].rule != pair[1].rule)
    }

    #[test]
    fn this_program_has_rows_that_hold_nearly_all_rules() {
        let rows = build(&read(std::env::current_exe().unwrap().to_str().unwrap()));
        assert!(rows.len() > 10_000, "{}", rows.len());
        assert!(is_sound(&rows));
        let hard = rows.iter().filter(|row| Rule::cfa_of(row.rule) == Cfa::Hard as u32).count();
        assert!(hard * 1000 < rows.len(), "{hard} of {}", rows.len());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_c_library_has_a_signal_frame_an_outermost_function_and_linkage_entries() {
        let rows = build(&read("/lib/x86_64-linux-gnu/libc.so.6"));
        for cfa in [Cfa::Signal, Cfa::Outermost, Cfa::Plt, Cfa::Sp, Cfa::Fp] {
            assert!(rows.iter().any(|row| Rule::cfa_of(row.rule) == cfa as u32), "{cfa:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_section_gives_sound_rows(changes in proptest::collection::vec((0..32_768_usize, any::<u8>()), 1..64), cut in 0..32_768_usize) {
            let mut elf = read(std::env::current_exe().unwrap().to_str().unwrap());
            let section = elf.eh_frame.as_mut().unwrap();
            section.bytes.truncate(32_768);
            for (at, byte) in changes {
                if let Some(place) = section.bytes.get_mut(at) {
                    *place = byte;
                }
            }
            section.bytes.truncate(cut);
            prop_assert!(is_sound(&build(&elf)));
        }
    }
}
