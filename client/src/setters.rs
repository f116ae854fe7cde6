//! The setters that several builders share. Each takes the builder as its examples have it.

/// `mode`, `stale` and `deadline` of what reads keys.
macro_rules! read_setters {
    ($builder:literal) => {
        /// Reads what some replica of each key's shard holds, which may be old: it may lack acknowledged writes.
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let found = ", $builder, ".stale().await;")]
        /// # }
        /// ```
        pub fn stale(self) -> Self {
            self.mode(ReadMode::Stale)
        }

        /// Sets how fresh the answer must be, instead of what [`ClientBuilder::read_mode`](crate::ClientBuilder::read_mode)
        /// says.
        ///
        /// # Examples
        /// ```no_run
        /// # use kvorum_client::ReadMode;
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let found = ", $builder, ".mode(ReadMode::Linearizable).await;")]
        /// # }
        /// ```
        pub fn mode(mut self, mode: ReadMode) -> Self {
            self.mode = mode;
            self
        }

        /// Sets how long the operation may take with all its attempts: at most ten minutes, and five seconds unless
        /// [`ClientBuilder::deadline`](crate::ClientBuilder::deadline) says otherwise.
        ///
        /// # Examples
        /// ```no_run
        /// # use std::time::Duration;
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let found = ", $builder, ".deadline(Duration::from_millis(200)).await;")]
        /// # }
        /// ```
        pub fn deadline(mut self, deadline: Duration) -> Self {
            self.deadline = Some(deadline);
            self
        }
    };
}

/// `ack` and `deadline` of what writes. The builder has a field with a [`WriteOptions`](crate::write::WriteOptions).
macro_rules! write_setters {
    ($builder:literal, $($path:tt).+) => {
        /// Sets when the write is answered. [`Ack::Committed`], the default, waits until a quorum has persisted it.
        /// [`Ack::Accepted`] waits for the leader's log only: it is faster, and the write may be lost.
        ///
        /// # Examples
        /// ```no_run
        /// # use kvorum_client::Ack;
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let answer = ", $builder, ".ack(Ack::Accepted).await;")]
        /// # }
        /// ```
        pub fn ack(mut self, ack: Ack) -> Self {
            self.$($path).+.ack = ack;
            self
        }

        /// Sets how long the operation may take with all its attempts: at most ten minutes, and five seconds unless
        /// [`ClientBuilder::deadline`](crate::ClientBuilder::deadline) says otherwise.
        ///
        /// # Examples
        /// ```no_run
        /// # use std::time::Duration;
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let answer = ", $builder, ".deadline(Duration::from_millis(200)).await;")]
        /// # }
        /// ```
        pub fn deadline(mut self, deadline: Duration) -> Self {
            self.$($path).+.deadline = Some(deadline);
            self
        }
    };
}

/// `once` of a write to one key.
macro_rules! once_setter {
    ($builder:literal) => {
        /// Gives the write a one-shot name of 1 to 255 bytes: it takes effect once under it, whoever sends it, through whichever
        /// node. Without one, only this client's own repetitions take effect once. So a program that does not know what became
        /// of a write, or was started again meanwhile, sends it again under its name.
        ///
        /// Whoever comes later gets the answer that the first one had, with [`WriteResult::replayed`](crate::WriteResult::replayed)
        /// set, and with its [`Ack`]. A condition that did not hold and a key that was missing are answers, too. An error is none:
        /// nothing was written, and the write is tried anew.
        ///
        /// A name belongs to its key: under another key it is another name. An `Idempotency-Key` of the HTTP door is another name,
        /// too. The key's shard remembers a name for 120 s, and no longer than 65,536 later ones. **A write that comes after that
        /// is a new write.**
        ///
        /// # Errors
        /// When the write is awaited, [`ErrorCode::OnceIdReused`](crate::ErrorCode::OnceIdReused) if another write was sent to the
        /// key under this name: another action, value, time to live or condition. Nothing is sent if the name is empty, or if the
        /// entry that was there before is asked for ([`Error::InvalidArgument`]), nor if the name is too long
        /// ([`Error::TooLarge`]).
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
        /// # use kvorum_client::Outcome;
        #[doc = concat!("let mut answer = ", $builder, ".once(\"order-17\").await;")]
        /// if matches!(&answer, Err(error) if error.outcome() == Outcome::Unknown) {
        ///     // It may have taken effect. Under its name it does no harm to ask again.
        #[doc = concat!("    answer = ", $builder, ".once(\"order-17\").await;")]
        /// }
        /// # answer.map(drop)
        /// # }
        /// ```
        pub fn once(mut self, name: impl AsRef<[u8]>) -> Self {
            self.0.once = Some(OnceName::new(name.as_ref()));
            self
        }
    };
}

