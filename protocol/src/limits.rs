//! Every bound of the wire formats. The bounds of a node's queues and memory are in `kvorum_core::limits`.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// Largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest body of one frame between a client and a node, in bytes. A frame that announces more is refused before any
/// memory is set aside for it.
pub const FRAME_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Largest body of one frame between two nodes, in bytes: one entry of the largest size, and the messages around it.
pub const PEER_FRAME_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Bytes in front of each frame's body: length and checksum.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Most bytes of a message in one of its parts, see [`crate::part`]. A longer message lets others pass.
pub const PART_BYTES_MAX: usize = 64 * 1024;
/// Most keys in a MULTI-GET, mutations in a BATCH, checks plus mutations in an ATOMIC.
pub const BATCH_OPERATIONS_MAX: usize = 4096;
/// Longest decimal number in text that is added to another, in bytes.
pub const DECIMAL_BYTES_MAX: usize = 512;
/// Most bytes of values in the answer to one TRANSACTION: what it read, and what was there before its writes.
pub const TRANSACTION_REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of values in an answer to a TRANSACTION that is remembered for the sake of retries.
pub const TRANSACTION_REMEMBERED_BYTES_MAX: usize = 64 * 1024;
/// The highest number of a write.
pub const SEQUENCE_MAX: u64 = u64::MAX / 2;
/// Most entries that one SCAN page returns.
pub const SCAN_ENTRIES_MAX: u32 = 4096;
/// Hot keys that a node's status tells.
pub const HOT_KEYS_MAX: usize = 32;
/// Of a longer hot key a status tells so many bytes.
pub const HOT_KEY_BYTES_MAX: usize = 128;
/// Most bytes of keys and values in a SCAN page that has more than one entry.
pub const SCAN_PAGE_BYTES: usize = 1024 * 1024;
/// A MULTI-GET answers `TooLarge` for the keys whose values would take its reply past this many bytes.
pub const MULTI_GET_REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest PING payload, in bytes.
pub const PING_BYTES_MAX: usize = 1024;
/// Longest text of an error, in bytes; longer ones are cut when they are encoded.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;
/// Longest name, address or zone, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Most nodes in a topology.
pub const NODES_MAX: usize = 1024;
/// Most shards of a cluster. Shard numbers above it are used by the node itself, see `ShardId::META`.
pub const SHARDS_MAX: usize = 4096;
/// Most replicas of one shard.
pub const REPLICAS_MAX: usize = 15;
/// Longest time to live, in milliseconds: 100 years.
pub const TTL_MS_MAX: u64 = 100 * 365 * 24 * 3600 * 1000;
/// Latest time of expiry, in milliseconds since 1970.
pub const EXPIRY_MS_MAX: u64 = (1 << 48) - 1;
/// Longest deadline of a request, in milliseconds: 10 minutes.
pub const DEADLINE_MS_MAX: u32 = 600_000;
/// Largest ring map that nodes send to each other, in bytes. The largest cluster's, with replicas of every shard on
/// three nodes, is well below it.
pub const RING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most raft entries in one message between nodes.
pub const RAFT_ENTRIES_MAX: usize = 4096;
/// Largest payload of one raft entry, in bytes: the largest value, or the largest batch that a shard proposes.
pub const RAFT_ENTRY_BYTES_MAX: usize = 36 * 1024 * 1024;
/// Largest chunk of a snapshot, in bytes: one record of the largest size. Usual chunks are much smaller.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Largest header of a snapshot, in bytes: membership, counters, and a full session table.
pub const SNAPSHOT_HEADER_BYTES_MAX: u32 = 192 * 1024 * 1024;
/// Longest absence for which a node may be drained, in milliseconds: a week.
pub const ABSENCE_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
/// Largest weight of a node.
pub const NODE_WEIGHT_MAX: u32 = 1000;
/// Most MiB per second that a node may be told to send of snapshots.
pub const MOVE_RATE_MB_MAX: u32 = 16 * 1024;
/// What a node sends of snapshots, in MiB per second, where nothing was told: for replicas that it needs to be whole again.
pub const MOVE_RATE_MB_DEFAULT: u32 = 64;
/// The same while replicas move and no node is down.
pub const MOVE_RATE_MB_CALM: u32 = 16;
/// Longest life of a token, in milliseconds: a day.
pub const TOKEN_MS_MAX: u64 = 24 * 3600 * 1000;
/// Most tokens that a cluster knows at a time, those that were used among them until their time is over.
pub const TOKENS_MAX: usize = 64;
/// Largest certificate signing request, in bytes. One of a P-256 key takes about 300.
pub const SIGNING_REQUEST_BYTES_MAX: usize = 4096;
/// Largest body of a frame in which a node asks to join, in bytes.
pub const JOIN_FRAME_BYTES_MAX: usize = 8 * 1024;
/// Largest PEM text in the answer to that, in bytes.
pub const JOIN_PEM_BYTES_MAX: usize = 64 * 1024;
/// Largest body of the frame with the answer, in bytes.
pub const JOIN_REPLY_BYTES_MAX: usize = RING_BYTES_MAX + 2 * JOIN_PEM_BYTES_MAX + 64;
/// Longest message in which a client says who it is, in bytes.
pub const AUTH_BYTES_MAX: usize = 1024;
/// Longest name of a user or a role, in bytes.
pub const AUTH_NAME_BYTES_MAX: usize = 128;
/// Longest verifier of a password, in bytes.
pub const VERIFIER_BYTES_MAX: usize = 256;
/// Most users of a cluster.
pub const USERS_MAX: usize = 10_000;
/// Most roles of a cluster, without those that are built in.
pub const ROLES_MAX: usize = 1_000;
/// Most roles of one user.
pub const ROLES_OF_USER_MAX: usize = 64;
/// Most prefixes for which one role says what may be done.
pub const GRANTS_MAX: usize = 64;
/// Most tokens of users that a cluster knows.
pub const USER_TOKENS_MAX: usize = 10_000;
/// Most certificates that a cluster does not take any more. One whose time is over need not be among them.
pub const DENIED_SERIALS_MAX: usize = 4096;
/// Longest serial number of a certificate, in bytes (RFC 5280).
pub const SERIAL_BYTES_MAX: usize = 20;
/// Largest table of users that nodes send to each other, in bytes.
pub const AUTH_TABLE_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Most operations that took long that a node keeps, and tells of.
pub const SLOW_OPERATIONS_MAX: usize = 1024;
/// Most requests that a node tells at a time to whoever watches them.
pub const MONITORED_REQUESTS_MAX: usize = 1024;
/// Most bytes that it tells of the key of one of them.
pub const MONITORED_KEY_BYTES_MAX: usize = 256;
/// Longest filter of a log that a node tells of, in bytes; of a longer one it tells the beginning.
pub const LOG_FILTER_BYTES_MAX: usize = 1024;
/// Longest time for which a node can be told to log more or less, in milliseconds.
pub const LOG_LEVEL_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Most reasons that a plan gives for what does not go on; there may be more of them.
pub const PLAN_REASONS_MAX: usize = 64;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 * 1024 < FRAME_BYTES_MAX, "the largest PUT fits a frame");
const _: () = assert!(
    TRANSACTION_REPLY_BYTES_MAX + 200 * BATCH_OPERATIONS_MAX < FRAME_BYTES_MAX,
    "so does the largest answer to a TRANSACTION"
);
const _: () = assert!(MULTI_GET_REPLY_BYTES_MAX + 64 * 1024 < FRAME_BYTES_MAX, "the largest reply fits a frame");
const _: () =
    assert!(SCAN_PAGE_BYTES + 64 * SCAN_ENTRIES_MAX as usize + 64 * 1024 < FRAME_BYTES_MAX, "so does any page");
