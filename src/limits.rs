//! Limits of the host side, each with its reason.

/// Names and ids: the longest that fits a 128-byte buffer with its NUL.
pub(crate) const NAME_MAX: usize = 127;
/// A `struct_size` beyond this is not a struct; nothing after it is read.
pub(crate) const STRUCT_SIZE_MAX: usize = 4096;
/// Capacity of a queue, messages. One is no queue: "full" and "free for the next lap" would be one number.
pub(crate) const QUEUE_CAPACITY_MIN: u32 = 2;
/// Capacity of a queue, messages: the largest power of two that the option's 32 bits can say.
pub(crate) const QUEUE_CAPACITY_MAX: u32 = 1 << 31;
/// Capacity of a queue when the option is 0.
pub(crate) const QUEUE_CAPACITY_DEFAULT: u32 = 1024;
/// Places for events of operations and watches when 0 is asked for, and at most.
pub(crate) const EVENTS_MAX_DEFAULT: u32 = 4096;
/// See [`EVENTS_MAX_DEFAULT`].
pub(crate) const EVENTS_MAX: u32 = 1 << 24;
/// Payload when the option is 0: header and payload together are four cache lines.
pub(crate) const PAYLOAD_DEFAULT: u32 = 192;
/// Largest payload: with the header still below 2^32 and a multiple of 64.
pub(crate) const PAYLOAD_MAX: u32 = (1 << 31) - 64;
/// Blocks of one kernel on the CPU.
pub(crate) const GRID_MAX: u32 = 65_536;
/// Blocks of one persistent kernel on the CPU: each is a thread.
pub(crate) const PERSISTENT_GRID_MAX: u32 = 1024;
/// Threads of a block on a device when the option is 0: enough to keep an SM's schedulers busy.
pub(crate) const BLOCK_SIZE_DEFAULT: u32 = 256;
/// Live kernels of a runtime when the option is 0.
pub(crate) const KERNELS_MAX_DEFAULT: u32 = 1 << 20;
/// Bits of a handle that are an index; the others are the generation.
pub(crate) const HANDLE_INDEX_BITS: u32 = 24;
/// Bits of a lease that are an index into the table of rings.
pub(crate) const LEASE_INDEX_BITS: u32 = 22;
/// Bits of a lease that are the position in its ring: a stale lease is recognised unless exactly 2^40
/// messages have passed since, a day at ten million a second.
pub(crate) const LEASE_POSITION_BITS: u32 = 40;
/// Entries of a table that are allocated at once: one allocation per 4096 objects.
pub(crate) const TABLE_CHUNK: usize = 4096;
/// Messages a block handles before others get the worker: bounds how long a busy kernel delays an idle one,
/// and shares one queue operation among many messages.
pub(crate) const BATCH_MAX: usize = 64;
/// Messages without a pause that make a stream: enough to pay for the system call when it ends, which takes up to ten
/// microseconds where it interrupts another CPU.
pub(crate) const STREAM_MIN: usize = 256;
/// Messages after which who runs an event-driven block waits a moment for the next one.
pub(crate) const LINGER_MIN: usize = 8;
/// Handlers that one waiting thread runs inside each other: bounds its stack.
pub(crate) const HELP_DEPTH_MAX: usize = 16;
/// Shared workers of a runtime: more than any machine has cores, few enough to be a typing error otherwise.
pub(crate) const WORKERS_MAX: u32 = 1024;
/// Workers that may be started because others wait inside their handlers.
pub(crate) const SPARE_WORKERS_MAX: usize = 256;
/// Time that current handlers get to come to an end once a terminate has run out of time.
pub(crate) const TERMINATE_GRACE_NS: u64 = 100_000_000;
/// The part of it that does not count: a handler that has answered is about to return.
pub(crate) const TERMINATE_SLACK_NS: u64 = 50_000_000;
/// Time that `rk_runtime_destroy` lets kernels drain.
pub(crate) const DESTROY_DRAIN_NS: u64 = 2_000_000_000;
/// Time that `rk_runtime_destroy` waits for handlers after that.
pub(crate) const DESTROY_GRACE_NS: u64 = 3_000_000_000;
/// Pieces of up to so many bytes are the arena's.
pub(crate) const ARENA_PIECE_MAX: usize = 4096;
/// A short queue whose block was idle for so long (in steps of 2^20 ns, some steps of the coarse clock) before it was used gives its memory
/// back as soon as it is empty again: to take and to give cost some 200 ns, one in 80 000 of that time.
pub(crate) const QUEUE_RARE_MS: u32 = 16;
/// An empty queue that has not been used for so long gives its memory to one that needs some now. To take and to give costs some 200 ns,
/// so a queue that is used again that soon pays 0.2 % of a CPU for it.
pub(crate) const QUEUE_LENDS_NS: u64 = 100_000;
/// Such queues that who needs memory looks at before it takes some that was never used.
pub(crate) const QUEUE_LOOKS: usize = 3;
/// An empty queue that has not been used for so long gives its memory back though nobody needs it.
pub(crate) const QUEUE_IDLE_NS: u64 = 1_000_000_000;
/// How long the control thread looks at queues in one go, if none takes longer.
pub(crate) const QUEUE_SWEEP_NS: u64 = 1_000_000;
/// Time that it leaves to others between two of these.
pub(crate) const QUEUE_SWEEP_PAUSE_NS: u64 = 10_000_000;
/// An output queue in which something stays is looked at again after so long, and [`QUEUE_IDLE_NS`].
pub(crate) const QUEUE_KEPT_NS: u64 = 3_000_000_000;
/// Its first region for a size, and its largest.
pub(crate) const ARENA_REGION_MIN: usize = 16 << 10;
/// See [`ARENA_REGION_MIN`].
pub(crate) const ARENA_REGION_MAX: usize = 2 << 20;
/// Dead letters kept for `rk_receive_dead_letter`; more are counted and dropped.
pub(crate) const DEAD_LETTERS_MAX: usize = 65_536;
/// Payload bytes of dead letters kept.
pub(crate) const DEAD_LETTER_BYTES_MAX: usize = 64 << 20;
/// Time that a caller looks for the answer of a device by itself before it sleeps: some tens of round trips over the bus.
pub(crate) const REMOTE_SPIN_NS: u64 = 100_000;
/// Turns of a spin between two looks of a sender that found a queue full: about a microsecond, some tens of messages.
pub(crate) const FULL_SPINS: u32 = 64;
/// Such looks before it waits as others do.
pub(crate) const FULL_LOOKS: u32 = 8;
/// Some steps of the coarse clock (4 ms mostly): what it shows of so much is not the chance of a step.
pub(crate) const COARSE_SURE_NS: u64 = 16_000_000;
/// A block whose runs take less keeps what it makes ready for the same worker; about what it costs to get it to another that is awake.
pub(crate) const SHORT_RUN_NS: u64 = 2_000;
/// Kept blocks that a worker runs one after the other before it looks into the other queues.
pub(crate) const KEPT_MAX: u32 = 32;
/// Blocks that a worker keeps at most; with short runs they are done in the time that it takes to wake another worker.
pub(crate) const NEAR_MAX: usize = 16;
/// Messages to kernels that a block keeps while it takes input all the same: as many as there are dead letters, for that is what
/// those beyond become.
pub(crate) const KEPT_MESSAGES_MAX: usize = DEAD_LETTERS_MAX;
/// Restarts of a kernel if nobody says how many: a fault that comes by itself goes by in less, one that is in the program does not.
pub(crate) const RESTART_MAX_DEFAULT: u32 = 3;
/// Points in time that are remembered of restarts; if more may lie in a window, some are taken together.
pub(crate) const RESTART_TIMES_MAX: usize = 1024;
/// How long a watching worker sleeps.
pub(crate) const WATCH_NS: u64 = 2_000_000;
/// Of so many runs of a worker's blocks the time of one is measured.
pub(crate) const PACE_EVERY: u32 = 16;
/// Times that who has run many messages looks for the next one before it leaves: about the time that it takes to get a block to a
/// worker again, so waiting costs at most as much again as not to wait.
pub(crate) const LINGER_ROUNDS: u32 = 256;
/// Pauses before the first of these looks. A receiver that keeps up with its sender takes each cache line from it as it is being
/// written; one that lets some messages come first does not.
pub(crate) const SETTLE_ROUNDS: u32 = 24;
/// A thread's calls to blocks at rest that begin so far apart find their threads asleep: longer than a wake-up takes.
pub(crate) const RESTED_NS: u64 = 60_000;
/// Times a waiter looks again before it lets go of its CPU: about the time two cores need to hand over.
pub(crate) const SPIN_ROUNDS: u32 = 64;
/// Times a waiter yields after that and before it sleeps.
pub(crate) const YIELD_ROUNDS: u32 = 8;
