//! One replica's consensus: no I/O, no clock, no randomness.
//!
//! [`consensus::Consensus`] wraps TiKV's `raft` library; nothing outside this folder sees a type of it. The leader lease
//! ([`lease`]) is ours: the library's own was seen to answer stale. The wire form of the messages is the protocol
//! crate's, never the library's codec ([`convert`]).

mod change;
pub mod consensus;
mod convert;
pub mod lease;
mod storage;

pub use change::MembershipChange;
pub use consensus::{
    Committed, Consensus, ConsensusConfig, ConsensusError, Output, Promise, ReadPosition, Role, SnapshotBase,
};
