//! The texts, spawn sites and stacks that records name.

use super::{layout::Layout, map::Map};
use hz_probes_ebpf::{
    Header, Kind,
    runtime::{STACK_FRAMES, SpawnSite, Stack, TEXT_BYTES, Text},
    runtime_ring::{SiteSlot, StackSlot, TextSlot},
};
use std::{mem::offset_of, sync::atomic::Ordering};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Text `number` of the process; `None` if there is none.
pub(super) fn text(map: &Map, layout: &Layout, number: u32) -> Option<Text> {
    let index = number.checked_sub(1).filter(|index| *index < layout.texts.used(map))?;
    let at = layout.texts.at(index)?;
    let mut text = Text { bytes: map.load_half(at), ..Text::new_zeroed() };
    text.header.arg = number;
    let first = at + offset_of!(TextSlot, text) as u64;
    for (place, four) in (0..TEXT_BYTES as u64 / 4).zip(text.text.chunks_exact_mut(4)) {
        four.copy_from_slice(&map.load_half(first + 4 * place).to_le_bytes());
    }
    Some(text)
}

/// Spawn site `number` of the process.
pub(super) fn site(map: &Map, layout: &Layout, number: u32) -> Option<SpawnSite> {
    let index = number.checked_sub(1).filter(|index| *index < layout.sites.used(map))?;
    let at = layout.sites.at(index)?;
    let field = |offset: usize| map.load_half(at + offset as u64);
    Some(SpawnSite {
        header: Header { arg: number, ..Header::default() },
        name: field(offset_of!(SiteSlot, name)),
        file: field(offset_of!(SiteSlot, file)),
        line: field(offset_of!(SiteSlot, line)),
        column: field(offset_of!(SiteSlot, column)),
        future: field(offset_of!(SiteSlot, future)),
        future_bytes: field(offset_of!(SiteSlot, future_bytes)),
    })
}

/// Stack `number` of the process.
fn stack(map: &Map, layout: &Layout, number: u32) -> Option<Stack> {
    let index = number.checked_sub(1).filter(|index| *index < layout.stacks.used(map))?;
    let at = layout.stacks.at(index)?;
    let mut stack = Stack::new_zeroed();
    stack.header.arg = number;
    stack.frames = map.load_half(at).min(STACK_FRAMES as u32);
    // Its frames are written before their number is: who sees the number sees them from here on.
    std::sync::atomic::fence(Ordering::Acquire);
    stack.is_cut = u32::from(map.load_half(at + offset_of!(StackSlot, is_cut) as u64) != 0);
    let first = at + offset_of!(StackSlot, addresses) as u64;
    let frames = stack.frames as usize;
    for (place, address) in (0..).zip(&mut stack.addresses[..frames]) {
        *address = map.load(first + 8 * place);
    }
    Some(stack)
}

/// Which of them were told already.
#[derive(Debug, Default)]
pub(super) struct Told {
    texts: u32,
    sites: u32,
    stacks: u32,
    /// Those that had a number and no frames yet.
    unfinished_stacks: Vec<u32>,
}

impl Told {
    /// Tells what is new, with `header`'s time and process. Texts first: sites name them.
    pub(super) fn tell(
        &mut self,
        map: &Map,
        layout: &Layout,
        header: Header,
        each: &mut dyn FnMut(&[u8]),
    ) -> u64 {
        let before = [self.texts, self.sites];
        let header = |kind: Kind, arg| Header { kind: kind as u16, arg, ..header };
        // The other way round a site could come with a text that was added after the texts were read.
        let (stacks, sites) = (layout.stacks.used(map), layout.sites.used(map));
        std::sync::atomic::fence(Ordering::Acquire);
        while self.texts < layout.texts.used(map) {
            self.texts += 1;
            let Some(mut text) = text(map, layout, self.texts) else { break };
            text.header = header(Kind::Text, self.texts);
            each(text.as_bytes());
        }
        while self.sites < sites {
            self.sites += 1;
            let Some(mut site) = site(map, layout, self.sites) else { break };
            site.header = header(Kind::SpawnSite, self.sites);
            each(site.as_bytes());
        }
        let unfinished = std::mem::take(&mut self.unfinished_stacks);
        let new = self.stacks + 1..=stacks;
        self.stacks = self.stacks.max(stacks);
        let mut stacks_told = 0;
        for number in unfinished.into_iter().chain(new) {
            match stack(map, layout, number) {
                Some(mut stack) if stack.frames > 0 => {
                    stack.header = header(Kind::Stack, number);
                    each(stack.as_bytes());
                    stacks_told += 1;
                }
                _ => self.unfinished_stacks.push(number),
            }
        }
        stacks_told + u64::from(self.texts - before[0]) + u64::from(self.sites - before[1])
    }
}
