//! Maps of rows in the kernel: one for each file, made while the programs run.

use hz_probes_ebpf::Row;
use libbpf_rs::{AsRawLibbpf as _, MapCore as _, MapFlags, MapHandle, MapType, Object, OpenObject};
use rustix::mm::{MapFlags as MemoryFlags, ProtFlags, mmap, munmap};
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
};

/// What the map of maps is called.
const NAME: &str = "ROWS";

/// How BTF numbers the types of a map's keys and values.
///
/// A map has the same types as the one that the programs were verified with, since Linux 6.1 and older take no
/// other: `bpf_map_meta_equal` compares where BTF says that a timer is, and that of a map without BTF
/// differs from that of one whose BTF has none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Types {
    key: u32,
    value: u32,
}

impl Types {
    /// Asked before the object is loaded: libbpf forgets them then.
    pub(super) fn of(open: &OpenObject) -> Self {
        let Some(outer) = open.maps().find(|map| map.name() == NAME) else {
            return Self::default();
        };
        let outer = outer.as_libbpf_object().as_ptr();
        // SAFETY: a map of an object that lives.
        let inner = unsafe { libbpf_sys::bpf_map__inner_map(outer) };
        let Some(inner) = NonNull::new(inner) else { return Self::default() };
        // SAFETY: as above; libbpf keeps it as long as it is not loaded.
        let key = unsafe { libbpf_sys::bpf_map__btf_key_type_id(inner.as_ptr()) };
        // SAFETY: as above.
        let value = unsafe { libbpf_sys::bpf_map__btf_value_type_id(inner.as_ptr()) };
        Self { key, value }
    }
}

/// The map of maps.
#[derive(Debug)]
pub(super) struct RowMaps {
    outer: MapHandle,
    /// BTF that [`Types`] are numbers of.
    btf: Option<OwnedFd>,
    types: Types,
    next: u32,
}

impl RowMaps {
    /// That of a loaded object; `None`: it has none.
    pub(super) fn of(object: &Object, types: Types) -> Option<Self> {
        let outer = object.maps().find(|map| map.name() == NAME)?;
        let outer = MapHandle::try_from(&outer).ok()?;
        // SAFETY: an object that lives.
        let fd = unsafe { libbpf_sys::bpf_object__btf_fd(object.as_libbpf_object().as_ptr()) };
        let btf = (fd >= 0).then(|| {
            // SAFETY: the object keeps it open for the length of the call.
            unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().ok()
        });
        Some(Self { outer, btf: btf.flatten(), types, next: 0 })
    }

    /// How many files have theirs.
    pub(super) const fn count(&self) -> u32 {
        self.next
    }

    /// Puts rows into the kernel; the number of their table.
    pub(super) fn insert(&mut self, rows: &[Row]) -> io::Result<u32> {
        let map = self.create(rows.len())?;
        write(&map, rows)?;
        let fd = map.as_fd().as_raw_fd().to_ne_bytes();
        let number = self.next;
        self.outer.update(&number.to_ne_bytes(), &fd, MapFlags::ANY).map_err(io::Error::other)?;
        self.next += 1;
        Ok(number)
    }

    /// A map for so many rows.
    fn create(&self, rows: usize) -> io::Result<MapHandle> {
        let mut options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: libbpf_sys::BPF_F_INNER_MAP | libbpf_sys::BPF_F_MMAPABLE,
            ..Default::default()
        };
        if let Some(btf) = &self.btf {
            options.btf_fd = u32::try_from(btf.as_raw_fd()).map_err(io::Error::other)?;
            options.btf_key_type_id = self.types.key;
            options.btf_value_type_id = self.types.value;
        }
        let length = u32::try_from(rows + 1).map_err(io::Error::other)?;
        let row = u32::try_from(size_of::<Row>()).map_err(io::Error::other)?;
        let map = MapHandle::create(MapType::Array, Some("hz_rows"), 4, row, length, &options);
        map.map_err(io::Error::other)
    }
}

/// Writes rows through memory: a call for each would take 20 times as long.
fn write(map: &MapHandle, rows: &[Row]) -> io::Result<()> {
    let count = u32::try_from(rows.len()).map_err(io::Error::other)?;
    let bytes = (size_of_val(rows) + size_of::<Row>()).next_multiple_of(rustix::param::page_size());
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: new memory at a place that the kernel chooses.
    let base =
        unsafe { mmap(ptr::null_mut(), bytes, protection, MemoryFlags::SHARED, map.as_fd(), 0)? };
    let first = base.cast::<Row>();
    // SAFETY: the map has one row more than there are, each as long as a `Row`; nobody else knows it yet.
    unsafe { first.write(Row { pc: count, rule: 0 }) };
    // SAFETY: as above.
    let second = unsafe { first.add(1) };
    // SAFETY: as above.
    unsafe { ptr::copy_nonoverlapping(rows.as_ptr(), second, rows.len()) };
    // SAFETY: mapped above, and no pointer into it is left.
    unsafe { munmap(base, bytes) }?;
    Ok(())
}
