//! Rules for leaving a function, as compact rows.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, NativeEndian, RegisterRule,
    UnwindContext, UnwindSection, UnwindTableRow, X86_64,
};

/// Where the caller's stack begins (the CFA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cfa {
    /// No rule: no function is here, or its rule is none that rows can hold.
    Unknown,
    /// There is no caller.
    Outermost,
    /// The stack pointer and an offset.
    Rsp,
    /// The frame pointer and an offset.
    Rbp,
}

/// Where the caller's frame pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Rbp {
    /// Still in its register.
    Same,
    /// In memory, at the CFA and an offset.
    Saved,
    /// Nobody knows.
    Lost,
}

/// The rule from `pc` up to the next row's. The return address is below the CFA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Row {
    /// From the module's start.
    pub(super) pc: u32,
    pub(super) cfa_offset: i32,
    pub(super) rbp_offset: i16,
    pub(super) cfa: Cfa,
    pub(super) rbp: Rbp,
}
const _: () = assert!(size_of::<Row>() == 12);

impl Row {
    const fn unknown(pc: u32) -> Self {
        Self { pc, cfa_offset: 0, rbp_offset: 0, cfa: Cfa::Unknown, rbp: Rbp::Lost }
    }

    fn same_rule(self, other: Self) -> bool {
        Self { pc: other.pc, ..self } == other
    }
}

/// A section in memory: its address and its bytes, which may go on behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    pub(super) address: usize,
    pub(super) bytes: &'a [u8],
}

/// The rows of a module that starts at `start`, by pc. `section` gives what is at an address.
pub(super) fn build<'a>(
    start: usize,
    header: Section<'a>,
    section: impl Fn(usize) -> Option<Section<'a>>,
) -> gimli::Result<Vec<Row>> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address as u64);
    let parsed = EhFrameHdr::new(header.bytes, NativeEndian).parse(&bases, 8)?;
    let frame_address = parsed.eh_frame_ptr().direct()? as usize;
    let (Some(table), Some(frames)) = (parsed.table(), section(frame_address)) else {
        return Ok(Vec::new());
    };
    let bases = bases.set_eh_frame(frame_address as u64);
    let frame = EhFrame::new(frames.bytes, NativeEndian);
    let mut builder = Builder { start: start as u64, rows: Vec::new() };
    let mut context = UnwindContext::new();
    let mut entries = table.iter(&bases);
    while let Some((_, pointer)) = entries.next()? {
        let offset = table.pointer_to_offset(pointer)?;
        // One that cannot be read leaves a gap.
        if let Ok(entry) = frame.fde_from_offset(&bases, offset, EhFrame::cie_from_offset) {
            let _ = builder.add(&frame, &bases, &mut context, &entry);
        }
    }
    Ok(builder.finish())
}

type Reader<'a> = EndianSlice<'a, NativeEndian>;

struct Builder {
    start: u64,
    rows: Vec<Row>,
}

impl Builder {
    fn add<'a>(
        &mut self,
        frame: &EhFrame<Reader<'a>>,
        bases: &BaseAddresses,
        context: &mut UnwindContext<usize>,
        entry: &gimli::FrameDescriptionEntry<Reader<'a>>,
    ) -> gimli::Result<()> {
        let mut table = entry.rows(frame, bases, context)?;
        while let Some(row) = table.next_row()? {
            if let Some(pc) = self.offset(row.start_address()) {
                self.push(compact(pc, row));
            }
        }
        if let Some(end) = self.offset(entry.end_address()) {
            self.push(Row::unknown(end));
        }
        Ok(())
    }

    fn offset(&self, address: u64) -> Option<u32> {
        u32::try_from(address.checked_sub(self.start)?).ok()
    }

    fn push(&mut self, row: Row) {
        // The end of one function is the begin of the next.
        while self.rows.last().is_some_and(|last| last.pc == row.pc) {
            self.rows.pop();
        }
        if !self.rows.last().is_some_and(|last| last.same_rule(row)) {
            self.rows.push(row);
        }
    }

    fn finish(mut self) -> Vec<Row> {
        // The table that it was read from is sorted, but nobody promised.
        self.rows.sort_by_key(|row| row.pc);
        self.rows.shrink_to_fit();
        self.rows
    }
}

fn compact(pc: u32, row: &UnwindTableRow<usize>) -> Row {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Offset(-8)) => {}
        Some(RegisterRule::Undefined) => return Row { cfa: Cfa::Outermost, ..Row::unknown(pc) },
        _ => return Row::unknown(pc),
    }
    let (cfa, offset) = match row.cfa() {
        CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => (Cfa::Rsp, *offset),
        CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => (Cfa::Rbp, *offset),
        _ => return Row::unknown(pc),
    };
    let Ok(cfa_offset) = i32::try_from(offset) else {
        return Row::unknown(pc);
    };
    let (rbp, rbp_offset) = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => (Rbp::Same, 0),
        Some(RegisterRule::Offset(offset)) => {
            i16::try_from(offset).map_or((Rbp::Lost, 0), |offset| (Rbp::Saved, offset))
        }
        _ => (Rbp::Lost, 0),
    };
    Row { pc, cfa_offset, rbp_offset, cfa, rbp }
}
