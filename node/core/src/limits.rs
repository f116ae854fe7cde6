//! Every bound of a node's queues, memory and time. The bounds of the wire formats are in `kvorum_protocol::limits`.

use kvorum_protocol::limits::{
    BATCH_OPERATIONS_MAX, FRAME_BYTES_MAX, NAME_BYTES_MAX, PEER_FRAME_BYTES_MAX, RAFT_ENTRY_BYTES_MAX,
};
use std::time::Duration;

/// Most unanswered requests of one shard; past it the answer is `Overloaded`. Twice the largest BATCH, so that one fits a queue of
/// which each client may hold as much as is left free, and what is reserved.
pub const SHARD_QUEUE_REQUESTS_MAX: usize = 2 * BATCH_OPERATIONS_MAX + SHARD_QUEUE_REQUESTS_RESERVED;
/// So many of them are kept for clients that hold next to nothing.
pub const SHARD_QUEUE_REQUESTS_RESERVED: usize = 1024;
/// A client holds next to nothing of a shard's queue while it holds fewer requests than this, with no more than
/// [`LIGHT_CLIENT_BYTES`].
pub const LIGHT_CLIENT_REQUESTS: usize = 16;
/// See [`LIGHT_CLIENT_REQUESTS`].
pub const LIGHT_CLIENT_BYTES: usize = 16 * 1024;
/// While the oldest request of a shard's queue has waited this long, new ones are answered `Overloaded`: the queue is
/// already longer than the shard can work off in good time.
pub const SHARD_QUEUE_DELAY_MAX_MS: u64 = 1_000;
/// Most bytes of unanswered requests of one shard.
pub const SHARD_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// So many of them are kept for clients that hold next to nothing, and the same part of [`NODE_QUEUE_BYTES_MAX`].
pub const SHARD_QUEUE_BYTES_RESERVED: usize = 4 * 1024 * 1024;
/// Most bytes of unanswered requests of all shards of a node.
pub const NODE_QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most bytes of consensus messages that wait for one shard; past it they are dropped, and sent again by their leader.
pub const SHARD_MESSAGES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most commands that wait for one shard; people and the node itself send one at a time.
pub const SHARD_COMMANDS_MAX: usize = 16;
/// Most bytes that a node remembers of its clients' writes, so that a retry takes effect once. Each shard of the cluster has an equal
/// share ([`crate::store::SessionLimits::of_shards`]): 8 MiB of 64 shards. The number is part of the replicated state machine: nodes that run with
/// another one drop other sessions.
pub const NODE_SESSION_BYTES_MAX: usize = 512 * 1024 * 1024;
/// A share is no less than this: room for a client that has sent as much as it may, or for some thousand that sent one write each. More than 512 shards
/// go beyond [`NODE_SESSION_BYTES_MAX`] by that.
pub const SHARD_SESSION_BYTES_MIN: usize = 1024 * 1024;
/// A share is no more than this, however few shards there are.
pub const SHARD_SESSION_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most bytes that a node remembers under one-shot names. Each shard of the cluster has an equal share
/// ([`crate::store::OnceLimits::of_shards`]): 4 MiB of 64 shards. It is part of the replicated state machine, too.
pub const NODE_ONCE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A share is no less than this: room for a thousand writes.
pub const SHARD_ONCE_BYTES_MIN: usize = 256 * 1024;
/// A share is no more than this: room for as many names as a shard remembers.
pub const SHARD_ONCE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most unanswered requests of one connection. Past it the node stops reading from the connection.
pub const SESSION_REQUESTS_MAX: usize = 1024;
/// A session stops taking requests while this many bytes of answers wait to be written.
pub const SESSION_OUTPUT_BYTES: usize = 1024 * 1024;
/// Most bytes of values that wait in memory until a session takes them; a read past it is answered `Overloaded`.
pub const SESSION_VALUES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A connection lets others go first once it has taken in and given out so many bytes in a row, each request counting for
/// [`SESSION_REQUEST_BYTES`] besides: about half a millisecond.
pub const SESSION_TURN_BYTES: usize = 256 * 1024;
/// What a request costs besides its bytes, as bytes.
pub const SESSION_REQUEST_BYTES: usize = 1024;
/// Bytes that a session asks the socket for at once.
pub const SESSION_READ_BYTES: usize = 64 * 1024;
/// A client must say HELLO within this time.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that is silent for so long is asked by the system whether it is there,
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
/// then again so often,
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
/// and its connection ends after so many questions without an answer.
pub const KEEP_ALIVE_PROBES: u32 = 6;
/// A connection that was asked nothing for this long, and has nothing under way, keeps no more than it needs to be woken.
pub const PARK_AFTER: Duration = Duration::from_millis(500);
/// What a peer does that it should not is logged at most once in this long for each shard.
pub const MISDEED_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Connections that can't be accepted are logged at most once in this long.
pub const ACCEPT_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Most steps of one change of the ring map.
pub const MAP_STEPS_MAX: usize = 32;
/// Most moves to or from a node at a time, to even out what nodes hold.
pub const MOVES_OF_BALANCE_MAX: usize = 1;
/// Most moves to or from a node at a time, to make anew what a lost node held.
pub const MOVES_OF_REPAIR_MAX: usize = 4;
/// Most moves to or from a node at a time, to empty one that is being removed.
pub const MOVES_OF_REMOVAL_MAX: usize = 2;
/// Most bytes of a shard's log that stay for replicas on their way with a snapshot.
pub const PINNED_LOG_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// A replica that has a snapshot and does not get on for this long keeps no entries in the log any more, in milliseconds.
pub const PINNED_LOG_REST_MS: u64 = 30_000;
/// Replicas that are opened at a time: each needs a few file descriptors meanwhile.
pub const OPENINGS_MAX: usize = 32;
/// A frame that has begun must be whole within this time.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// A client's TLS handshake must be over within this time.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes that a client may send until it is: a chain of a few certificates.
pub const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;
/// TLS handshakes that fail in one way are told of at most once in this time.
pub const HANDSHAKE_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// A client must take its answers within this time.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that is closed for what it sent is read from for this long, so that the client sees why.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes that are read and dropped meanwhile: a frame of the largest size, and what came behind it.
pub const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Connections past `connections_max` that are read from in this way at a time: each has a descriptor meanwhile. Further ones
/// are told why, and closed at once.
pub const REFUSED_LINGERING_MAX: usize = 16;
/// Bytes that are read at once meanwhile.
pub const LINGER_READ_BYTES: usize = 16 * 1024;
/// Work on more bytes than this at once (a record that is read, what a shard's turn takes in) stays off the threads that
/// answer small requests.
pub const LARGE_WORK_BYTES: usize = 256 * 1024;
/// After a turn with large work, the turns of the shard stay off those threads for this long: what large entries cost
/// when they are sent, synced and applied comes in later turns.
pub const LARGE_WORK_LINGER_MS: u64 = 1_000;
/// Large reads of a node that are worked on at a time; further ones wait.
pub const LARGE_READS_MAX: usize = 2;
/// Of messages that are not whole yet a connection may hold this much; what goes beyond shares [`LARGE_FRAMES_BYTES_MAX`].
pub const LARGE_FRAME_BYTES: usize = 256 * 1024;
/// Most bytes of large messages that are being received, over all connections. Past it connections wait their turn.
pub const LARGE_FRAMES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most of them that the connections of one address may have.
pub const LARGE_FRAMES_ADDRESS_BYTES_MAX: usize = LARGE_FRAMES_BYTES_MAX / 2;
/// They are taken in steps of this size, as the bytes come.
pub const INFLOW_STEP_BYTES: usize = 256 * 1024;
/// Once all are taken, one connection at a time may go beyond them, and must have its message whole within this time.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest frame before HELLO has been said: HELLO is shorter.
pub const HELLO_FRAME_BYTES_MAX: usize = 2048;
/// What a request without a deadline of its own is given, in milliseconds.
pub const DEADLINE_DEFAULT_MS: u32 = 5_000;
/// Most requests forwarded to other nodes and not answered.
pub const FORWARDS_MAX: usize = 4096;
/// A forwarded request is given up this long after its deadline.
pub const FORWARD_GRACE_MS: u64 = 250;
/// A request waits this long at most until it is known who leads its shard. Shorter than the time after which clients ask
/// another node, so that they hear why.
pub const HELD_MS_MAX: u64 = 900;
/// Most bytes of all requests of a node that wait so.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A graceful stop waits this long for leadership to move, and as long for its shards to end.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// While nobody is there who could take over, it waits for so long.
pub const STOP_ALONE_TIMEOUT: Duration = Duration::from_secs(1);
/// Who leads still is asked to hand over again this often: an attempt that fails lasts an election timeout.
pub const HAND_OVER_AGAIN: Duration = Duration::from_millis(1_200);
/// A client that was told that its node is about to stop may ask for this long.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that waits for no answer, and asks for nothing for this long, is closed then.
pub const DRAIN_IDLE: Duration = Duration::from_millis(250);
/// At the end of that time what is not begun is refused, and so is what comes for this long,
pub const DRAIN_REFUSES: Duration = Duration::from_millis(250);
/// and what was begun is answered, as far as that happens within this time.
pub const DRAIN_ANSWERS: Duration = Duration::from_millis(800);
/// Cold data is checked again this long after the last time at the earliest, and this long after the start.
pub const SCRUB_PASS_EVERY_MIN: Duration = Duration::from_secs(3600);
/// A follower campaigns after so many silent ticks, up to twice as many. The configured election timeout says how long
/// these are.
pub const ELECTION_TICKS: u32 = 10;
/// A leader says that it is alive every so many ticks.
pub const HEARTBEAT_TICKS: u32 = 2;

