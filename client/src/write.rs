//! Writes to one key, as builders that run when they are awaited.

use crate::client::Client;
use crate::core::{Call, unexpected};
use crate::entry::Entry;
use crate::once::OnceName;
use crate::setters::{condition_setters, once_setter, write_setters};
use crate::write_op::{WriteOp, mutation_bytes};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kvorum_client_core::Error;
use kvorum_client_core::retry::Kind;
use kvorum_protocol::{
    Ack, Condition, Durability, Outcome, Receipt, RequestBody, ResponseBody, Version, WriteId, WriteStatus,
};
use std::future::IntoFuture;
use std::time::Duration;

/// What became of a write that was answered.
///
/// New fields may come. Programs read results; tests make them with [`WriteResult::new`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WriteResult {
    /// Whether it took effect.
    pub status: WriteStatus,
    /// After an effect, the key's new version (for a delete, the one that the removal was given); else the version the
    /// key has, or 0 if there is no such key.
    pub version: Version,
    /// What was waited for.
    pub ack: Ack,
    /// What that is worth.
    pub durability: Durability,
    /// After an increment the new number, after an append the new length in bytes.
    pub number: Option<i64>,
    /// The entry that was there before, if it was asked for and there was one.
    pub previous: Option<Entry>,
    /// Of a write that took effect and is merely accepted: what [`Client::await_write`] takes. A write that had to be sent
    /// again is committed when it is answered, and has none.
    pub receipt: Option<Receipt>,
    /// Whether the key existed before, if that was asked for with [`Write::return_existed`]. A write that had to be sent again may
    /// be answered from what the cluster remembers of it, which does not tell.
    pub existed: Option<bool>,
    /// The write was done before under the same one-shot name ([`Write::once`]), and this is what was answered then.
    pub replayed: bool,
}

impl WriteResult {
    /// The result of a write that a quorum has synced, for tests of code that takes results.
    ///
    /// # Examples
    /// ```
    /// use kvorum_client::{Version, WriteResult, WriteStatus};
    ///
    /// let mut result = WriteResult::new(WriteStatus::Applied, Version(7));
    /// result.number = Some(42);
    /// assert!(result.is_applied());
    /// ```
    pub fn new(status: WriteStatus, version: Version) -> Self {
        let (ack, durability) = (Ack::Committed, Durability::Fsync);
        Self {
            status,
            version,
            ack,
            durability,
            number: None,
            previous: None,
            receipt: None,
            existed: None,
            replayed: false,
        }
    }

    pub(crate) fn from_wire(key: &Bytes, result: kvorum_protocol::WriteResult) -> Self {
        Self {
            status: result.status,
            version: result.version,
            ack: result.ack,
            durability: result.durability,
            number: result.number,
            previous: result.previous.map(|entry| Entry::from_wire(key.clone(), entry)),
            receipt: result.receipt,
            existed: result.existed,
            replayed: result.replayed,
        }
    }

    /// Whether the write took effect. A delete, an expire or a persist has none if there is no such key.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let was_there = client.delete("greeting").await?.is_applied();
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_applied(&self) -> bool {
        self.status == WriteStatus::Applied
    }
}

/// What became of a write with a condition that was answered. A condition that does not hold is a result and no error.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "the write may not have taken effect: a condition that does not hold is no error"]
pub enum ConditionalResult {
    /// The condition held, and the write took effect.
    Applied(WriteResult),
    /// Nothing was written. The result has the version that the key has, and the status says why: the condition did not hold
    /// ([`WriteStatus::ConditionFailed`]), or there was nothing to change ([`WriteStatus::Missing`]).
    NotApplied(WriteResult),
}

impl ConditionalResult {
    /// Whether the write took effect.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let is_mine = client.put("lock", "me").if_absent().await?.is_applied();
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }

    /// The version that the key has now: the new one if the write took effect, else the one that was there, 0 for none.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let result = client.put("lock", "me").if_absent().await?;
    /// println!("version {}", result.version());
    /// # Ok(())
    /// # }
    /// ```
    pub fn version(&self) -> Version {
        let (Self::Applied(result) | Self::NotApplied(result)) = self;
        result.version
    }

    /// The result, whichever it is. Its status says whether the write took effect.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let result = client.put("lock", "me").if_absent().await?.into_result();
    /// println!("{:?}", result.status);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn into_result(self) -> WriteResult {
        let (Self::Applied(result) | Self::NotApplied(result)) = self;
        result
    }
}

impl From<WriteResult> for ConditionalResult {
    fn from(result: WriteResult) -> Self {
        if result.is_applied() { Self::Applied(result) } else { Self::NotApplied(result) }
    }
}

/// How what writes is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) ack: Ack,
    pub(crate) deadline: Option<Duration>,
}

impl WriteOptions {
    pub(crate) const DEFAULT: Self = Self { ack: Ack::Committed, deadline: None };
}

/// A write to one key, whatever its builder is.
#[derive(Clone, Debug)]
struct SingleWrite {
    client: Client,
    op: WriteOp,
    once: Option<OnceName>,
    options: WriteOptions,
}

impl SingleWrite {
    fn new(client: &Client, op: WriteOp) -> Self {
        Self { client: client.clone(), op, once: None, options: WriteOptions::DEFAULT }
    }

    async fn run(self) -> Result<WriteResult, Error> {
        let Self { client, op, once, options } = self;
        let mutation = op.checked()?;
        let once = once.map(|name| name.of(&mutation)).transpose()?;
        let key = mutation.key.clone();
        let sequence = client.core.sequences(1);
        let call = Call {
            need: client.need_leader(&key),
            kind: Kind::Write,
            bytes: mutation_bytes(&mutation),
            deadline: client.deadline(options.deadline),
            body: RequestBody::Write { id: WriteId { once, ..sequence.write_id() }, ack: options.ack, mutation },
            sequence: Some(sequence),
        };
        match client.core.execute(call).await? {
            ResponseBody::Written(result) => Ok(WriteResult::from_wire(&key, result)),
            other => Err(unexpected(&other, Kind::Write)),
        }
    }

