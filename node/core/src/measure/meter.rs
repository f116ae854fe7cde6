//! What sessions tell of the requests that they have answered.

use crate::clock::Nanos;
use kvorum_protocol::{Action, ErrorCode, Outcome, RequestBody, ResponseBody};
use std::sync::Arc;

/// Which way requests come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// Kvorum's own protocol.
    Binary,
    /// HTTP.
    Http,
    /// RESP, the protocol of Redis.
    Resp,
    /// Another node has passed them on.
    Peer,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Binary, Self::Http, Self::Resp, Self::Peer];

    /// Those of clients.
    pub const OF_CLIENTS: [Self; 3] = [Self::Binary, Self::Http, Self::Resp];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Http => "http",
            Self::Resp => "resp",
            Self::Peer => "peer",
        }
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What was asked, as it is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum OperationKind {
            $($(#[$doc])* $name,)*
        }
        impl OperationKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it is called where it is shown.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

operations! {
    /// One value.
    Get = "get",
    /// Many values.
    MultiGet = "multi_get",
    /// A page of keys.
    Scan = "scan",
    /// Store.
    Put = "put",
    /// Remove.
    Delete = "delete",
    /// Add to a number.
    Incr = "incr",
    /// Append.
    Append = "append",
    /// Set a time to live.
    Expire = "expire",
    /// Take it off.
    Persist = "persist",
    /// Overwrite part of a value.
    SetRange = "set_range",
    /// Set a bit of a value.
    SetBit = "set_bit",
    /// Add to a decimal number.
    IncrDecimal = "incr_decimal",
    /// Many writes.
    Batch = "batch",
    /// All or nothing.
    Atomic = "atomic",
    /// Reads and writes in turn.
    Transaction = "transaction",
    /// Wait until it is known what became of a write.
    Await = "await",
    /// All that touches no key's value.
    Other = "other",
}

impl OperationKind {
    /// Of a request.
    pub fn of(body: &RequestBody) -> Self {
        match body {
            RequestBody::Get { .. } => Self::Get,
            RequestBody::MultiGet { .. } => Self::MultiGet,
            RequestBody::Scan(_) => Self::Scan,
            RequestBody::Write { mutation, .. } => match mutation.action {
                Action::Put { .. } => Self::Put,
                Action::Delete => Self::Delete,
                Action::Incr { .. } => Self::Incr,
                Action::Append { .. } => Self::Append,
                Action::Expire { .. } | Action::ExpireIf { .. } | Action::ExpireAt { .. } => Self::Expire,
                Action::Persist => Self::Persist,
                Action::SetRange { .. } => Self::SetRange,
                Action::SetBit { .. } => Self::SetBit,
                Action::IncrDecimal { .. } => Self::IncrDecimal,
            },
            RequestBody::Batch { .. } => Self::Batch,
            RequestBody::Atomic(_) => Self::Atomic,
            RequestBody::Transaction(_) => Self::Transaction,
            RequestBody::Await { .. } => Self::Await,
            RequestBody::Hello(_)
            | RequestBody::Ping(_)
            | RequestBody::Topology
            | RequestBody::Status(_)
            | RequestBody::Explain(_)
            | RequestBody::Auth(_)
            | RequestBody::Admin(_) => Self::Other,
        }
    }
}

/// How a read came by its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadPath {
    /// This node led, under its lease: nobody else was asked.
    Lease,
    /// A quorum was asked first, or the read followed a write of its client's through the queue.
    Confirmed,
    /// It might be stale, and any replica would do.
    Stale,
    /// Another node answered.
    Forwarded,
}

impl ReadPath {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Lease, Self::Confirmed, Self::Stale, Self::Forwarded];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Confirmed => "confirmed",
            Self::Stale => "stale",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadSource {
    /// How.
    pub path: ReadPath,
    /// The value was read by another thread, since it is large and may have had to come from the disk.
    pub apart: bool,
}

impl ReadSource {
    /// Out of this node's memory, with nobody else asked.
    pub fn is_hit(self) -> bool {
        matches!(self.path, ReadPath::Lease | ReadPath::Stale) && !self.apart
    }
}

impl Default for ReadSource {
    fn default() -> Self {
        Self { path: ReadPath::Lease, apart: false }
    }
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It was answered. A condition that did not hold is an answer, and so is a key that is not there.
    Answered,
    /// It failed, and certainly had no effect.
    NotApplied,
    /// It failed, and nobody knows whether it had an effect.
    Unknown,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Answered, Self::NotApplied, Self::Unknown];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "ok",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// A request that was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Which way it came in.
    pub door: Door,
    /// What was asked.
    pub operation: OperationKind,
    /// How it ended.
    pub ending: Ending,
    /// What went wrong.
    pub error: Option<ErrorCode>,
    /// From when it was taken up until it was answered.
    pub took: Nanos,
    /// Where the answer to a GET came from.
    pub source: Option<ReadSource>,
    /// It had to wait, see [`Meter::waits`].
    pub waited: bool,
}

impl Finished {
    /// A request that was answered with `body`.
    pub fn new(door: Door, operation: OperationKind, body: &ResponseBody, took: Nanos) -> Self {
        let (ending, error) = match body {
            ResponseBody::Error(error) => match error.outcome {
                Outcome::NotApplied => (Ending::NotApplied, Some(error.code)),
                Outcome::Applied => (Ending::Answered, Some(error.code)),
                _ => (Ending::Unknown, Some(error.code)),
            },
            _ => (Ending::Answered, None),
        };
        Self { door, operation, ending, error, took, source: None, waited: false }
    }
}

/// Takes down what sessions have answered. Called for each request, so it must be quick.
pub trait Meter: Send + Sync {
    /// A request was answered.
    fn finished(&self, finished: &Finished);
    /// A request could not be answered at once; [`Meter::finished`] says that it was, or [`Meter::abandoned`] that it never will be.
    fn waits(&self, door: Door);
    /// So many requests had to wait, and will not be answered here: they go back to whoever has passed them on, or nobody is there any
    /// more who would hear.
    fn abandoned(&self, door: Door, requests: usize);
}

/// Takes nothing down.
#[derive(Clone, Copy, Debug)]
pub struct NoMeter;

impl NoMeter {
    /// One to be shared.
    pub fn shared() -> Arc<dyn Meter> {
        Arc::new(Self)
    }
}

impl Meter for NoMeter {
    fn finished(&self, _finished: &Finished) {}
    fn waits(&self, _door: Door) {}
    fn abandoned(&self, _door: Door, _requests: usize) {}
}
