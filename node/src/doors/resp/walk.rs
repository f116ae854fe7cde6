//! Commands that go through all keys: SCAN, KEYS and FLUSHALL. A page of one shard at a time, and then the next.

use super::answers::error_text;
use super::execute::{Refusal, batches};
use bytes::Bytes;
use kvorum_core::limits::SESSION_VALUES_BYTES_MAX;
use kvorum_protocol::limits::SCAN_ENTRIES_MAX;
use kvorum_protocol::{
    Action, Condition, Mutation, ReadMode, RequestBody, ResponseBody, ReturnPrevious, ScanCursor, ScanPage,
    ScanRequest, ShardId,
};
use kvorum_resp::CommandError;
use kvorum_resp::command::Scan;
use kvorum_resp::glob::Pattern;

/// A cursor has so many bits for the place in its shard. With those of a shard's number it stays below 2^53: some clients keep
/// cursors in floats.
const PLACE_BITS: u32 = 41;
/// Steps that a pattern may take for the keys of one page.
const PATTERN_STEPS: u64 = 4_000_000;

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkKind {
    /// Some keys, and where to go on.
    Scan,
    /// All keys that match.
    Keys,
    /// No key is to be left.
    Flush,
}

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk {
    kind: WalkKind,
    shards: u16,
    shard: u16,
    cursor: ScanCursor,
    /// Where this SCAN began: it gets further, however many keys share a place.
    began: u64,
    pattern: Option<Pattern>,
    /// Keys of other types than strings are wanted: there are none.
    finds_nothing: bool,
    /// Keys that SCAN still looks at.
    left: u64,
    found: Vec<Bytes>,
    found_bytes: usize,
    /// Where the next page begins, while keys of this one are removed.
    next: Option<ScanCursor>,
    /// Keys are being removed.
    removes: bool,
    /// The cursor that the client is given.
    told: u64,
    failed: Option<String>,
}

impl Walk {
    /// From the first key on.
    pub(super) fn new(kind: WalkKind, shards: u16) -> Self {
        Self {
            kind,
            shards,
            shard: 0,
            cursor: ScanCursor::default(),
            began: 0,
            pattern: None,
            finds_nothing: false,
            left: 0,
            found: Vec::new(),
            found_bytes: 0,
            next: None,
            removes: false,
            told: 0,
            failed: None,
        }
    }

    /// KEYS of a pattern.
    pub(super) fn keys(pattern: &[u8], shards: u16) -> Self {
        Self { pattern: Some(Pattern::new(pattern, false)), ..Self::new(WalkKind::Keys, shards) }
    }

