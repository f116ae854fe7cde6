#![doc = include_str!("../README.md")]
//!
//! # The model
//!
//! A cluster holds keys of 1 byte to 64 KiB with values of up to 16 MiB. Keys are spread over shards by their hash; each
//! shard has a leader, and a quorum of its replicas persists a write before it is acknowledged. A key that holds `{tag}` is
//! placed by what stands in the braces, so that keys of one tag share a shard. Each key has a [`Version`], which grows with
//! every write of its shard and is never used twice.
//!
//! A [`Client`] is cheap to clone. All clones share one pipelined connection per node, one session and the same limits.
//! Operations are builders that run when they are awaited:
//!
//! ```no_run
//! # async fn example() -> Result<(), kvorum_client::Error> {
//! use kvorum_client::{Client, ConditionalResult};
//! use std::time::Duration;
//!
//! let client = Client::connect("kv://127.0.0.1:7401,127.0.0.1:7402").await?;
//! client.put("greeting", "hello").ttl(Duration::from_secs(60)).await?;
//! if let Some(entry) = client.get("greeting").await? {
//!     // Compare and set: only if nobody wrote it since.
//!     match client.put("greeting", "bye").if_version(entry.version).await? {
//!         ConditionalResult::Applied(result) => println!("version {}", result.version),
//!         ConditionalResult::NotApplied(result) => println!("somebody wrote version {}", result.version),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Consistency
//!
//! Reads and writes of single keys are linearizable: a read sees every write that was acknowledged before it began. A read
//! that asks for [`ReadMode::Stale`] may be answered by any replica, and may be old. An [`Atomic`] takes effect as a whole in
//! one shard. A [`Batch`] and a [`GetMany`] are many operations at once: each has its own moment and its own result. A
//! [`Scan`] is no snapshot: each page is read at its own moment.
//!
//! # Retries and errors
//!
//! The client repeats what failed until the operation's deadline, five seconds unless it is set: reads freely, writes under
//! their sequence number, so that they take effect once however often they are sent. Pauses grow with each failure and are
//! drawn at random. All operations share a budget of retries ([`RetryPolicy`]), so that a cluster in trouble is not pushed
//! over by its clients.
//!
//! An [`Error`] says what became of the operation: [`Error::outcome`]. [`Outcome::Unknown`] is the one to plan for: the write
//! may have taken effect. Calling again makes a new write. That is safe if [`WriteOp::is_idempotent`] holds, or under a one-shot
//! name ([`Write::once`]). Else read first, or write with a condition. [`Error::is_retryable`] says whether calling again is both safe and useful.
//!
//! # Cancel safety
//!
//! Dropping the future of an operation gives it up: nothing more is sent, and a write that was sent may take effect or not.
//! No other operation is disturbed. [`Scan::try_next`] loses no entry when it is dropped.
//!
//! # Limits
//!
//! Every queue is bounded. A client has up to 1024 operations in flight unless [`ClientBuilder::max_in_flight`] says
//! otherwise, and up to 128 MiB of large requests; further ones wait within their deadline and fail with
//! [`Error::TooManyInFlight`]. The module [`limits`] has all of them. What is over a limit is refused before it is sent.
//!
//! # Traces
//!
//! With the feature `tracing` a request says to which trace it belongs: that of the OpenTelemetry context which is current where its
//! future is polled, if that is sampled. `tracing-opentelemetry` makes the context of a `tracing` span current. Nodes that trace go on with
//! it, over all nodes that the request reaches. A request over 64 KiB says nothing.
//!
//! # Security
//!
//! Without the feature `tls` the client speaks plain TCP only: whoever listens can read it.
#![warn(
    clippy::future_not_send,
    clippy::large_futures,
    clippy::use_self,
    rustdoc::broken_intra_doc_links,
    unused_qualifications
)]

mod admin;
mod atomic;
mod batch;
mod builder;
mod client;
mod connection;
mod core;
mod directory;
mod entry;
mod get;
mod grouped;
mod key;
mod login;
mod once;
mod outgoing;
mod pool;
mod race;
mod scan;
mod setters;
mod status;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tokens")]
mod token;
mod traces;
mod transaction;
mod users;
mod write;
mod write_op;

pub mod health;
pub mod limits;
pub mod verdict;

pub use admin::Admin;
pub use atomic::{Atomic, AtomicResult};
pub use batch::Batch;
pub use builder::ClientBuilder;
pub use client::{Client, Mapping};
pub use entry::Entry;
pub use get::{Get, GetMany};
pub use login::Credentials;
pub use scan::Scan;
pub use status::{HotKey, NodeStatus, ShardStatus};
#[cfg(feature = "tls")]
pub use tls::Tls;
#[cfg(feature = "tokens")]
pub use token::TokenWish;
pub use transaction::{Transaction, TransactionReply, TransactionResult};
#[cfg(feature = "passwords")]
pub use users::{draw_token, verifier_of};
pub use write::{Append, ConditionalResult, ConditionalWrite, Incr, Write, WriteResult};
pub use write_op::WriteOp;

pub use kvorum_client_core::retry::RetryPolicy;
pub use kvorum_client_core::url::URL_DEFAULT;
pub use kvorum_client_core::{CloseReason, ConnectionError, Error};

pub use bytes::Bytes;
pub use kvorum_protocol::response::StoredEntry;
pub use kvorum_protocol::{
    Ack, AuthVerb, AuthView, Authority, AuthorityHash, Awaited, ClientId, ClusterClasses, ClusterId, ClusterPlan,
    ClusterVerb, Condition, DecodeError, Durability, EncryptVerb, Epoch, ErrorCode, Explanation, Grant, JoinToken,
    KeyClasses, LogIndex, LogLevel, LogLevelAsk, LogLevelView, MonitorView, MovePurpose, NewNode, NewToken, NodeId,
    NodeInfo, NodeOutlook, NodeStanding, Outcome, ParseReceiptError, PlanReason, PlannedMove, ReadMode, Receipt,
    Receiving, Retry, RoleView, SealingOutlook, SeenRequest, ServerError, ShardId, ShardInfo, ShardRole, SlowLogView,
    SlowOperation, SlowStages, Term, TokenId, TokenKey, TokenSecret, TokenView, Topology, TraceId, UnknownLevel,
    UserLimits, UserTokenId, UserView, Version, WriteStatus,
};
pub use uuid::Uuid;
