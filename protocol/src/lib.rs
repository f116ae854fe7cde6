//! Kvorum's types and wire codecs.
//!
//! This crate is pure: it performs no I/O, reads no clock and draws no random numbers. Everything that crosses a socket,
//! between a client and a node or between two nodes, is encoded and decoded here and nowhere else. The formats are
//! written down in `docs/PROTOCOL.md`; the golden bytes in `tests/golden` hold both to each other.
//!
//! Bytes are treated as sent by an enemy: every length is checked against a limit before anything is allocated, every
//! discriminant is checked, and no input makes a decoder panic.

pub mod admin;
pub mod auth;
pub mod codec;
pub mod error;
pub mod frame;
pub mod hash;
pub mod hexadecimal;
pub mod join;
pub mod limits;
pub mod log_level;
pub mod monitor;
pub mod mutation;
pub mod part;
pub mod peer;
pub mod plan;
pub mod report;
pub mod request;
pub mod response;
pub mod slow;
pub mod snapshot;
pub mod status;
pub mod token;
pub mod topology;
pub mod trace;
pub mod transaction;
pub mod types;
pub mod verb;
pub mod write_id;

pub use admin::AdminCommand;
pub use auth::{
    AuthRequest, AuthVerb, AuthView, ClusterClasses, Grant, KeyClasses, RoleView, TokenView, UserLimits, UserTokenId,
    UserView,
};
pub use codec::DecodeError;
pub use error::{ErrorCode, Outcome, Retry, ServerError};
pub use join::{Admitted, JoinReply, JoinRequest};
pub use log_level::{LogLevel, LogLevelAsk, LogLevelView, UnknownLevel};
pub use monitor::{MonitorView, SeenRequest};
pub use mutation::{Action, Condition, ExpireWhen, Mutation, ReturnPrevious, TimeToLive};
pub use plan::{ClusterPlan, MovePurpose, NodeOutlook, NodeStanding, PlanReason, PlannedMove, SealingOutlook};
pub use request::{
    AtomicCheck, AtomicRequest, Hello, ReadMode, Request, RequestBody, ScanCursor, ScanRequest, StatusScope,
};
pub use response::{
    AtomicResult, Awaited, Explanation, HelloReply, Response, ResponseBody, ScanPage, WriteResult, WriteStatus,
};
pub use slow::{SlowLogAsk, SlowLogView, SlowOperation, SlowStages};
pub use status::{HotKey, NodeStatus, Receiving, ShardRole, ShardStatus};
pub use token::{
    Authority, AuthorityHash, JoinToken, NewToken, NodeKey, ParseTokenError, TokenId, TokenKey, TokenSecret,
};
pub use topology::{NodeInfo, ShardInfo, Topology};
pub use trace::{SpanId, TraceContext, TraceId};
pub use transaction::{TransactionOperation, TransactionReply, TransactionRequest, TransactionResult};
pub use types::{
    Ack, ClientId, ClusterId, Durability, Entry, Epoch, FolderId, LogIndex, NodeId, OnceId, ParseReceiptError, Receipt,
    ReplicaId, RequestId, ShardId, Term, Version,
};
pub use verb::{ClusterVerb, EncryptVerb, NewNode};
pub use write_id::{Once, WriteId};
