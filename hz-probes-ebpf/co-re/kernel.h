/* The kernel's types, cut to the fields that hz reads. CO-RE finds each field in the running
 * kernel's BTF, so neither order nor offset matters here, only names and types. */
#pragma once

typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __s32 int32_t;
typedef __u64 uint64_t;
typedef int pid_t;
typedef _Bool bool;
#define true	   1
#define false	   0
#define NULL	   ((void *)0)
#define UINT32_MAX 0xffffffffu

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};

/* Flags of helpers, from include/uapi/linux/bpf.h. */
#define BPF_ANY		 0
#define BPF_NOEXIST	 1
#define BPF_RB_NO_WAKEUP 1
#define BPF_F_NO_PREALLOC 1

#define EEXIST 17 /* include/uapi/asm-generic/errno-base.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_info {
	__u32 cpu;
};

struct sched_entity {
	unsigned char sched_delayed; /* since Linux 6.12 */
};

struct sched_info {
	unsigned long long run_delay;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[];
};

/* Before Linux 6.1. */
struct cgroup___with_ids {
	__u64 ancestor_ids[];
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	unsigned int flags;
	int on_cpu;
	int on_rq;
	int prio;
	struct sched_entity se;
	struct sched_info sched_info;
	pid_t pid;
	pid_t tgid;
	struct task_struct *real_parent;
	unsigned long nvcsw;
	unsigned long nivcsw;
	__u64 start_time;
	struct css_set *cgroups;
	char comm[16];
};

/* Before Linux 5.16, and in kernels that distributions keep alive from then: there
 * `thread_info.cpu` may exist and never be set. */
struct task_struct___with_cpu {
	unsigned int cpu;
};

/* Only the address of the instruction, on x86 and elsewhere: for libbpf's USDT, which asks for it on
 * kernels without cookies. */
struct pt_regs {
	unsigned long ip;
	unsigned long di;
	unsigned long orig_ax;
};
/* arm64. */
struct pt_regs___arm64 {
	__u64 orig_x0;
	__s32 syscallno;
};
struct user_pt_regs {
	__u64 pc;
};

struct linux_binprm;
struct irqaction;

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop
