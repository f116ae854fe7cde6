//! One write as a value.

use crate::key::check_key;
use bytes::Bytes;
use kvorum_client_core::Error;
use kvorum_protocol::limits::{TTL_MS_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{Action, Condition, Mutation, ReturnPrevious, TimeToLive, Version};
use std::time::Duration;

/// One write as a value: what a single write, a batch or an atomic is made of.
///
/// What makes no sense, such as a time to live of zero, is told when the write is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteOp {
    mutation: Mutation,
    /// The first thing about it that makes no sense.
    invalid: Option<Error>,
}

impl WriteOp {
    /// Stores a value, of at most 16 MiB, under a key, of at most 64 KiB. Without [`WriteOp::ttl`] the key lives for ever.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::put("greeting", "hello");
    /// assert_eq!(op.key(), "greeting");
    /// ```
    #[must_use]
    pub fn put(key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        Self::new(key, Action::Put { value: value.into(), ttl: TimeToLive::Forever })
    }

    /// Removes a key.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::delete("greeting");
    /// ```
    #[must_use]
    pub fn delete(key: impl AsRef<[u8]>) -> Self {
        Self::new(key, Action::Delete)
    }

    /// Adds to a decimal 64-bit integer; a missing key counts as 0.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::incr("visits", 1);
    /// assert!(!op.is_idempotent());
    /// ```
    #[must_use]
    pub fn incr(key: impl AsRef<[u8]>, by: i64) -> Self {
        Self::new(key, Action::Incr { by })
    }

    /// Appends bytes, up to a value of 16 MiB; a missing key counts as empty.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::append("log", "one line\n");
    /// ```
    #[must_use]
    pub fn append(key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        Self::new(key, Action::Append { value: value.into() })
    }

    /// Overwrites a part of a value from this offset on, in bytes, with one byte at least; a missing key counts as empty. Zeros fill
    /// the gap between the end of the value and the offset. The value has 16 MiB at most afterwards.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::set_range("greeting", 6, "there");
    /// ```
    #[must_use]
    pub fn set_range(key: impl AsRef<[u8]>, offset: u64, bytes: impl Into<Bytes>) -> Self {
        Self::new(key, Action::SetRange { offset, value: bytes.into() })
    }

