//! What a Kvorum node decides, and nothing of how it is run: no runtime, no socket, no thread, and no clock of its own. A node
//! (`kvorum-node`) hosts it in actors; the simulator (`kvorum-sim`) hosts the same values, and decides the time.
//!
//! Its only ways to the world are traits: [`disk::FileSystem`], [`routing::network::PeerNetwork`], [`clock::Clock`], and the hosts
//! that carry out what [`shard::Shard`] asks for. [`disk`] has the real file system beside the seam, since mappings are files.

// A log that can't be written is no reason to end.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod audit;
pub mod auth;
pub mod clock;
pub mod consensus;
pub mod cost;
pub mod disk;
pub mod folder;
pub mod formats;
pub mod health;
pub mod journal;
pub mod limits;
pub mod log;
pub mod map_keeper;
pub mod measure;
mod meta_key;
pub mod rare;
pub mod recover;
pub mod ring;
pub mod roster;
pub mod routing;
pub mod sealing;
pub mod seeded;
pub mod session;
pub mod shard;
pub mod snapshot;
pub mod store;
#[cfg(any(test, feature = "cost"))]
pub mod walk;
