/* The error numbers that libbpf's usdt.bpf.h includes this file for. The kernel's header of this
 * name includes one per architecture, which clang does not find when it compiles for BPF. */
#pragma once

#define ENOENT 2
#define ESRCH  3
#define EINVAL 22
