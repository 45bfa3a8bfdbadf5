//! A runtime's side of the memory, for tests: it writes what the protocol says, no more.

use super::{RuntimeMemory, error::AttachError, find::Found, map::Map};
use hz_probes_ebpf::{
    Kind,
    runtime_ring::{
        CLOCK_MONOTONIC, CLOCK_PAIRS, ClockPair, DirectorySlot, LEASES, Lease, RING_MAGIC,
        RING_VERSION, RingHeader, RingPage, RingSlot, SLOT_OWNER, SiteSlot, StackSlot, TextSlot,
    },
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::{
    fs::File,
    mem::offset_of,
    os::unix::fs::FileExt as _,
    sync::atomic::{Ordering, fence},
};
use zerocopy::{FromZeros as _, IntoBytes};

pub(super) const DIRECTORY: u32 = 64;
pub(super) const TABLE: u32 = 32;

/// A memory like a runtime's.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) file: File,
    pub(super) page: RingPage,
    map: Map,
}

/// A page whose parts lie behind each other.
pub(super) fn page(rings: u32, ring_slots: u32) -> RingPage {
    let mut page = RingPage::new_zeroed();
    page.version = RING_VERSION;
    page.pid = std::process::id();
    page.clock = CLOCK_MONOTONIC;
    page.workers = rings;
    (page.rings, page.ring_slots) = (rings, ring_slots);
    page.leases_offset = size_of::<RingPage>() as u64;
    page.pairs_offset = page.leases_offset + (LEASES * size_of::<Lease>()) as u64;
    page.rings_offset = page.pairs_offset + (CLOCK_PAIRS * size_of::<ClockPair>()) as u64;
    page.ring_stride =
        (size_of::<RingHeader>() + ring_slots as usize * size_of::<RingSlot>()) as u64;
    page.directory_offset = page.rings_offset + u64::from(rings) * page.ring_stride;
    page.directory_slots = DIRECTORY;
    let directory_bytes = DIRECTORY as usize * size_of::<DirectorySlot>();
    page.texts_offset = page.directory_offset + directory_bytes as u64;
    page.texts_slots = TABLE;
    page.sites_offset = page.texts_offset + (TABLE as usize * size_of::<TextSlot>()) as u64;
    page.sites_slots = TABLE;
    page.stacks_offset = page.sites_offset + (TABLE as usize * size_of::<SiteSlot>()) as u64;
    page.stacks_slots = TABLE;
    page.bytes = page.stacks_offset + (TABLE as usize * size_of::<StackSlot>()) as u64;
    page.offered_kinds = super::every_kind();
    page.magic = RING_MAGIC;
    page
}

/// An empty memfd.
pub(super) fn memfd(name: &str, bytes: u64, seals: SealFlags) -> File {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, bytes).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd.into()
}

pub(super) const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

impl Writer {
    pub(super) fn new(rings: u32, ring_slots: u32) -> Self {
        Self::with_page(page(rings, ring_slots))
    }

    pub(super) fn with_page(page: RingPage) -> Self {
        let file = memfd("hz_test", page.bytes, SEALS);
        file.write_all_at(page.as_bytes(), 0).unwrap();
        let map = Map::new(&file, 1).unwrap();
        Self { file, page, map }
    }

    pub(super) fn open(&self) -> Result<RuntimeMemory, AttachError> {
        let pid = std::process::id();
        Found::in_file(&self.file, pid).map(|found| RuntimeMemory::of(found, pid))
    }

    fn ring_at(&self, ring: u32) -> u64 {
        self.page.rings_offset + u64::from(ring) * self.page.ring_stride
    }

    pub(super) fn head(&self, ring: u32) -> u64 {
        self.map.load(self.ring_at(ring))
    }

    pub(super) fn set_head(&self, ring: u32, head: u64) {
        self.map.word(self.ring_at(ring)).unwrap().store(head, Ordering::Release);
    }

    /// Writes a record as the protocol has it.
    pub(super) fn push(&self, ring: u32, slot: RingSlot) {
        let head = self.head(ring);
        let slots = u64::from(self.page.ring_slots);
        let at = self.ring_at(ring)
            + size_of::<RingHeader>() as u64
            + head % slots * size_of::<RingSlot>() as u64;
        for (place, word) in (0..).zip(slot.as_bytes().chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            self.map.word(at + 8 * place).unwrap().store(word, Ordering::Relaxed);
        }
        self.set_head(ring, head + 1);
        fence(Ordering::Release);
    }

