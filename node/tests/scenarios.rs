//! The scenarios with real processes, as one program: it is linked once, and while one waits for a cluster another one runs.
//!
//! `cargo test -p kvorum-node --test scenarios http::` runs those of one file. What measures, and wants the machine for itself, is a program of its
//! own: `overload.rs`, `kill_each_node.rs`.

mod common;

mod advertised;
mod auth;
mod bad_input;
mod connections;
mod console;
mod descriptors;
mod full_disk;
mod graceful_stop;
mod http;
mod join;
mod kill_all;
mod large_values;
mod leader_cut_off;
mod levels;
mod memory_durability;
mod operate;
mod order;
mod processes;
mod recover;
mod resize;
mod resp;
mod resp_cluster;
mod resp_history;
mod restored_folder;
mod retry_once;
mod sealed;
mod shard_panic;
mod squeezed;
mod storage_faults;
mod terminal;
mod tls;
mod traces;
mod unwritable_log;
mod wiped_node;
mod wrong_clock;