/// The disk's syncs are looked at this often.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);
/// The disk's free space, and the memory of the indexes, are looked at this often.
pub const DISK_LOOK_EVERY: Duration = Duration::from_secs(1);
/// A node whose sync takes this long hands over what it leads: others are likely to be quicker.
pub const DISK_STALL_HAND_OVER: Duration = Duration::from_millis(500);
/// After a stall a disk counts as slow for this long, …
pub const DISK_SLOW_MIN: Duration = Duration::from_secs(60);
/// … and for up to this long if it stalls again and again.
pub const DISK_SLOW_MAX: Duration = Duration::from_secs(960);
/// A node whose sync takes this long ends: its disk does not come back by itself.
pub const DISK_STALL_FATAL: Duration = Duration::from_secs(10);
/// At most this part of a file system is kept free, in percent, whatever the configuration says.
pub const HEADROOM_PERCENT_MAX: u64 = 5;
/// A shard that needs room on a full disk to be opened is tried again after this time.
pub const AWAIT_SPACE: Duration = Duration::from_secs(2);
/// A replica whose data key is not here is opened again after so long.
pub const AWAIT_KEY: Duration = Duration::from_millis(500);

const _: () = assert!(WATCH_EVERY.as_millis() < DISK_STALL_HAND_OVER.as_millis(), "a stall is not missed");
const _: () = assert!(DISK_STALL_HAND_OVER.as_millis() < DISK_STALL_FATAL.as_millis());
const _: () = assert!(LARGE_FRAMES_BYTES_MAX >= 4 * FRAME_BYTES_MAX, "a few large frames pass at once");
const _: () = assert!(
    SHARD_QUEUE_BYTES_MAX - SHARD_QUEUE_BYTES_RESERVED >= 2 * FRAME_BYTES_MAX,
    "the largest request fits a queue beside another one"
);
const _: () =
    assert!(SHARD_QUEUE_REQUESTS_RESERVED >= 64 * LIGHT_CLIENT_REQUESTS, "many clients that ask little get in");
