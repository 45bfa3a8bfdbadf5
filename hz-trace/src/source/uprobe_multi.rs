//! All probes of a file under one link (`uprobe_multi`), which aya 0.14 cannot make.
//!
//! Links of single probes come off one after the other, under a mutex, with some 100 ms of grace
//! periods each: 30 of them took 3.3 s here, also to `exit` after a `kill -9`. This takes the
//! programs as aya relocates them, loads them once more for the other kind of link, and makes it.

use crate::symbol::Site;
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use libbpf_rs::libbpf_sys as sys;
use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Sites with their numbers.
pub(super) type Numbered<'a> = [(u64, &'a Site)];

/// A program that takes links with many probes. The kernel frees it with its last link.
#[derive(Debug)]
pub(super) struct MultiProgram(OwnedFd);

impl MultiProgram {
    /// Loads a program of `object` with the maps that `bpf` has made of it; `None` if the kernel
    /// does not take it, for whatever reason: then single probes will do, or tell why not.
    ///
    /// Not before Linux 6.10: until then a link with a process filters by its first thread only.
    /// <https://github.com/torvalds/linux/commit/46ba0e49b64232adac35a2bc892f1710c5b0fb7f>
    pub(super) fn load(object: &[u8], bpf: &Ebpf, name: &str) -> Option<Self> {
        let is_new_enough = procfs::sys::kernel::Version::current()
            .is_ok_and(|kernel| (kernel.major, kernel.minor) >= (6, 10));
        let (instructions, license) =
            if is_new_enough { relocated(object, bpf, name)? } else { return None };
        let name = CString::new(name).ok()?;
        let mut options = sys::bpf_prog_load_opts {
            sz: size_of::<sys::bpf_prog_load_opts>() as sys::size_t,
            expected_attach_type: sys::BPF_TRACE_UPROBE_MULTI,
            ..Default::default()
        };
        // SAFETY: every pointer is to a living object; both crates take `bpf_insn` from the
        // kernel's header.
        let fd = unsafe {
            sys::bpf_prog_load(
                sys::BPF_PROG_TYPE_KPROBE,
                name.as_ptr(),
                license.as_ptr(),
                instructions.as_ptr().cast(),
                instructions.len() as sys::size_t,
                &raw mut options,
            )
        };
        owned(fd).ok().map(Self)
    }

    /// Puts the program on sites of one file, for one process or for all.
    pub(super) fn attach(
        &self,
        binary: &Path,
        sites: &Numbered<'_>,
        is_return: bool,
        pid: Option<u32>,
    ) -> io::Result<OwnedFd> {
        let path = CString::new(binary.as_os_str().as_bytes())?;
        let offsets: Vec<_> = sites.iter().map(|(_, site)| site.file_offset).collect();
        let cookies: Vec<_> = sites.iter().map(|(number, _)| *number).collect();
        let mut options = sys::bpf_link_create_opts {
            sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
            ..Default::default()
        };
        options.__bindgen_anon_1.uprobe_multi =
            sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_3 {
                flags: if is_return { sys::BPF_F_UPROBE_MULTI_RETURN } else { 0 },
                cnt: u32::try_from(sites.len()).map_err(io::Error::other)?,
                path: path.as_ptr(),
                offsets: offsets.as_ptr(),
                cookies: cookies.as_ptr(),
                pid: pid.unwrap_or(0),
                ref_ctr_offsets: ptr::null(),
                ..Default::default()
            };
        // SAFETY: the path and both lists, of `cnt` entries each, outlive the call.
        let fd = unsafe {
            sys::bpf_link_create(
                self.0.as_raw_fd(),
                0,
                sys::BPF_TRACE_UPROBE_MULTI,
                &raw const options,
            )
        };
        owned(fd)
    }

    /// The kernel's number for the program.
    pub(super) fn id(&self) -> Option<u32> {
        let mut info = sys::bpf_prog_info::default();
        let mut bytes = size_of::<sys::bpf_prog_info>() as u32;
        // SAFETY: the kernel writes no more than `bytes` into a structure of that size.
        let status = unsafe {
            sys::bpf_prog_get_info_by_fd(self.0.as_raw_fd(), &raw mut info, &raw mut bytes)
        };
        (status == 0).then_some(info.id)
    }
}

/// Groups sites by the file they are in.
pub(super) fn by_file<'a>(sites: &Numbered<'a>) -> BTreeMap<&'a Path, Vec<(u64, &'a Site)>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, site) in sites {
        files.entry(site.binary.as_path()).or_default().push((*number, *site));
    }
    files
}

/// A program's instructions with the numbers of its maps in place, and the object's licence.
fn relocated(object: &[u8], bpf: &Ebpf, name: &str) -> Option<(Vec<bpf_insn>, CString)> {
    let mut object = Object::parse(object).ok()?;
    let text = object.functions.keys().map(|(section, _)| *section).collect::<HashSet<_>>();
    let maps = std::mem::take(&mut object.maps);
    let made: Option<Vec<_>> = maps
        .iter()
        .map(|(name, map)| Some((name.as_str(), map_fd(bpf.map(name)?)?, map)))
        .collect();
    object.relocate_maps(made?.into_iter(), &text).ok()?;
    object.relocate_calls(&text).ok()?;
    let function = object.functions.get(&object.programs.get(name)?.function_key())?;
    Some((function.instructions.clone(), object.license.clone()))
}

fn map_fd(map: &Map) -> Option<RawFd> {
    let fd = |data: &MapData| data.fd().as_fd().as_raw_fd();
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => {
            Some(fd(data))
        }
        _ => None,
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel has just made it for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
