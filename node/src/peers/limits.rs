//! Every bound of the traffic between nodes.

use kvorum_protocol::limits::{
    FRAME_BYTES_MAX, FRAME_HEADER_BYTES, JOIN_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX,
};
use std::time::Duration;

/// Most bytes of consensus messages that wait for one peer or are being written to it; past them `send` answers `Full`.
pub const CONSENSUS_OUTBOUND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes of forwarded requests and replies that wait for one peer or are being written to it.
pub const FORWARD_OUTBOUND_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest frame body on the forward lane: the largest client request, and the fields around it.
pub const FORWARD_FRAME_BYTES_MAX: usize = FRAME_BYTES_MAX + 64;
/// Largest frame body on the snapshot lane: the largest chunk, and the fields around it.
pub const SNAPSHOT_FRAME_BYTES_MAX: usize = SNAPSHOT_CHUNK_BYTES_MAX + 128;
/// Most bytes of bulk messages that wait for one peer or are being written to it.
pub const BULK_OUTBOUND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many parts of a bulk message are written at once.
pub const BULK_PARTS_AT_ONCE: usize = 4;
/// How long a bulk lane rests after writing so many parts; not after less, such as a small append that follows a large one.
/// Encryption, copies and system calls of a large message would else keep a thread busy from its first part to its last at
/// both ends, and small requests wait for the processor. It bounds what a node sends to one peer in bulk to 250 MB/s, and with
/// the timer's steps of a millisecond rather to 130.
pub const BULK_PAUSE: Duration = Duration::from_millis(1);
/// Appends of a shard go by the bulk lane until its last large one is this long ago: one that came before a large one
/// which it follows would be refused, and the large one sent again.
pub const BULK_LINGER: Duration = Duration::from_secs(1);
/// Largest frame body of a hello.
pub const HELLO_FRAME_BYTES_MAX: usize = 1024;

/// Bytes that a peer may send on one stream before this node has read them.
pub const STREAM_RECEIVE_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Bytes that a peer may send on one connection, all streams together, before this node has read them.
pub const CONNECTION_RECEIVE_WINDOW_BYTES: u32 = 80 * 1024 * 1024;
/// Bytes of one connection that QUIC keeps until the peer has acknowledged them.
pub const SEND_WINDOW_BYTES: u64 = 80 * 1024 * 1024;
/// What the kernel is asked to buffer for the UDP socket, in each direction. It may grant less.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that somebody may send on a connection before it is known who that is, all streams together.
pub const STRANGER_RECEIVE_WINDOW_BYTES: u32 = 128 * 1024;
/// Streams of each kind that somebody may open before it is known who that is: the one of the hello, or the one on which a node
/// asks to join.
pub const STRANGER_STREAMS: u32 = 1;
/// Nodes that join by a token at a time; a further one is told to come again.
pub const JOINS_MAX: usize = 8;
/// Of these, so many from one address, so that nobody keeps all others from joining.
pub const JOINS_OF_SOURCE_MAX: usize = 2;
/// A node that joins is answered within this long.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one direction that a peer may have open: the lanes.
pub const LANES: u32 = 4;
/// Bidirectional streams that a peer may have open: a control session, and its successor while the first one ends.
pub const CONTROL_STREAMS_MAX: u32 = 2;
/// How many of a stream's chunks are taken out of QUIC at once.
pub const READ_CHUNKS_MAX: usize = 64;

