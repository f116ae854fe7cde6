//! A walk over all keys with a prefix.

use crate::client::Client;
use crate::core::unexpected;
use crate::entry::Entry;
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt, TryStreamExt, try_unfold};
use kvorum_client_core::error::Error;
use kvorum_client_core::retry::Kind;
use kvorum_client_core::routing::Need;
use kvorum_protocol::hash::hash_tag;
use kvorum_protocol::limits::{KEY_BYTES_MAX, SCAN_ENTRIES_MAX};
use kvorum_protocol::{ReadMode, RequestBody, ResponseBody, ScanCursor, ScanRequest, ShardId};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Entries asked for at once, unless [`Scan::page`] says otherwise.
const PAGE_ENTRIES_DEFAULT: u32 = 512;

/// A stream of entries; see [`Client::scan`]. It holds one page at a time. Keys that exist throughout are seen at least
/// once; those written or deleted meanwhile may be seen or not. After an error the stream ends.
///
/// It is a [`Stream`] of `Result<Entry, Error>`; without a library of streams, [`Scan::try_next`] walks it too.
#[must_use = "it walks when it is polled"]
pub struct Scan {
    options: Options,
    walk: Option<BoxStream<'static, Result<Entry, Error>>>,
}

#[derive(Clone, Debug)]
struct Options {
    client: Client,
    prefix: Bytes,
    values: bool,
    page: u32,
    limit: Option<u64>,
    mode: ReadMode,
    deadline: Option<Duration>,
}

impl Scan {
    pub(crate) fn new(client: &Client, prefix: &[u8]) -> Self {
        let options = Options {
            client: client.clone(),
            prefix: Bytes::copy_from_slice(prefix),
            values: false,
            page: PAGE_ENTRIES_DEFAULT,
            limit: None,
            mode: client.core.options.read_mode,
            deadline: None,
        };
        Self { options, walk: None }
    }

    /// Sets whether the values are wanted too; without it they are empty, and pages cost less.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let users = client.scan("user:").values(true).try_collect_all().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn values(mut self, wanted: bool) -> Self {
        self.options.values = wanted;
        self
    }

    /// Sets how many entries are asked for at once; 512 by default, 4096 at most. A page is held in memory.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let users = client.scan("user:").page(64).try_collect_all().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn page(mut self, entries: u32) -> Self {
        self.options.page = entries.clamp(1, SCAN_ENTRIES_MAX);
        self
    }

    /// Ends the walk after this many entries.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let some = client.scan("user:").limit(10).try_collect_all().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit(mut self, entries: u64) -> Self {
        self.options.limit = Some(entries);
        self
    }

    /// Reads what some replica of each shard holds, which may be old.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let users = client.scan("user:").stale().try_collect_all().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stale(mut self) -> Self {
        self.options.mode = ReadMode::Stale;
        self
    }

    /// Sets how long each page may take. The walk takes as long as there are keys.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use std::time::Duration;
    ///
    /// let users = client.scan("user:").deadline(Duration::from_secs(1)).try_collect_all().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// Walks to the end and returns everything, which should be known to fit into memory, or be limited.
    ///
    /// # Errors
    /// The first error of the walk. What came before it is lost.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let users = client.scan("user:").limit(1000).try_collect_all().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn try_collect_all(self) -> Result<Vec<Entry>, Error> {
        self.try_collect().await
    }

    /// The next entry, or `None` at the end. Cancel safe: an entry that was read is not lost when the future is dropped.
    ///
    /// # Errors
    /// As every operation, see [`Error`]. The walk ends with it.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let mut scan = client.scan("user:");
    /// while let Some(entry) = scan.try_next().await? {
    ///     println!("{:?}", entry.key);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn try_next(&mut self) -> Result<Option<Entry>, Error> {
        self.next().await.transpose()
    }
}

impl Stream for Scan {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.walk.get_or_insert_with(|| walk(this.options.clone())).poll_next_unpin(context)
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Where a walk stands.
#[derive(Debug)]
struct Position {
    /// The shards that are left, the current one first; `None` before the topology was asked.
    shards: Option<VecDeque<ShardId>>,
    cursor: ScanCursor,
    page: VecDeque<Entry>,
}

fn walk(options: Options) -> BoxStream<'static, Result<Entry, Error>> {
    let limit = options.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let start = Position { shards: None, cursor: ScanCursor::default(), page: VecDeque::new() };
    let entries = try_unfold((options, start), |(options, mut position)| async move {
        loop {
            if let Some(entry) = position.page.pop_front() {
                return Ok(Some((entry, (options, position))));
            }
            if !options.turn_page(&mut position).await? {
                return Ok(None);
            }
        }
    });
    entries.take(limit).boxed()
}

impl Options {
    /// Reads the next page. Returns whether there was one.
    async fn turn_page(&self, position: &mut Position) -> Result<bool, Error> {
        let shards = match &mut position.shards {
            Some(shards) => shards,
            None => position.shards.insert(self.shards().await?),
        };
        let Some(&shard) = shards.front() else { return Ok(false) };
        let need = match self.mode {
            ReadMode::Linearizable => Need::Leader(shard),
            ReadMode::Stale => Need::Replica(shard),
        };
        let request = ScanRequest {
            shard,
            cursor: position.cursor,
            prefix: self.prefix.clone(),
            limit: self
                .limit
                .map_or(self.page, |limit| self.page.min(u32::try_from(limit.max(1)).unwrap_or(self.page))),
            values: self.values,
            mode: self.mode,
        };
        let page = match self.client.call(need, Kind::Read, RequestBody::Scan(request), self.deadline).await? {
            ResponseBody::Page(page) => page,
            other => return Err(unexpected(&other, Kind::Read)),
        };
        position.page = page.entries.into_iter().map(|(key, entry)| Entry::from_wire(key, entry)).collect();
        match page.next {
            Some(next) => position.cursor = next,
            None => {
                shards.pop_front();
                position.cursor = ScanCursor::default();
            }
        }
        Ok(true)
    }

    /// The shards that can hold keys with the prefix: all of them, unless the prefix pins one by a whole `{tag}`.
    async fn shards(&self) -> Result<VecDeque<ShardId>, Error> {
        if self.prefix.len() > KEY_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "the prefix's length in bytes",
                size: self.prefix.len(),
                limit: KEY_BYTES_MAX,
            });
        }
        let core = &self.client.core;
        let topology = core.known_topology(self.client.deadline(self.deadline)).await?;
        if hash_tag(&self.prefix).len() < self.prefix.len() {
            return Ok(VecDeque::from([topology.shard_of(&self.prefix)]));
        }
        Ok((0..topology.shards.len() as u16).map(ShardId).collect())
    }
}
