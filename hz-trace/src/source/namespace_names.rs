//! What people call a network namespace: the host, a name of `ip netns`, a container, a process.

use crate::host::Namespace;
use std::{fs, os::unix::fs::MetadataExt as _};

/// Where `ip netns add` puts names.
const NAMED: &str = "/run/netns";

/// Inode of the host's own, fixed by the kernel from Linux 6.17 on (`PROC_NET_INIT_INO` in
/// `include/uapi/linux/nsfs.h`).
const INITIAL: u32 = 0xefff_fff9;

/// Characters of a container's id that are shown, as its own tools do.
const ID_SHOWN: usize = 12;

/// What the network namespace `inode`, in which the process `pid` is, is called.
#[must_use]
pub fn namespace_name(pid: u32, inode: u32) -> String {
    let is_it = |path: &str| fs::metadata(path).is_ok_and(|found| found.ino() == u64::from(inode));
    let is_first = inode == INITIAL || (Namespace::Pid.is_initial() && is_it("/proc/1/ns/net"));
    if is_first {
        return "host".to_owned();
    }
    if let Some(name) = name_of_ip_netns(inode) {
        return format!("netns {name}");
    }
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if let Some(container) = container_of(&cgroup) {
        let hostname = fs::read_to_string(format!("/proc/{pid}/root/etc/hostname"));
        let hostname = hostname.unwrap_or_default().trim().to_owned();
        return match hostname.is_empty() || container.ends_with(&hostname) {
            true => container,
            false => format!("{container} ({hostname})"),
        };
    }
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("that of {} ({pid})", comm.trim())
}

fn name_of_ip_netns(inode: u32) -> Option<String> {
    let entries = fs::read_dir(NAMED).ok()?;
    let mut found = entries.flatten().filter(|entry| {
        // Not the entry's own: that is of the file on which the namespace is mounted.
        fs::metadata(entry.path()).is_ok_and(|file| file.ino() == u64::from(inode))
    });
    found.next().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// The container that `/proc/PID/cgroup` names: what runs it, and the begin of its id.
fn container_of(cgroup: &str) -> Option<String> {
    let parts = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let parts: Vec<&str> = parts.flat_map(|path| path.split('/')).collect();
    // The innermost: a container may run in one.
    parts.iter().enumerate().rev().find_map(|(place, part)| {
        let outer = parts.get(place.wrapping_sub(1)).copied().unwrap_or_default();
        container_in(outer, part)
    })
}

fn container_in(outer: &str, part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    if let Some(machine) = name.strip_prefix("lxc.payload.") {
        return Some(format!("lxc {machine}"));
    }
    let machine = part.strip_prefix("systemd-nspawn@").or_else(|| name.strip_prefix("machine-"));
    if let Some(machine) = machine {
        return Some(format!("nspawn {}", machine.trim_end_matches(".service")));
    }
    let (runtime, id) = name.rsplit_once('-').unwrap_or((outer, name));
    let is_id = id.len() == 64 && id.bytes().all(|each| each.is_ascii_hexdigit());
    let runtime = match runtime {
        "docker" => "docker",
        "cri-containerd" => "containerd",
        "crio" => "cri-o",
        "libpod" => "podman",
        _ => "container",
    };
    is_id.then(|| format!("{runtime} {}", &id[..ID_SHOWN]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_control_group() {
        let id = "3f2a1b0c9d8e7f60".repeat(4);
        let short = "3f2a1b0c9d8e";
        for (path, name) in [
            (format!("0::/system.slice/docker-{id}.scope"), format!("docker {short}")),
            (format!("12:pids:/docker/{id}\n0::/"), format!("docker {short}")),
            (
                format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
                format!("containerd {short}"),
            ),
            (format!("0::/kubepods/burstable/pod1/{id}"), format!("container {short}")),
            (format!("0::/machine.slice/libpod-{id}.scope/container"), format!("podman {short}")),
            ("0::/lxc.payload.web/system.slice/x.service".to_owned(), "lxc web".to_owned()),
            (
                "0::/machine.slice/systemd-nspawn@db.service/payload".to_owned(),
                "nspawn db".to_owned(),
            ),
        ] {
            assert_eq!(container_of(&path), Some(name), "{path}");
        }
        assert_eq!(container_of("0::/user.slice/session-3.scope"), None);
        assert_eq!(container_of(""), None);
    }

    #[test]
    fn a_namespace_of_nobody_known_is_called_by_its_process() {
        let name = namespace_name(std::process::id(), 1);
        assert!(name.starts_with("that of ") || container_of_self(&name), "{name}");
    }

    /// The tests may themselves run in a container.
    fn container_of_self(name: &str) -> bool {
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
        container_of(&cgroup).is_some_and(|container| name.starts_with(&container))
    }
}
