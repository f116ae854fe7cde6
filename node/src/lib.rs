//! Kvorum's node: the server behind the binary `kvorum`, and what starts it.

// They panic if what they print can't be written, and a log that can't be written is no reason to end.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod blocking_reads;
pub mod cert;
pub mod checked_json;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod cost;
pub mod descriptors;
pub mod dev;
pub mod disk_loop;
pub mod disk_watch;
pub mod doors;
pub mod exit;
pub mod fitness;
pub mod identity;
pub mod init;
pub mod journal;
pub mod journal_threads;
pub mod kept_twice;
pub mod known_disks;
pub mod limits;
pub mod log;
pub mod map_keeper;
pub mod meta;
pub mod network;
pub mod node;
mod pace;
pub mod peer_desk;
pub mod peer_table;
pub mod peers;
mod prefetch;
pub mod pressure;
mod rare;
pub mod replica;
pub mod replica_files;
pub mod reply;
pub mod ring;
pub mod router;
pub mod scrub;
pub mod scrub_thread;
pub mod seeded;
pub mod segment_thread;
pub mod session;
pub mod shard;
pub mod shards;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod stop;
pub mod store;
pub mod supervisor;
pub mod system_clock;
pub mod telemetry;
pub mod topology_news;
pub mod upkeep;
pub mod verify;
#[cfg(any(test, feature = "cost"))]
pub mod walk;
pub mod wall_clocks;
