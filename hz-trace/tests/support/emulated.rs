//! Whether tests run on an emulated host.

/// Whether the CPUs are a program, which runs one at a time.
pub(crate) fn is_emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU TCG"))
}
