/* Whether a thread is in the control group that is recorded; the including file has CONFIG. */
#pragma once
#include "kernel.h"
#include <bpf/bpf_core_read.h>

static __always_inline bool in_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct cgroup___with_ids *older = (void *)cgroup;
	struct cgroup *ancestor = NULL;
	__u32 level = CONFIG.cgroup_level;
	__u64 id = 0;

	if (BPF_CORE_READ(cgroup, level) < (int)level)
		return false;
	if (bpf_core_field_exists(older->ancestor_ids)) {
		bpf_core_read(&id, sizeof(id), &older->ancestor_ids[level]);
		return id == CONFIG.cgroup_id;
	}
	bpf_core_read(&ancestor, sizeof(ancestor), &cgroup->ancestors[level]);
	return BPF_CORE_READ(ancestor, kn, id) == CONFIG.cgroup_id;
}
