//! The newtypes that every other module speaks in.

use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A shard: one equal slice of the hash ring, replicated as one consensus group.
    ShardId(u16)
}
number! {
    /// A raft term.
    Term(u64)
}
number! {
    /// A position in a shard's replicated log; the first entry has index 1.
    LogIndex(u64)
}
number! {
    /// A key's version: the shard's count of effective writes when the key was last written. It grows with every write
    /// of the shard and is never used twice, so a deleted and re-created key has a new one. 0 means "no such key".
    Version(u64)
}
number! {
    /// The ring map's epoch: grows with each change of nodes or placement.
    Epoch(u64)
}
number! {
    /// One replica of one shard, as consensus knows it. Never reused, never 0.
    ReplicaId(u64)
}
number! {
    /// Ties a reply to its request on one connection. 0 is kept for frames that the node sends unasked.
    RequestId(u32)
}
identity! {
    /// A node: its data folder and its certificate. Addresses may change, this does not.
    NodeId
}
identity! {
    /// A data folder: drawn at random when it was made, and anew once it has forgotten something. A node that comes with another
    /// one than it had has forgotten its votes.
    FolderId
}
identity! {
    /// A cluster. Nodes and clients of another cluster are refused at the door.
    ClusterId
}
identity! {
    /// A one-shot name of a write: whoever uses it, the write takes effect once. It should be drawn at random, or be a hash.
    OnceId
}
identity! {
    /// One client instance; names the session under which its writes take effect once.
    ClientId
}

impl ShardId {
    /// The group that replicates the ring map. Clients can't address it.
    pub const META: Self = Self(u16::MAX);
}

/// When a write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Ack {
    /// Persisted by a quorum and applied: it survives what the cluster's durability says. The default.
    #[default]
    Committed,
    /// In the leader's log only: early, may be lost, may not be readable yet.
    Accepted,
}

/// What "persisted" means; a property of the whole cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Durability {
    /// Fsynced by a quorum.
    #[default]
    Fsync,
    /// In the page cache of a quorum, synced in the background.
    Memory,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::Accepted => "accepted",
        })
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fsync => "fsync",
            Self::Memory => "memory",
        })
    }
}

/// Where an accepted write stands: the entry of its shard's log that holds it. Asked with it, a node tells what became of the write.
///
/// As text it is the three numbers with dots between them: `3.7.1204`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Receipt {
    /// The shard.
    pub shard: ShardId,
    /// The term of the leader that accepted it; not 0.
    pub term: Term,
    /// The entry; not 0. Another one may take its place, of a later term: the write is lost then.
    pub index: LogIndex,
}

/// A text that is no receipt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseReceiptError;

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, term, index } = self;
        write!(f, "{shard}.{term}.{index}")
    }
}

impl FromStr for Receipt {
    type Err = ParseReceiptError;

    fn from_str(text: &str) -> Result<Self, ParseReceiptError> {
        fn number<N: FromStr>(text: &str) -> Result<N, ParseReceiptError> {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(ParseReceiptError)
        }
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(ParseReceiptError);
        let (shard, term, index) = (number(next()?)?, number(next()?)?, number(next()?)?);
        let is_one = parts.next().is_none() && term != 0 && index != 0;
        is_one
            .then_some(Self { shard: ShardId(shard), term: Term(term), index: LogIndex(index) })
            .ok_or(ParseReceiptError)
    }
}

impl fmt::Display for ParseReceiptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a receipt is three numbers with dots between them: shard, term and index")
    }
}

impl std::error::Error for ParseReceiptError {}

/// A value as it is stored under a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The value's bytes.
    pub value: Bytes,
    /// The version the write that stored it was given.
    pub version: Version,
    /// When it expires, in milliseconds of the shard's log time (close to Unix time); `None` is never.
    pub expires_at_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_three_numbers() {
        let receipt = Receipt { shard: ShardId(3), term: Term(7), index: LogIndex(u64::MAX) };
        assert_eq!(receipt.to_string(), "3.7.18446744073709551615");
        assert_eq!("3.7.18446744073709551615".parse(), Ok(receipt));
        for text in ["", "3", "3.7", "3.7.", "3.7.1.2", "3.7.x", "+3.7.1", "65536.7.1", "3.0.1", "3.7.0", " 3.7.1"] {
            assert_eq!(text.parse::<Receipt>(), Err(ParseReceiptError), "{text:?}");
        }
    }
}
