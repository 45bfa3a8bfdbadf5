/* Kernel probe `net`: why bytes wait. What TCP sends again and why, whose sockets they are, what is in their
 * queues, how connections live and end, what was dropped.
 *
 * Needs BTF tracepoints: what is kept of a socket lives in the socket, which only they can reach.
 *
 * Blind spots: probes of a tail that carry new data, which are no retransmits; windows that close
 * while a connection is half closed; packets behind more IPv6 headers than one; which thread
 * queued a byte when more than SENDS sends are in flight. */
#include "net_state.h"
#include "net_owner.h"
#include "net_life.h"
#include "net_retransmit.h"
#include "net_drops.h"
#include "net_sample.h"
#include "net_sojourn.h"

char LICENSE[] SEC("license") = "GPL";
