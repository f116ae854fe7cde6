//! One replica's consensus: no I/O, no clock, no randomness.
//!
//! [`machine::Consensus`] wraps TiKV's `raft` library; nothing outside this folder sees a type of it. The leader lease
//! ([`lease`]) is ours: the library's own was seen to answer stale. The wire form of the messages is the protocol
//! crate's, never the library's codec ([`convert`]).

mod change;
mod convert;
pub mod lease;
pub mod machine;
mod storage;

pub use change::MembershipChange;
pub use machine::{
    Committed, Consensus, ConsensusConfig, ConsensusError, Output, Promise, ReadPosition, Role, SnapshotBase,
};