    /// Runs a write that always takes effect, and leaves a number.
    async fn run_for_number(self) -> Result<i64, Error> {
        self.run().await?.number.ok_or_else(|| Error::Protocol {
            outcome: Outcome::Applied,
            detail: "a write that leaves a number was answered without one".to_owned(),
        })
    }
}

/// A write to one key; see [`Client::put`] and its neighbours. It resolves to a [`WriteResult`].
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Write(SingleWrite);

impl Write {
    pub(crate) fn new(client: &Client, op: WriteOp) -> Self {
        Self(SingleWrite::new(client, op))
    }

    /// Sets the time to live that a put gives its key, from one millisecond to 100 years; without it the key lives for ever.
    /// Parts of a millisecond count as a whole one.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// client.put("session", "token").ttl(Duration::from_secs(60)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.0.op = self.0.op.ttl(ttl);
        self
    }

    /// Has a put keep the time to live that its key has; see [`WriteOp::keep_ttl`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// client.put("session", "other token").keep_ttl().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_ttl(mut self) -> Self {
        self.0.op = self.0.op.keep_ttl();
        self
    }

    /// Asks whether the key existed before; see [`WriteOp::return_existed`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let is_new = client.put("greeting", "hello").return_existed().await?.existed == Some(false);
    /// # Ok(())
    /// # }
    /// ```
    pub fn return_existed(mut self) -> Self {
        self.0.op = self.0.op.return_existed();
        self
    }

    /// Asks for the entry that was there before.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let before = client.put("greeting", "hello").return_previous().await?.previous;
    /// # Ok(())
    /// # }
    /// ```
    pub fn return_previous(mut self) -> Self {
        self.0.op = self.0.op.return_previous();
        self
    }

    condition_setters!("client.put(\"key\", \"value\")");
    once_setter!("client.put(\"key\", \"value\")");
    write_setters!("client.put(\"key\", \"value\")", 0.options);
}

impl IntoFuture for Write {
    type Output = Result<WriteResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.run())
    }
}

/// A write that may have a condition; see [`Write::if_version`] and its neighbours, and [`Client::write`]. It resolves to a
/// [`ConditionalResult`], which says whether the write took effect.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct ConditionalWrite(SingleWrite);

impl ConditionalWrite {
    pub(crate) fn new(client: &Client, op: WriteOp) -> Self {
        Self(SingleWrite::new(client, op))
    }

    /// Sets the time to live that a put gives its key; see [`Write::ttl`].
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let is_mine = client.put("lock", "me").if_absent().ttl(Duration::from_secs(10)).await?.is_applied();
    /// # Ok(())
    /// # }
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.0.op = self.0.op.ttl(ttl);
        self
    }

    /// Has a put keep the time to live that its key has; see [`WriteOp::keep_ttl`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let was_there = client.put("session", "other token").if_present().keep_ttl().await?.is_applied();
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_ttl(mut self) -> Self {
        self.0.op = self.0.op.keep_ttl();
        self
    }

    /// Asks whether the key exists when the condition is looked at; see [`WriteOp::return_existed`].
    ///
    /// # Examples
    /// ```no_run
    /// # use kvorum_client::Version;
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let put = client.put("draft", "second").if_absent_or_version(Version(7));
    /// let is_new = put.return_existed().await?.into_result().existed == Some(false);
    /// # Ok(())
    /// # }
    /// ```
    pub fn return_existed(mut self) -> Self {
        self.0.op = self.0.op.return_existed();
        self
    }

    /// Asks for the entry that is there when the condition is looked at. It comes also if the condition does not hold.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let result = client.put("lock", "me").if_absent().return_previous().await?.into_result();
    /// if let Some(other) = result.previous {
    ///     println!("the lock is held by {:?}", other.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn return_previous(mut self) -> Self {
        self.0.op = self.0.op.return_previous();
        self
    }

    condition_setters!("client.put(\"key\", \"value\").if_absent()");
    once_setter!("client.put(\"key\", \"value\").if_absent()");
    write_setters!("client.put(\"key\", \"value\").if_absent()", 0.options);
}

impl IntoFuture for ConditionalWrite {
    type Output = Result<ConditionalResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.0.run().await.map(ConditionalResult::from) })
    }
}

/// An increment of one key; see [`Client::incr`]. It resolves to the new number.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Incr(SingleWrite);

impl Incr {
    pub(crate) fn new(client: &Client, key: &[u8], by: i64) -> Self {
        Self(SingleWrite::new(client, WriteOp::incr(key, by)))
    }

    condition_setters!("client.incr(\"key\", 1)");
    once_setter!("client.incr(\"key\", 1)");
    write_setters!("client.incr(\"key\", 1)", 0.options);
}

impl IntoFuture for Incr {
    type Output = Result<i64, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.run_for_number())
    }
}

/// An append to one key; see [`Client::append`]. It resolves to the value's new length in bytes.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Append(SingleWrite);

impl Append {
    pub(crate) fn new(client: &Client, key: &[u8], value: Bytes) -> Self {
        Self(SingleWrite::new(client, WriteOp::append(key, value)))
    }

    condition_setters!("client.append(\"key\", \"more\")");
    once_setter!("client.append(\"key\", \"more\")");
    write_setters!("client.append(\"key\", \"more\")", 0.options);
}

impl IntoFuture for Append {
    type Output = Result<u64, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.0.run_for_number().await.map(i64::cast_unsigned) })
    }
}
