//! What runs a node's core: the actors that host shards and the map's keeper, the threads for disks, and their supervision.

pub mod audit_tail;
mod audit_writer;
pub mod cache_figures;
pub mod control;
pub mod descriptors;
pub mod disk_loop;
pub mod door_counts;
pub mod issuing;
pub mod joining;
pub mod journal_threads;
pub mod log_level;
pub mod log_ring;
pub mod meta;
pub mod node;
pub mod node_figures;
mod pace;
pub mod process;
pub mod scrub_thread;
pub mod segment_thread;
pub mod shard_actor;
pub mod shards;
pub mod status;
pub mod striped;
pub mod system_clock;
pub mod threads;
pub mod upkeep_thread;
mod worker_thread;