const _: () = assert!(SHARD_QUEUE_BYTES_RESERVED >= 64 * LIGHT_CLIENT_BYTES);
const _: () = assert!(LARGE_FRAMES_ADDRESS_BYTES_MAX >= 4 * FRAME_BYTES_MAX, "of one address, too");
const _: () = assert!(FINISH_TIMEOUT.as_millis() < FRAME_TIMEOUT.as_millis());
const _: () = assert!(HELLO_FRAME_BYTES_MAX > 2 * NAME_BYTES_MAX, "HELLO holds one name, and numbers");
const _: () = assert!(SHARD_QUEUE_DELAY_MAX_MS < DEADLINE_DEFAULT_MS as u64);
const _: () = assert!(SESSION_VALUES_BYTES_MAX > FRAME_BYTES_MAX);
const _: () = assert!(LINGER_BYTES_MAX > FRAME_BYTES_MAX, "who sends a frame that is a little too large learns of it");
const _: () = assert!(NODE_QUEUE_BYTES_MAX >= SHARD_QUEUE_BYTES_MAX);
const _: () = assert!(SHARD_MESSAGES_BYTES_MAX >= PEER_FRAME_BYTES_MAX);
const _: () = assert!(RAFT_ENTRY_BYTES_MAX > FRAME_BYTES_MAX, "a full batch and the largest request fit an entry");
const _: () = assert!(ELECTION_TICKS >= 5 * HEARTBEAT_TICKS, "a lost heartbeat is no reason for an election");