const _: () = assert!(RAFT_ENTRY_BYTES_MAX + 64 * 1024 < PEER_FRAME_BYTES_MAX, "the largest entry fits a peer frame");
const _: () = assert!(RING_BYTES_MAX < PEER_FRAME_BYTES_MAX, "the largest ring map fits a peer frame");
const _: () = assert!(AUTH_TABLE_BYTES_MAX < PEER_FRAME_BYTES_MAX, "so does the largest table of users");
const _: () = assert!(SIGNING_REQUEST_BYTES_MAX + 5 * NAME_BYTES_MAX + 256 < JOIN_FRAME_BYTES_MAX, "it may ask that");
const _: () = assert!(VALUE_BYTES_MAX * 2 < RAFT_ENTRY_BYTES_MAX, "a value and the value it replaced fit an entry");
const _: () =
    assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 < SNAPSHOT_CHUNK_BYTES_MAX, "the largest record fits a chunk");
const _: () = assert!(SNAPSHOT_CHUNK_BYTES_MAX + 1024 < PEER_FRAME_BYTES_MAX, "the largest chunk fits a peer frame");
const _: () = assert!(SHARDS_MAX < u16::MAX as usize);
const _: () = assert!(MOVE_RATE_MB_CALM <= MOVE_RATE_MB_DEFAULT && MOVE_RATE_MB_DEFAULT <= MOVE_RATE_MB_MAX);
