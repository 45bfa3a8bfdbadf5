//! Answers to questions about a model: why something had to wait. Pure.

mod check;
mod culprit;
mod distribution;
pub(crate) mod flame;
mod joined;
mod leaks;
mod live;
mod net;
mod polls;
mod program;
mod slow;
mod summary;
mod tasks;
mod waits;
mod workers;

pub use check::{Check, Counts};
pub use culprit::{Culprit, Culprits, ProcessCulprit, culprits};
pub use distribution::Distribution;
pub use flame::{
    BlockingStack, Change, Diff, Flame, FlameKind, FlameQuery, Frame, FrameIndex, FrameKind,
    Frames, FunctionUse, GroupBy, LockUse, Missing, Site, Timed, TimedPart, Tops, Unit, Waiting,
    diff, flame, locks, read_folded, timed_flame, tops, write_folded,
};
pub(crate) use flame::{annotated, folded_lines};
pub use joined::{IoWait, SocketCause, SocketIdle, SocketWaits};
pub use leaks::{Parked, TasksOverTime};
pub use live::{Awaited, Group, GroupKey, Growing, Growth, LiveTask, Names, groups, parked_groups};
pub use net::{
    Connection, Counted, Device, DeviceWaits, Discipline, Dropped, End, Listener, NamespaceUse,
    NetSummary, Owner, Owners, PeerRow, Pool, PortUse, QUEUE_OVER_PCT, QueueKind, QueueOver,
    QueuedPackets, ReasonRow, Retransmitted, Setting, SocketWait, SocketWaitKind, UdpUse, Verdict,
    reason_name, summarize_net, summarize_net_over, waits_of_socket, worst_connections,
};
pub(crate) use net::{accept_waits_ns, connect_times_ns};
pub use polls::{ClockCheck, KernelTime, culprits_in, kernel_time, tiles_in};
pub use program::{
    BufferPoolUse, IdleOn, MarkUse, NamedSpans, Slowest, Spent, TaskAllocations, idle_words,
};
pub use slow::SlowPoll;
pub use summary::{
    CpuUse, Holder, LostBySite, OwnUse, ProcessUse, Summary, ThreadWaits, Worst, summarize,
};
pub use tasks::{POLL_OVER_NS, Placement, TaskGroup, TaskSummary, TaskUse, summarize_tasks};
pub use waits::{Wait, culprits_of, waits_of};
pub use workers::{RuntimeUse, StealSum, WorkerUse};
