//! Every bound of snapshots on their way. Those of the messages are in `kvorum_protocol::limits`, that of the lane is in
//! the peers' limits.

use crate::routing::network::SNAPSHOT_OUTBOUND_BYTES_MAX;
use kvorum_protocol::limits::{MOVE_RATE_MB_CALM, MOVE_RATE_MB_DEFAULT, SNAPSHOT_CHUNK_BYTES_MAX};

/// Snapshots that a node offers at a time.
pub const OFFERS_MAX: usize = 2;
/// Those that nobody pulls are not counted, up to so many of both: a follower whose disk is full must not hold others up.
pub const OFFERS_HELD_MAX: usize = 8;
/// An offer that nobody pulled for this long is not counted, in milliseconds.
pub const OFFER_IDLE_MS: u64 = 5_000;
/// What a node sends of snapshots, in bytes per second, unless an operator has said otherwise: what is needed to have all
/// replicas again.
pub const BYTES_PER_SECOND_DEFAULT: u64 = (MOVE_RATE_MB_DEFAULT as u64) << 20;
/// The same while replicas move and none is missing. Measured with three to seven nodes on two cores: writers' p99 is 0.6 to 0.9
/// of that at the rate above. At half of this it is no better.
pub const BYTES_PER_SECOND_CALM: u64 = (MOVE_RATE_MB_CALM as u64) << 20;
/// For how long the unused rate is kept, in milliseconds: a few ticks, which is how often a waiting pull is looked at.
pub const BURST_MS: u64 = 200;
/// An offer is repeated this often while nobody pulls, in milliseconds.
pub const OFFER_REPEAT_MS: u64 = 500;
/// An offer that nobody pulled for this long is forgotten, in milliseconds.
pub const OFFER_FORGET_MS: u64 = 60_000;
/// Pulls of one follower that wait to be answered; more are dropped, and come again.
pub const PULLS_WAITING_MAX: usize = 16;

/// Bytes of a usual chunk. Only a record that is larger makes a larger one.
pub const CHUNK_BYTES: u32 = 256 * 1024;
/// Most bytes of a chunk that a leader is talked into, large records apart.
pub const CHUNK_BYTES_MAX: u32 = 1024 * 1024;
/// Pulls that a follower has under way at a time.
pub const PULLS_MAX: usize = 4;
/// About how many bytes they may bring together, once the follower knows how large chunks are.
pub const PULLED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of chunks that came before those in front of them; more are dropped, and pulled again.
pub const EARLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What did not come for this long, while nothing else came either, is pulled again, in milliseconds. It doubles with each
/// further try of the same pull.
pub const PULL_AGAIN_MS: u64 = 1_000;
/// How often it doubles.
pub const PULL_AGAIN_DOUBLINGS_MAX: u32 = 4;
/// A snapshot that made no progress for this long is given up, in milliseconds.
pub const GIVE_UP_MS: u64 = 30_000;
/// Most bytes of messages about snapshots that wait for one shard; more are dropped, and pulled again.
pub const INBOX_BYTES_MAX: usize = 24 * 1024 * 1024;

const _: () = assert!(INBOX_BYTES_MAX > SNAPSHOT_CHUNK_BYTES_MAX + PULLED_BYTES_MAX, "what was pulled has room");
const _: () = assert!(PULLS_MAX * CHUNK_BYTES as usize <= PULLED_BYTES_MAX, "usual chunks are pulled side by side");
const _: () = assert!(EARLY_BYTES_MAX >= PULLS_MAX * CHUNK_BYTES as usize, "and wait for each other");
const _: () = assert!(PULLS_WAITING_MAX >= PULLS_MAX);
const _: () = assert!(CHUNK_BYTES <= CHUNK_BYTES_MAX);
const _: () = assert!(BYTES_PER_SECOND_CALM <= BYTES_PER_SECOND_DEFAULT);
const _: () =
    assert!(OFFERS_MAX * PULLS_MAX * (CHUNK_BYTES as usize) < SNAPSHOT_OUTBOUND_BYTES_MAX, "the lane has room");
const _: () = assert!(GIVE_UP_MS > PULL_AGAIN_MS << PULL_AGAIN_DOUBLINGS_MAX, "a lost pull is no reason to give up");
const _: () = assert!(OFFER_FORGET_MS > GIVE_UP_MS, "the follower gives up first, and says so");