    /// Sets the time to live of an existing key, from one millisecond to 100 years.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// let op = kvorum_client::WriteOp::expire("session", Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn expire(key: impl AsRef<[u8]>, ttl: Duration) -> Self {
        Self::new(key, Action::Expire { ttl_ms: 0 }).ttl(ttl)
    }

    /// Takes the time to live off an existing key.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::persist("session");
    /// ```
    #[must_use]
    pub fn persist(key: impl AsRef<[u8]>) -> Self {
        Self::new(key, Action::Persist)
    }

    /// Sets the time to live that a put gives its key, from one millisecond to 100 years; without it the key lives for ever.
    /// Parts of a millisecond count as a whole one. Only a put and an expire take one.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// let op = kvorum_client::WriteOp::put("session", "token").ttl(Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        let ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let problem = match &mut self.mutation.action {
            Action::Put { ttl, .. } if (1..=TTL_MS_MAX).contains(&ms) => {
                *ttl = TimeToLive::Ms(ms);
                return self;
            }
            Action::Expire { ttl_ms } if (1..=TTL_MS_MAX).contains(&ms) => {
                *ttl_ms = ms;
                return self;
            }
            Action::Put { .. } | Action::Expire { .. } => "a time to live is from one millisecond to 100 years",
            _ => "only a put and an expire take a time to live",
        };
        self.invalid.get_or_insert(Error::InvalidArgument(problem.to_owned()));
        self
    }

    /// Has a put keep the time to live that its key has. A key that does not exist, or has expired, has none afterwards. Of this and
    /// [`WriteOp::ttl`] the last counts. Only a put takes it: an increment and an append keep it anyhow.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::put("session", "other token").keep_ttl();
    /// ```
    #[must_use]
    pub fn keep_ttl(mut self) -> Self {
        if let Action::Put { ttl, .. } = &mut self.mutation.action {
            *ttl = TimeToLive::Keep;
        } else {
            let problem = "only a put can be told to keep the time to live";
            self.invalid.get_or_insert(Error::InvalidArgument(problem.to_owned()));
        }
        self
    }

    /// Writes only if there is no such key.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::put("lock", "me").if_absent();
    /// ```
    #[must_use]
    pub fn if_absent(self) -> Self {
        self.condition(Condition::IfAbsent)
    }

    /// Writes only if there is such a key.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::incr("stock", -1).if_present();
    /// ```
    #[must_use]
    pub fn if_present(self) -> Self {
        self.condition(Condition::IfPresent)
    }

    /// Writes only if the key has this version: compare and set.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client::Version;
    /// let op = kvorum_client::WriteOp::put("greeting", "bye").if_version(Version(7));
    /// ```
    #[must_use]
    pub fn if_version(self, version: Version) -> Self {
        self.condition(Condition::IfVersion(version))
    }

    /// Writes only if there is no such key, or it has this version.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client::Version;
    /// let op = kvorum_client::WriteOp::put("draft", "second").if_absent_or_version(Version(7));
    /// ```
    #[must_use]
    pub fn if_absent_or_version(self, version: Version) -> Self {
        self.condition(Condition::IfAbsentOrVersion(version))
    }

    /// Writes only if the key has this very value: who has taken a lock can let go of it, and of no other one's.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::delete("lock").if_equals("me");
    /// ```
    #[must_use]
    pub fn if_equals(self, value: impl Into<Bytes>) -> Self {
        self.condition(Condition::IfEquals(value.into()))
    }

    /// Writes only if this holds; the last condition that was set counts.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client::Condition;
    /// let op = kvorum_client::WriteOp::delete("greeting").condition(Condition::IfPresent);
    /// ```
    #[must_use]
    pub fn condition(mut self, condition: Condition) -> Self {
        self.mutation.condition = condition;
        self
    }

    /// Asks whether the key existed before: [`WriteResult::existed`](crate::WriteResult::existed). That costs less than
    /// [`WriteOp::return_previous`], for no value is read; of the two the last counts.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::put("greeting", "hello").return_existed();
    /// assert!(op.returns_existed());
    /// ```
    #[must_use]
    pub fn return_existed(mut self) -> Self {
        self.mutation.return_previous = ReturnPrevious::Existence;
        self
    }

    /// Asks for the entry that was there before.
    ///
    /// # Examples
    /// ```
    /// let op = kvorum_client::WriteOp::delete("greeting").return_previous();
    /// assert!(op.returns_previous());
    /// ```
    #[must_use]
    pub fn return_previous(mut self) -> Self {
        self.mutation.return_previous = ReturnPrevious::Entry;
        self
    }

    /// The key.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(kvorum_client::WriteOp::delete("greeting").key(), "greeting");
    /// ```
    pub fn key(&self) -> &Bytes {
        &self.mutation.key
    }

    /// Whether the entry that was there before is asked for.
    ///
    /// # Examples
    /// ```
    /// assert!(!kvorum_client::WriteOp::delete("greeting").returns_previous());
    /// ```
    pub fn returns_previous(&self) -> bool {
        self.mutation.return_previous == ReturnPrevious::Entry
    }

    /// Whether it is asked if the key existed before.
    ///
    /// # Examples
    /// ```
    /// assert!(!kvorum_client::WriteOp::delete("greeting").returns_existed());
    /// ```
    pub fn returns_existed(&self) -> bool {
        self.mutation.return_previous == ReturnPrevious::Existence
    }

    /// Whether writing it twice in a row leaves what writing it once leaves. Then it may be written again although it is not
    /// known whether it took effect.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client::WriteOp;
    /// assert!(WriteOp::put("k", "v").is_idempotent());
    /// assert!(!WriteOp::append("k", "v").is_idempotent());
    /// assert!(!WriteOp::put("k", "v").if_absent().is_idempotent(), "the second one would be refused");
    /// ```
    pub fn is_idempotent(&self) -> bool {
        let is_absolute = match self.mutation.action {
            Action::Put { .. } | Action::Delete | Action::Expire { .. } | Action::Persist => true,
            Action::ExpireAt { when, .. } => when.is_none(),
            Action::SetRange { .. } => true,
            Action::Incr { .. } | Action::Append { .. } | Action::IncrDecimal { .. } => false,
            // The second one is answered something else.
            Action::ExpireIf { .. } | Action::SetBit { .. } => false,
        };
        // A condition that failed the second time would hide that it held the first time.
        is_absolute && matches!(self.mutation.condition, Condition::Always | Condition::IfPresent)
    }

    fn new(key: impl AsRef<[u8]>, action: Action) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        let mutation = Mutation { key, condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action };
        Self { mutation, invalid: None }
    }

    /// The mutation, unless no node would take it.
    pub(crate) fn checked(self) -> Result<Mutation, Error> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        check_key(&self.mutation.key)?;
        let too_large = |what, size| Err(Error::TooLarge { what, size, limit: VALUE_BYTES_MAX });
        match &self.mutation.action {
            Action::Put { value, .. } | Action::Append { value } if value.len() > VALUE_BYTES_MAX => {
                too_large("the value's length in bytes", value.len())
            }
            Action::SetRange { value, .. } if value.is_empty() => {
                Err(Error::InvalidArgument("there is nothing to overwrite with".to_owned()))
            }
            Action::SetRange { offset, value }
                if offset.saturating_add(value.len() as u64) > VALUE_BYTES_MAX as u64 =>
            {
                let end = offset.saturating_add(value.len() as u64);
                too_large("the value's length in bytes", usize::try_from(end).unwrap_or(usize::MAX))
            }
            _ => Ok(self.mutation),
        }
    }
}

/// About how many bytes a mutation takes in a request.
pub(crate) fn mutation_bytes(mutation: &Mutation) -> usize {
    mutation.key.len() + mutation.action.operand().len() + compared_bytes(&mutation.condition) + 32
}

/// Bytes of the value that a condition compares with.
pub(crate) fn compared_bytes(condition: &Condition) -> usize {
    match condition {
        Condition::IfEquals(value) => value.len(),
        _ => 0,
    }
}