/// A connection without a sign of life ends after this long.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// A sign of life is sent when nothing else was for this long.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(750);
/// What the round trip is taken for until it has been measured. It only spaces the first packets of a handshake.
pub const INITIAL_RTT: Duration = Duration::from_millis(20);
/// A peer sends an acknowledgement of its own only after so many packets, or after [`ACK_DELAY_MAX`]. Most acknowledgements
/// travel with what the peer has to say anyway.
pub const UNACKNOWLEDGED_PACKETS_MAX: u32 = 10;
/// See [`UNACKNOWLEDGED_PACKETS_MAX`].
pub const ACK_DELAY_MAX: Duration = Duration::from_millis(5);
/// Bytes that may be under way on a new connection. More than [`UNACKNOWLEDGED_PACKETS_MAX`] packets, so that a sender
/// doesn't wait for an acknowledgement that is held back.
pub const INITIAL_WINDOW_BYTES: u64 = 256 * 1024;
/// Resolving an address, the TLS handshake and the hellos: each must be over within this long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Handshakes of incoming connections at a time; further ones are refused and come again.
pub const INCOMING_HANDSHAKES_MAX: usize = 32;
/// While so many are open, an address must prove that it receives what is sent to it before another one is begun with it.
pub const INCOMING_UNPROVED_MAX: usize = 4;
/// Most of them with addresses at which no member is expected.
pub const INCOMING_OF_STRANGERS_MAX: usize = 24;
/// Most of them with one such address, or network of IPv6.
pub const INCOMING_OF_SOURCE_MAX: usize = 4;
/// How often the names of the peers are resolved, to know from where they dial.
pub const RESOLVE_PEERS_EVERY: Duration = Duration::from_secs(30);
/// Connections that one peer has made and on which hello is being said; a further one is closed and comes again.
pub const GREETINGS_MAX: usize = 4;
/// A node that is none of the cluster any more is connected for so much longer, to hear of it.
pub const LET_GO_AFTER: Duration = Duration::from_secs(2);
/// How long `shutdown` waits for the peers to learn of it.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// The delay before the first redial; it doubles with each failure.
pub const REDIAL_DELAY_MIN: Duration = Duration::from_millis(25);
/// The longest delay between two dials: what a partition that heals costs at most.
pub const REDIAL_DELAY_MAX: Duration = Duration::from_millis(800);
/// A connection that lived this long was a good one: the next redial starts with the shortest delay again.
pub const GOOD_CONNECTION_AGE: Duration = Duration::from_secs(2);
/// Who should be dialled by its peer, and was not for so long, dials.
pub const LATE_DIAL_AFTER: Duration = Duration::from_secs(2);
/// Most different reasons that are logged for one peer that stays away.
pub const REASONS_LOGGED_MAX: usize = 8;
/// Refused incoming connections are logged at most once in this long: strangers must not fill the log.
pub const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// UDP payload on a loopback address, in bytes: a third of the CPU per byte of the standard one. Larger ones get slower
/// again, because the kernel can't batch them.
pub const LOOPBACK_MTU_BYTES: u16 = 6_500;
/// UDP payload that every QUIC path carries, in bytes; discovery raises it.
pub const MTU_BYTES_MIN: u16 = 1_200;
/// The largest UDP payload that a configuration may name, in bytes: Ethernet's jumbo frames.
pub const MTU_BYTES_MAX: u16 = 8_972;

const _: () = assert!(JOIN_FRAME_BYTES_MAX + HELLO_FRAME_BYTES_MAX < STRANGER_RECEIVE_WINDOW_BYTES as usize);
const _: () = assert!(HANDSHAKE_TIMEOUT.as_millis() < JOIN_TIMEOUT.as_millis());
const _: () = assert!(PEER_FRAME_BYTES_MAX + FRAME_HEADER_BYTES < CONSENSUS_OUTBOUND_BYTES_MAX);
const _: () = assert!(PEER_FRAME_BYTES_MAX < BULK_OUTBOUND_BYTES_MAX);
const _: () = assert!(FORWARD_FRAME_BYTES_MAX + FRAME_HEADER_BYTES < FORWARD_OUTBOUND_BYTES_MAX);
const _: () = assert!(SNAPSHOT_FRAME_BYTES_MAX < PEER_FRAME_BYTES_MAX);
const _: () = assert!(FORWARD_FRAME_BYTES_MAX < PEER_FRAME_BYTES_MAX);
const _: () = assert!(CONNECTION_RECEIVE_WINDOW_BYTES >= (LANES + 1) * STREAM_RECEIVE_WINDOW_BYTES, "no lane starves");
const _: () = assert!(SEND_WINDOW_BYTES >= CONNECTION_RECEIVE_WINDOW_BYTES as u64, "nor here");
const _: () = assert!(INITIAL_WINDOW_BYTES > 2 * UNACKNOWLEDGED_PACKETS_MAX as u64 * MTU_BYTES_MAX as u64);
const _: () = assert!(KEEP_ALIVE_INTERVAL.as_millis() * 4 <= IDLE_TIMEOUT.as_millis(), "one lost packet is no death");
const _: () = assert!(INCOMING_OF_STRANGERS_MAX < INCOMING_HANDSHAKES_MAX, "members have a share of their own");
const _: () = assert!(INCOMING_OF_SOURCE_MAX < INCOMING_OF_STRANGERS_MAX, "one source does not keep the others out");
const _: () = assert!(JOINS_OF_SOURCE_MAX < JOINS_MAX, "nor from joining");
const _: () = assert!(INCOMING_UNPROVED_MAX < INCOMING_OF_STRANGERS_MAX);
const _: () = assert!(REDIAL_DELAY_MIN.as_millis() < REDIAL_DELAY_MAX.as_millis());