/// The conditions of a write. Each makes a [`ConditionalWrite`](crate::ConditionalWrite) of it.
macro_rules! condition_setters {
    ($builder:literal) => {
        /// Writes only if there is no such key.
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
        #[doc = concat!("let result = ", $builder, ".if_absent().await?;")]
        /// if !result.is_applied() {
        ///     println!("the key is there, with version {}", result.version());
        /// }
        /// # Ok(())
        /// # }
        /// ```
        pub fn if_absent(self) -> ConditionalWrite {
            self.condition(Condition::IfAbsent)
        }

        /// Writes only if there is such a key.
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
        #[doc = concat!("let result = ", $builder, ".if_present().await?;")]
        /// println!("written: {}", result.is_applied());
        /// # Ok(())
        /// # }
        /// ```
        pub fn if_present(self) -> ConditionalWrite {
            self.condition(Condition::IfPresent)
        }

        /// Writes only if the key has this version, which a read or a write has told: compare and set. [`Version`]`(0)`
        /// stands for a key that does not exist.
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
        /// if let Some(entry) = client.get("key").await? {
        #[doc = concat!("    let result = ", $builder, ".if_version(entry.version).await?;")]
        ///     println!("written: {}", result.is_applied());
        /// }
        /// # Ok(())
        /// # }
        /// ```
        pub fn if_version(self, version: Version) -> ConditionalWrite {
            self.condition(Condition::IfVersion(version))
        }

        /// Writes only if there is no such key, or it has this version: who has read a version overwrites no other one, and
        /// writes a key anew that is gone.
        ///
        /// # Examples
        /// ```no_run
        /// # use kvorum_client::Version;
        /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
        #[doc = concat!("let result = ", $builder, ".if_absent_or_version(Version(7)).await?;")]
        /// println!("written: {}", result.is_applied());
        /// # Ok(())
        /// # }
        /// ```
        pub fn if_absent_or_version(self, version: Version) -> ConditionalWrite {
            self.condition(Condition::IfAbsentOrVersion(version))
        }

        /// Writes only if the key has this very value: who has taken a lock can let go of it, and of no other one's.
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
        #[doc = concat!("let result = ", $builder, ".if_equals(\"old\").await?;")]
        /// println!("written: {}", result.is_applied());
        /// # Ok(())
        /// # }
        /// ```
        pub fn if_equals(self, value: impl Into<Bytes>) -> ConditionalWrite {
            self.condition(Condition::IfEquals(value.into()))
        }

        /// Writes only if this holds; the last condition that was set counts.
        ///
        /// # Examples
        /// ```no_run
        /// # use kvorum_client::Condition;
        /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
        #[doc = concat!("let result = ", $builder, ".condition(Condition::IfAbsent).await?;")]
        /// println!("written: {}", result.is_applied());
        /// # Ok(())
        /// # }
        /// ```
        pub fn condition(self, condition: Condition) -> ConditionalWrite {
            ConditionalWrite(SingleWrite { op: self.0.op.condition(condition), ..self.0 })
        }
    };
}

/// How writes are added to what takes many of them. The builder has a field `ops`.
macro_rules! addition_setters {
    ($builder:literal) => {
        /// Adds a put; see [`Client::put`].
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let answer = ", $builder, ".put(\"{cart}.1\", \"tea\").await;")]
        /// # }
        /// ```
        pub fn put(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
            self.write(WriteOp::put(key, value))
        }

        /// Adds a delete; see [`Client::delete`].
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let answer = ", $builder, ".delete(\"{cart}.1\").await;")]
        /// # }
        /// ```
        pub fn delete(self, key: impl AsRef<[u8]>) -> Self {
            self.write(WriteOp::delete(key))
        }

        /// Adds an increment; see [`Client::incr`].
        ///
        /// # Examples
        /// ```no_run
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let answer = ", $builder, ".incr(\"{cart}.items\", 1).await;")]
        /// # }
        /// ```
        pub fn incr(self, key: impl AsRef<[u8]>, by: i64) -> Self {
            self.write(WriteOp::incr(key, by))
        }

        /// Adds any write.
        ///
        /// # Examples
        /// ```no_run
        /// # use kvorum_client::WriteOp;
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let answer = ", $builder, ".write(WriteOp::append(\"{cart}.log\", \"+tea\")).await;")]
        /// # }
        /// ```
        pub fn write(mut self, op: WriteOp) -> Self {
            self.push(op);
            self
        }

        /// Adds any write, in place: for loops.
        ///
        /// # Examples
        /// ```no_run
        /// # use kvorum_client::WriteOp;
        /// # async fn example(client: &kvorum_client::Client) {
        #[doc = concat!("let mut writes = ", $builder, ";")]
        /// for number in 0..10 {
        ///     writes.push(WriteOp::put(format!("{{cart}}.{number}"), "tea"));
        /// }
        /// let answer = writes.await;
        /// # }
        /// ```
        pub fn push(&mut self, op: WriteOp) {
            self.ops.push(op);
        }
    };
}

pub(crate) use {addition_setters, condition_setters, once_setter, read_setters, write_setters};