    /// Writes `poll_begin` of `task`.
    pub(super) fn poll(&self, ring: u32, stamp: u64, task: u64) {
        let kind = Kind::PollBegin as u16;
        self.push(ring, RingSlot { stamp, kind, aux: 0, arg: ring, task, value: 0 });
    }

    /// A thread takes a ring.
    pub(super) fn own(&self, ring: u32, stamp: u64, tid: u32) {
        let at = self.ring_at(ring);
        let head = self.head(ring);
        let half = |offset: usize| self.map.half(at + offset as u64).unwrap();
        half(offset_of!(RingHeader, worker)).store(ring, Ordering::Release);
        let from = self.map.word(at + offset_of!(RingHeader, owner_from) as u64).unwrap();
        from.store(head, Ordering::Release);
        half(offset_of!(RingHeader, owner_tid)).store(tid, Ordering::Release);
        let (kind, value) = (SLOT_OWNER, u64::from(tid));
        self.push(ring, RingSlot { stamp, kind, aux: 0, arg: ring, task: 0, value });
    }

    /// Adds a text; its number.
    pub(super) fn text(&self, text: &str) -> u32 {
        let number = self.map.load_half(offset_of!(RingPage, texts_used) as u64);
        let mut slot = TextSlot::new_zeroed();
        slot.bytes = u32::try_from(text.len()).unwrap();
        slot.text[..text.len()].copy_from_slice(text.as_bytes());
        let at = self.page.texts_offset + u64::from(number) * size_of::<TextSlot>() as u64;
        self.file.write_all_at(slot.as_bytes(), at).unwrap();
        self.set_half(offset_of!(RingPage, texts_used), number + 1);
        number + 1
    }

    /// Adds a site; its number.
    pub(super) fn site(&self, site: SiteSlot) -> u32 {
        let number = self.map.load_half(offset_of!(RingPage, sites_used) as u64);
        let at = self.page.sites_offset + u64::from(number) * size_of::<SiteSlot>() as u64;
        self.file.write_all_at(site.as_bytes(), at).unwrap();
        self.set_half(offset_of!(RingPage, sites_used), number + 1);
        number + 1
    }

    /// Fills slot `index` of the directory.
    pub(super) fn task(&self, index: u32, slot: DirectorySlot) {
        let at = self.page.directory_offset + u64::from(index) * size_of::<DirectorySlot>() as u64;
        self.file.write_all_at(slot.as_bytes(), at).unwrap();
        let used = self.map.load_half(offset_of!(RingPage, directory_used) as u64);
        self.set_half(offset_of!(RingPage, directory_used), used.max(index + 1));
    }

    /// Sets a field of four bytes of the page.
    pub(super) fn set_half(&self, offset: usize, value: u32) {
        self.map.half(offset as u64).unwrap().store(value, Ordering::Release);
    }

    /// Sets eight bytes anywhere.
    pub(super) fn set_word(&self, offset: u64, value: u64) {
        self.map.word(offset).unwrap().store(value, Ordering::Release);
    }

    /// The lease in slot `place`: pid, kinds, deadline.
    pub(super) fn lease(&self, place: u64) -> (u32, u64, u64) {
        let at = self.page.leases_offset + place * size_of::<Lease>() as u64;
        let word = |offset: usize| self.map.load(at + offset as u64);
        let pid = self.map.load_half(at);
        (pid, word(offset_of!(Lease, kinds)), word(offset_of!(Lease, deadline_ns)))
    }

    /// Takes lease `place` back.
    pub(super) fn clear_lease(&self, place: u64) {
        let at = self.page.leases_offset + place * size_of::<Lease>() as u64;
        self.set_word(at + offset_of!(Lease, deadline_ns) as u64, 0);
        self.set_word(at + offset_of!(Lease, kinds) as u64, 0);
        self.map.half(at).unwrap().store(0, Ordering::Release);
    }

    pub(super) fn leases_changed(&self) -> u32 {
        self.map.load_half(offset_of!(RingPage, leases_changed) as u64)
    }
}
