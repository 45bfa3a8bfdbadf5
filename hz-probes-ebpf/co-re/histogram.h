/* Histograms of times. */
#pragma once
#include "kernel.h"
#include "vocabulary.h"
#include <bpf/bpf_helpers.h>

/* The same as `bucket_of` in Rust; a test compares what both make of the same waits. */
static __always_inline __u32 bucket_of(__u64 ns)
{
	__u64 rest = ns;
	__u32 exponent = 0, bucket;

	if (ns < 4)
		return ns;
	if (rest >> 32) {
		rest >>= 32;
		exponent += 32;
	}
	if (rest >> 16) {
		rest >>= 16;
		exponent += 16;
	}
	if (rest >> 8) {
		rest >>= 8;
		exponent += 8;
	}
	if (rest >> 4) {
		rest >>= 4;
		exponent += 4;
	}
	if (rest >> 2) {
		rest >>= 2;
		exponent += 2;
	}
	if (rest >> 1)
		exponent += 1;
	bucket = (exponent - 1) * 4 + ((ns >> (exponent - 2)) & 3);
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}
