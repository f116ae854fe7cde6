//! Kvorum's client.
//!
//! ```no_run
//! # async fn example() -> Result<(), kvorum_client::Error> {
//! use kvorum_client::Client;
//! use std::time::Duration;
//!
//! let client = Client::connect("kv://127.0.0.1:7401,127.0.0.1:7402").await?;
//! client.put("greeting", "hello").ttl(Duration::from_secs(60)).await?;
//! if let Some(entry) = client.get("greeting").await? {
//!     // Compare and set: only if nobody wrote it since.
//!     let result = client.put("greeting", "bye").if_version(entry.version).await?;
//!     assert!(result.is_applied());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The client keeps one pipelined connection per node, sends each request to the leader of its key's shard, follows changes
//! of the topology as nodes push them, and repeats what failed until the operation's deadline: reads freely, writes under
//! their sequence number so that they take effect once. An [`Error`] says what became of the operation.
//!
//! What decides (retries, routing, sequence numbers) is pure, in the crate `kvorum-client-core`; what touches the world
//! (`connection`, `pool`, `core`) decides nothing.

mod admin;
mod batch;
mod client;
mod connection;
mod core;
mod directory;
mod grouped;
mod operation;
mod outgoing;
mod pool;
mod scan;

pub mod health;
pub mod limits;

pub use admin::Admin;
pub use batch::{Atomic, AtomicResult, Batch, GetMany};
pub use client::{Client, ClientBuilder, Mapping};
pub use operation::{Entry, Get, Write, WriteOp, WriteResult};
pub use scan::Scan;

pub use bytes::Bytes;
pub use futures_util::StreamExt;
pub use kvorum_client_core::retry::RetryPolicy;
pub use kvorum_client_core::url::URL_DEFAULT;
pub use kvorum_client_core::{CloseReason, ConnectionError, Error};
pub use kvorum_protocol::{
    Ack, ClientId, ClusterId, Condition, Durability, Epoch, ErrorCode, Explanation, NodeId, NodeInfo, NodeStatus,
    Outcome, ReadMode, ServerError, ShardId, ShardInfo, ShardRole, ShardStatus, Term, Topology, Version, WriteStatus,
};
