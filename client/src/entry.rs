//! A key with its value, as reads answer it.

use crate::limits::DETACHED_VALUE_BYTES;
use bytes::Bytes;
use kvorum_protocol::Version;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A key with its value.
///
/// New fields may come. Programs read entries; tests make them with [`Entry::new`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value; empty from a scan that did not ask for values.
    pub value: Bytes,
    /// Grows with every write of the key's shard; what `if_version` compares.
    pub version: Version,
    /// When the key expires, in milliseconds of its shard's log time; `None` is never. Log time is close to Unix time: it
    /// follows what a majority of the nodes' clocks show, and never the clock of this machine.
    pub expires_at_ms: Option<u64>,
}

impl Entry {
    /// An entry that does not expire, for tests of code that takes entries.
    ///
    /// # Examples
    /// ```
    /// use kvorum_client::{Entry, Version};
    ///
    /// let mut entry = Entry::new("greeting", "hello", Version(7));
    /// entry.expires_at_ms = Some(1_900_000_000_000);
    /// assert_eq!(entry.value, "hello");
    /// ```
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        Self { key: key.into(), value: value.into(), version, expires_at_ms: None }
    }

    pub(crate) fn from_wire(key: Bytes, entry: kvorum_protocol::Entry) -> Self {
        Self { key, value: detach(entry.value), version: entry.version, expires_at_ms: entry.expires_at_ms }
    }

    /// When the key expires, on the clock of the cluster; `None` is never.
    ///
    /// A clock of this machine that is wrong does not change the answer, and does change what it means to compare it with
    /// `SystemTime::now()`.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client::{Entry, Version};
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// let mut entry = Entry::new("k", "v", Version(1));
    /// assert_eq!(entry.expires_at(), None);
    /// entry.expires_at_ms = Some(1_500);
    /// assert_eq!(entry.expires_at(), Some(UNIX_EPOCH + Duration::from_millis(1_500)));
    /// ```
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at_ms.map(|at| UNIX_EPOCH + Duration::from_millis(at))
    }

    /// The time that is left at `now`, zero if it is over; `None` if the key does not expire.
    ///
    /// A node tells when a key expires, and not what time it is there. So the answer is as good as the agreement of the clock
    /// that gave `now` with those of most nodes. With `SystemTime::now()` it is off by what this machine's clock is off.
    /// Whether a key is still there is something that only a read tells: a node never returns an expired one.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client::{Entry, Version};
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// let mut entry = Entry::new("k", "v", Version(1));
    /// entry.expires_at_ms = Some(1_500);
    /// let now = UNIX_EPOCH + Duration::from_secs(1);
    /// assert_eq!(entry.ttl_at(now), Some(Duration::from_millis(500)));
    /// assert_eq!(entry.ttl_at(now + Duration::from_secs(9)), Some(Duration::ZERO));
    /// ```
    pub fn ttl_at(&self, now: SystemTime) -> Option<Duration> {
        self.expires_at().map(|at| at.duration_since(now).unwrap_or_default())
    }
}

/// A small value shares the memory of the buffer it was read into, with everything else that came with it. Whoever keeps
/// it should not keep all of that.
fn detach(value: Bytes) -> Bytes {
    if value.len() <= DETACHED_VALUE_BYTES { Bytes::copy_from_slice(&value) } else { value }
}
