//! kvorum-bench: a load generator that costs little itself.
//!
//! It does not go through the client library, whose comfort (a future per operation, retries, budgets) would be measured
//! along with the server. Instead each connection is a small state machine straight on the protocol's codecs: it keeps a
//! fixed number of requests in flight (a closed loop) or sends them when they are due (an open one), encodes all that are due
//! into one write and takes all replies out of one read. The wire protocol is a type parameter of it, so that one engine
//! drives every system that is compared.
//!
//! ```text
//! options ─► run ─► fleet (threads) ─► connection (socket) ─► engine (no I/O) ─► recorder ─► report
//!    ▲         └──► control (TOPOLOGY, STATUS)                 ├─ work: routes, keys, draw
//! compare ─► servers (Kvorum, Redis, etcd, null)               └─ wire: Kvorum, RESP, gRPC
//! failover, rolling, shards, elections, resize, storage ─► nodes of their own
//! ```
//!
//! A run ends at its deadline whatever the servers do, and with everything that was started when a signal comes (`stop`).

pub mod compare;
pub mod elections;
pub mod failover;
pub mod files;
pub mod null;
pub mod options;
pub mod report;
pub mod resize;
pub mod rolling;
pub mod run;
pub mod shards;
pub mod small_gets;
pub mod stop;
pub mod storage;

mod connection;
mod control;
mod draw;
mod engine;
mod fleet;
mod keys;
mod limits;
mod outage;
mod pacer;
mod plot;
mod recorder;
mod routes;
mod secure;
mod sequence;
mod server_use;
mod socket;
mod wire;
mod work;

pub use options::{Options, Plan};
pub use report::Report;
pub use run::{BenchError, run};
