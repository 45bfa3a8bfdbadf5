//! What the running kernel says of its own types.

use crate::error::StartError;
use libbpf_rs::{
    ReferencesType as _,
    btf::{Btf, types},
};

/// The running kernel's type information.
#[derive(Debug)]
pub struct KernelTypes {
    btf: Btf<'static>,
}

impl KernelTypes {
    /// Reads `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    ///
    /// [`StartError::NoBtf`] if the kernel has none.
    pub fn of_running_kernel() -> Result<Self, StartError> {
        Btf::from_vmlinux().map(|btf| Self { btf }).map_err(|source| StartError::NoBtf { source })
    }

    /// Whether the kernel has the tracepoint `name` for BTF and raw programs.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoint_args(name).is_some()
    }

    /// Where the member `field` of the struct `name` is in it, in bytes; `None` if it has none, or one
    /// of bits.
    #[must_use]
    pub fn member_offset(&self, name: &str, field: &str) -> Option<u32> {
        let whole: types::Struct<'_> = self.btf.type_by_name(name)?;
        let mut members = whole.iter();
        let member = members.find(|member| member.name.is_some_and(|found| found == field))?;
        match member.attr {
            types::MemberAttr::Normal { offset } => Some(offset / 8),
            types::MemberAttr::BitField { .. } => None,
        }
    }

    /// Number of arguments that the tracepoint `name` passes to a program.
    #[must_use]
    pub fn tracepoint_args(&self, name: &str) -> Option<usize> {
        let typedef = self.btf.type_by_name::<types::Typedef<'_>>(&format!("btf_trace_{name}"))?;
        let pointer = types::Ptr::try_from(typedef.referenced_type()).ok()?;
        let function = types::FuncProto::try_from(pointer.referenced_type()).ok()?;
        // The first parameter is the tracepoint's own data, which programs do not get.
        function.len().checked_sub(1)
    }

    /// Whether the kernel has the function `name`, for programs to attach to.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.btf.type_by_name::<types::Func<'_>>(name).is_some()
    }

    /// Number of arguments of the function `name`; `None` if programs cannot attach to it.
    #[must_use]
    pub fn function_args(&self, name: &str) -> Option<usize> {
        let function = self.btf.type_by_name::<types::Func<'_>>(name)?;
        types::FuncProto::try_from(function.referenced_type()).ok().map(|proto| proto.len())
    }

    /// Names and values of the enumeration `name`; none if the kernel has no such type.
    #[must_use]
    pub fn enumeration(&self, name: &str) -> Vec<(String, u32)> {
        let Some(found) = self.btf.type_by_name::<types::Enum<'_>>(name) else { return Vec::new() };
        let members = found.iter().filter_map(|member| {
            let name = member.name?.to_string_lossy().into_owned();
            Some((name, u32::try_from(member.value).ok()?))
        });
        members.collect()
    }
}