    /// A page of SCAN.
    ///
    /// # Errors
    /// The cursor is none that was given out.
    pub(super) fn scan(scan: &Scan<'_>, shards: u16) -> Result<Self, Refusal> {
        let shard = u16::try_from(scan.cursor >> PLACE_BITS).ok().filter(|shard| *shard < shards);
        let shard = shard.ok_or(CommandError::InvalidCursor)?;
        let order = scan.cursor << (u64::BITS - PLACE_BITS);
        Ok(Self {
            shard,
            cursor: ScanCursor { order, ..ScanCursor::default() },
            began: scan.cursor,
            pattern: scan.pattern.map(|pattern| Pattern::new(pattern, false)),
            finds_nothing: scan.value_type.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(b"string")),
            left: scan.count,
            ..Self::new(WalkKind::Scan, shards)
        })
    }

    /// Whether it removes what it finds.
    pub(super) fn flushes(&self) -> bool {
        self.kind == WalkKind::Flush
    }

    /// Why it did not come to its end: a text for the client.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The cursor for the client, of SCAN only.
    pub(super) fn told(&self) -> Option<u64> {
        (self.kind == WalkKind::Scan).then_some(self.told)
    }

    /// What was found.
    pub(super) fn found(&self) -> &[Bytes] {
        &self.found
    }

    /// What is asked first.
    pub(super) fn begin(&self) -> RequestBody {
        self.page()
    }

    /// Takes an answer. Gives what is asked next, or nothing if the walk has ended.
    pub(super) fn advance(&mut self, answer: ResponseBody) -> Option<RequestBody> {
        match answer {
            ResponseBody::Page(page) => self.take_page(page),
            ResponseBody::Batch(results) => match results.into_iter().find_map(Result::err) {
                None => self.go_on(),
                Some(error) => self.fail(error_text(&error, true)),
            },
            ResponseBody::Written(_) => self.go_on(),
            ResponseBody::Error(error) => self.fail(error_text(&error, self.removes)),
            _ => self.fail("ERR the node has answered something else".to_owned()),
        }
    }

    fn fail(&mut self, why: String) -> Option<RequestBody> {
        self.failed = Some(why);
        None
    }

    fn take_page(&mut self, page: ScanPage) -> Option<RequestBody> {
        // At a shard's end the next page is that of the next shard.
        self.next = page.next;
        self.left = self.left.saturating_sub(page.entries.len() as u64);
        if self.kind == WalkKind::Flush {
            let delete = |key| Mutation {
                key,
                condition: Condition::Always,
                return_previous: ReturnPrevious::Nothing,
                action: Action::Delete,
            };
            let mutations: Vec<_> = page.entries.into_iter().map(|(key, _)| delete(key)).collect();
            // A page has no more keys than a batch.
            return match batches(mutations).pop() {
                Some(batch) => {
                    self.removes = true;
                    Some(batch)
                }
                None => self.go_on(),
            };
        }
        let mut steps = PATTERN_STEPS;
        for (key, _) in page.entries {
            let matches = match &self.pattern {
                Some(pattern) => pattern.matches(&key, &mut steps),
                None => Ok(true),
            };
            match matches {
                Ok(true) if !self.finds_nothing => {
                    self.found_bytes += key.len() + size_of::<Bytes>();
                    // A page may lie in one allocation, which a key of it must not keep.
                    self.found.push(Bytes::copy_from_slice(&key));
                }
                Ok(_) => {}
                Err(_) => return self.fail("ERR the pattern takes too many steps".to_owned()),
            }
        }
        if self.found_bytes > SESSION_VALUES_BYTES_MAX {
            return self.fail("ERR too many keys match; use SCAN".to_owned());
        }
        self.go_on()
    }

    fn go_on(&mut self) -> Option<RequestBody> {
        self.removes = false;
        match self.next.take() {
            Some(next) => self.cursor = next,
            None => (self.shard, self.cursor) = (self.shard + 1, ScanCursor::default()),
        }
        if self.shard == self.shards {
            self.told = 0;
            return None;
        }
        if self.kind == WalkKind::Scan && self.left == 0 {
            let place = self.cursor.order >> (u64::BITS - PLACE_BITS);
            let told = u64::from(self.shard) << PLACE_BITS | place;
            if told > self.began {
                self.told = told;
                return None;
            }
        }
        Some(self.page())
    }

    fn page(&self) -> RequestBody {
        let limit = match self.kind {
            WalkKind::Scan => self.left.clamp(1, SCAN_ENTRIES_MAX.into()) as u32,
            WalkKind::Keys | WalkKind::Flush => SCAN_ENTRIES_MAX,
        };
        RequestBody::Scan(ScanRequest {
            shard: ShardId(self.shard),
            cursor: self.cursor,
            prefix: Bytes::new(),
            limit,
            values: false,
            mode: ReadMode::Linearizable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{Entry, Version};

    fn scan(cursor: u64, count: u64) -> Walk {
        Walk::scan(&Scan { cursor, pattern: None, count, value_type: None }, 4).unwrap()
    }

    fn page(keys: &[&str], next: Option<u64>) -> ResponseBody {
        let entry = Entry { value: Bytes::new(), version: Version(1), expires_at_ms: None };
        let entries = keys.iter().map(|key| (Bytes::copy_from_slice(key.as_bytes()), entry.clone())).collect();
        let next = next.map(|order| ScanCursor { order, version: Version(9) });
        ResponseBody::Page(ScanPage { entries, next })
    }

    fn asked(body: Option<RequestBody>) -> (u16, u64) {
        match body {
            Some(RequestBody::Scan(scan)) => (scan.shard.0, scan.cursor.order),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let mut walk = scan(0, 2);
        assert_eq!(asked(Some(walk.begin())), (0, 0));
        assert_eq!(asked(walk.advance(page(&["a"], None))), (1, 0), "a shard's end is not the end");
        assert!(walk.advance(page(&["b"], Some(7 << 23 | 5))).is_none());
        let told = walk.told().unwrap();
        assert!(told < 1 << 53);
        assert_eq!(asked(Some(scan(told, 2).begin())), (1, 7 << 23), "at the place or before it");
        assert_eq!(walk.found().len(), 2);
    }

    #[test]
    fn keys_that_share_a_place_are_gone_through() {
        let told = 1 << PLACE_BITS | 7;
        let mut walk = scan(told, 1);
        assert_eq!(asked(walk.advance(page(&["a"], Some(7 << 23 | 5)))), (1, 7 << 23 | 5), "no further yet");
        assert!(walk.advance(page(&["b"], Some(8 << 23))).is_none());
        assert_eq!(walk.told(), Some(told + 1));
    }

    #[test]
    fn the_last_shard_ends_it_and_no_cursor_lies_behind() {
        let mut walk = scan(3 << PLACE_BITS, 10);
        assert!(walk.advance(page(&[], None)).is_none());
        assert_eq!(walk.told(), Some(0));
        let behind = Scan { cursor: 4 << PLACE_BITS, pattern: None, count: 1, value_type: None };
        assert!(Walk::scan(&behind, 4).is_err());
    }

    #[test]
    fn a_flush_removes_each_page_before_it_goes_on() {
        let mut walk = Walk::new(WalkKind::Flush, 1);
        assert_eq!(asked(Some(walk.begin())), (0, 0));
        let batch = walk.advance(page(&["a", "b"], Some(5)));
        assert!(matches!(&batch, Some(RequestBody::Batch { mutations, .. }) if mutations.len() == 2), "{batch:?}");
        assert_eq!(asked(walk.advance(ResponseBody::Batch(Vec::new()))), (0, 5));
        assert!(walk.advance(page(&[], None)).is_none());
        assert!(walk.failed().is_none());
    }
}
