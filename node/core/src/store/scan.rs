//! Pages of a scan.

use super::index::Slot;
use super::reader::{LOOK_UPS_MAX, StoreReader};
use super::stored::{ReadError, Stored, StoredRecord};
use crate::cost;
use crate::seeded::{Bug, planted};
use bytes::Bytes;
use kvorum_protocol::limits::SCAN_PAGE_BYTES;
use kvorum_protocol::{Entry, ScanCursor, ScanPage, Version};
use std::borrow::Cow;

/// Most bytes of records that one page of a scan looks at, values that it holds included; bounds what it costs where few keys
/// match.
const SCAN_LOOK_BYTES: usize = 1024 * 1024;
/// What looking at a record counts as, besides its bytes: it may have to come from the disk.
const LOOK_UP_BYTES: usize = 256;

/// A record that a scan has looked at, with its key if it is wanted.
struct Seen {
    version: Version,
    entry: Option<(Bytes, StoredRecord)>,
}

/// A page of a scan in the making.
struct Page {
    entries: Vec<(Bytes, Entry)>,
    limit: usize,
    values: bool,
    /// Of keys and values.
    bytes: usize,
    looked_at: usize,
    /// A record was taken in or left out: the next page begins further on.
    has_moved: bool,
}

impl Page {
    /// Takes the record in, if it is wanted. Returns `false` if the page ends before it.
    fn take(&mut self, seen: &Seen) -> Result<bool, ReadError> {
        let is_full = self.entries.len() >= self.limit || (self.looked_at >= SCAN_LOOK_BYTES && self.has_moved);
        if is_full {
            return Ok(false);
        }
        if let Some((key, record)) = &seen.entry {
            let value_bytes = if self.values { record.value_bytes() } else { 0 };
            let bytes = key.len() + value_bytes;
            if !self.entries.is_empty() && self.bytes + bytes > SCAN_PAGE_BYTES {
                return Ok(false);
            }
            let value = if self.values { record.read()?.entry.value } else { Bytes::new() };
            let entry = Entry { value, version: record.version(), expires_at_ms: record.expires_at_ms() };
            self.entries.push((key.clone(), entry));
            self.bytes += bytes;
            self.looked_at += value_bytes;
        }
        self.has_moved = true;
        Ok(true)
    }

    fn ends_at(self, next: Option<ScanCursor>) -> ScanPage {
        ScanPage { entries: self.entries, next }
    }
}

impl StoreReader {
    /// A page of keys in their order, see [`kvorum_protocol::ScanRequest`]. It ends with `limit` entries, before an entry that
    /// would take it past [`SCAN_PAGE_BYTES`] unless it is the only one, or once it has looked at [`SCAN_LOOK_BYTES`]. So a page
    /// may be short, or empty, and not the last. Reads records from the disk at worst: may take long.
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn scan(&self, from: ScanCursor, prefix: &[u8], limit: usize, values: bool) -> Result<ScanPage, ReadError> {
        self.wait_for_atomic();
        let log_time_ms = self.log_time_ms();
        let wanted = |stored: &Stored<'_>| !stored.has_expired(log_time_ms) && stored.key().starts_with(prefix);
        let mut page = Page { entries: Vec::new(), limit, values, bytes: 0, looked_at: 0, has_moved: false };
        let (mut tie, mut next) = (Vec::new(), Some(from.order));
        while let Some(order) = next {
            let (slots, following) = self.index.scan(order, limit.saturating_sub(page.entries.len()));
            for group in slots.chunk_by(|one, next| one.order == next.order) {
                let order = group[0].order;
                page.looked_at += self.look_at_tie(group, &wanted, &mut tie)?;
                let mut behind = if order == from.order { from.version } else { Version(0) };
                for seen in tie.drain(..) {
                    if seen.version <= behind {
                        continue;
                    }
                    if !self.noting(page.take(&seen))? {
                        let skips = behind > Version(0) && planted(Bug::RestOfTieSkipped);
                        let version = if skips { Version(u64::MAX) } else { behind };
                        return Ok(page.ends_at(Some(ScanCursor { order, version })));
                    }
                    behind = seen.version;
                }
            }
            next = following;
        }
        Ok(page.ends_at(None))
    }

    /// Reads what the records of some slots that share their order say apart from their values, in the order of versions.
    /// Returns what that counts as, in bytes. A slot whose segment is gone was moved by compaction since it was looked up; then
    /// all slots of the order are looked up again.
    fn look_at_tie(
        &self,
        group: &[Slot],
        wanted: &impl Fn(&Stored<'_>) -> bool,
        tie: &mut Vec<Seen>,
    ) -> Result<usize, ReadError> {
        let (mut slots, mut look_ups, mut looked_at) = (Cow::Borrowed(group), 1, 0);
        loop {
            tie.clear();
            let result = slots.iter().try_for_each(|slot| {
                cost::records(1);
                let segment = self.segment_of(slot.position)?;
                let stored = Stored::at(&segment, slot.position, self.keys_of_log())?;
                looked_at += LOOK_UP_BYTES + stored.head_bytes();
                let entry = || (Bytes::copy_from_slice(stored.key()), stored.keep(&segment, self.keys_of_log()));
                tie.push(Seen { version: stored.head.version, entry: wanted(&stored).then(entry) });
                Ok(())
            });
            if !matches!(result, Err(ReadError::Missing(..))) || look_ups == LOOK_UPS_MAX {
                tie.sort_unstable_by_key(|seen| seen.version);
                return self.noting(result).map(|()| looked_at);
            }
            look_ups += 1;
            slots = Cow::Owned(self.index.slots_at(group[0].order));
        }
    }
}
