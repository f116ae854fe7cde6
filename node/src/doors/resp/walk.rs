//! Commands that go through all keys: SCAN, KEYS, RANDOMKEY, FLUSHALL, and those of a slot. A page of one shard at a time, and then
//! the next.

use super::answers::error_text;
use super::execute::{Refusal, grouped};
use bytes::Bytes;
use kvorum_core::limits::SESSION_VALUES_BYTES_MAX;
use kvorum_protocol::hash::slot;
use kvorum_protocol::limits::{KEY_BYTES_MAX, SCAN_ENTRIES_MAX};
use kvorum_protocol::{
    Action, Condition, ErrorCode, Mutation, ReadMode, RequestBody, ResponseBody, ReturnPrevious, ScanCursor, ScanPage,
    ScanRequest, ShardId,
};
use kvorum_resp::command::Scan;
use kvorum_resp::glob::Pattern;
use kvorum_resp::{CommandError, ReplyWriter};

/// A cursor has so many bits for the place in its shard. With those of a shard's number it stays below 2^53: some clients keep
/// cursors in floats.
const PLACE_BITS: u32 = 41;
/// Steps that a pattern may take for the keys of one page.
const PATTERN_STEPS: u64 = 4_000_000;
/// Most pages that one SCAN looks at: where few keys match, it says where to go on rather than keep its client waiting.
const SCAN_PAGES_MAX: u32 = 64;
/// Of so many keys that follow a random place RANDOMKEY takes one.
const RANDOM_KEYS: u32 = 16;

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkKind {
    /// Some keys, and where to go on.
    Scan,
    /// All keys that match.
    Keys,
    /// No key is to be left.
    Flush,
    /// Any key.
    Random,
    /// How many keys a slot has.
    CountOfSlot(u16),
    /// Some keys of a slot.
    KeysOfSlot(u16),
}

/// The shards that a walk goes through.
#[derive(Clone, Debug)]
pub(super) enum Ground {
    /// All of so many.
    All(u16),
    /// Of so many these, in order: those that the node leads.
    Led(u16, Vec<u16>),
}

impl Ground {
    /// How many shards the cluster has.
    pub(super) fn shards(&self) -> u16 {
        match self {
            Self::All(shards) | Self::Led(shards, _) => *shards,
        }
    }

    /// The first shard from this one on.
    fn from(&self, shard: u16) -> Option<u16> {
        match self {
            Self::All(shards) => Some(shard).filter(|shard| shard < shards),
            Self::Led(_, led) => led.iter().copied().find(|other| *other >= shard),
        }
    }

    fn is_of_one_node(&self) -> bool {
        matches!(self, Self::Led(..))
    }
}

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk {
    kind: WalkKind,
    ground: Ground,
    /// Nothing if there are no more.
    shard: Option<u16>,
    cursor: ScanCursor,
    /// Where this SCAN began: it gets further, however many keys share a place.
    began: u64,
    pattern: Option<Pattern>,
    /// What the pattern's keys begin with. Whoever may list those need not be allowed to list all.
    prefix: Bytes,
    /// Keys of other types than strings are wanted: there are none.
    finds_nothing: bool,
    /// Keys that SCAN still looks at; of a slot, that are still wanted.
    left: u64,
    /// Pages that SCAN has looked at: also those in which no key matched take time.
    pages: u32,
    /// Chooses the key of RANDOMKEY.
    drawn: u64,
    /// Of RANDOMKEY: from here on it has seen all shards once more.
    wrapped: bool,
    /// Keys of a slot.
    counted: usize,
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
    pub(super) fn new(kind: WalkKind, ground: Ground) -> Self {
        let shard = ground.from(0);
        Self {
            kind,
            ground,
            shard,
            cursor: ScanCursor::default(),
            began: 0,
            pattern: None,
            prefix: Bytes::new(),
            finds_nothing: false,
            left: 0,
            pages: 0,
            drawn: 0,
            wrapped: false,
            counted: 0,
            found: Vec::new(),
            found_bytes: 0,
            next: None,
            removes: false,
            told: 0,
            failed: None,
        }
    }

    /// KEYS of a pattern.
    pub(super) fn keys(pattern: &[u8], ground: Ground) -> Self {
        let pattern = Pattern::new(pattern, false);
        let prefix = prefix_of(&pattern);
        Self { pattern: Some(pattern), prefix, ..Self::new(WalkKind::Keys, ground) }
    }

    /// RANDOMKEY, with a random number.
    pub(super) fn random(ground: Ground, drawn: u64) -> Self {
        let shard = (drawn % u64::from(ground.shards())) as u16;
        let shard = ground.from(shard).or_else(|| ground.from(0));
        let cursor = ScanCursor { order: drawn.rotate_left(32), ..ScanCursor::default() };
        Self { shard, cursor, drawn, ..Self::new(WalkKind::Random, ground) }
    }

    /// How many keys of a slot are in its shard.
    pub(super) fn count_of_slot(slot: u16, shard: ShardId, ground: Ground) -> Self {
        Self::of_slot(WalkKind::CountOfSlot(slot), u64::MAX, shard, ground)
    }

    /// At most so many keys of a slot that is in this shard.
    pub(super) fn keys_of_slot(slot: u16, count: u64, shard: ShardId, ground: Ground) -> Self {
        Self::of_slot(WalkKind::KeysOfSlot(slot), count, shard, ground)
    }

    fn of_slot(kind: WalkKind, left: u64, shard: ShardId, ground: Ground) -> Self {
        let shard = ground.from(shard.0).filter(|found| *found == shard.0 && left > 0);
        Self { shard, left, ..Self::new(kind, ground) }
    }

    /// A page of SCAN.
    ///
    /// # Errors
    /// The cursor is none that was given out.
    pub(super) fn scan(scan: &Scan<'_>, ground: Ground) -> Result<Self, Refusal> {
        let shard = u16::try_from(scan.cursor >> PLACE_BITS).ok().filter(|shard| *shard < ground.shards());
        let asked = shard.ok_or(CommandError::InvalidCursor)?;
        let shard = ground.from(asked);
        let order = if shard == Some(asked) { scan.cursor << (u64::BITS - PLACE_BITS) } else { 0 };
        let pattern = scan.pattern.map(|pattern| Pattern::new(pattern, false));
        Ok(Self {
            shard,
            prefix: pattern.as_ref().map(prefix_of).unwrap_or_default(),
            cursor: ScanCursor { order, ..ScanCursor::default() },
            began: scan.cursor,
            pattern,
            finds_nothing: scan.value_type.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(b"string")),
            left: scan.count,
            ..Self::new(WalkKind::Scan, ground)
        })
    }

    /// Writes the reply, once it has ended.
    pub(super) fn write(&self, reply: &mut ReplyWriter<'_>) {
        if let Some(text) = &self.failed {
            return reply.error(text.as_bytes());
        }
        match self.kind {
            WalkKind::Flush => reply.ok(),
            WalkKind::CountOfSlot(_) => reply.count(self.counted),
            WalkKind::Random => match self.found.first() {
                Some(key) => reply.bulk(key),
                None => reply.null(),
            },
            WalkKind::Scan | WalkKind::Keys | WalkKind::KeysOfSlot(_) => {
                if self.kind == WalkKind::Scan {
                    reply.array(2);
                    reply.bulk_integer(self.told);
                }
                reply.array(self.found.len());
                self.found.iter().for_each(|key| reply.bulk(key));
            }
        }
    }

    /// What is asked first; nothing if there is nothing to go through.
    pub(super) fn begin(&self) -> Option<RequestBody> {
        self.page()
    }

    /// Takes an answer. Gives what is asked next, or nothing if the walk has ended.
    pub(super) fn advance(&mut self, answer: ResponseBody) -> Option<RequestBody> {
        match answer {
            ResponseBody::Page(page) => self.take_page(page),
            ResponseBody::Written(_) | ResponseBody::Atomic(_) => self.go_on(),
            // Another node leads the shard by now, and is asked for its keys there.
            ResponseBody::Error(error)
                if error.code == ErrorCode::NotLeader
                    && self.ground.is_of_one_node()
                    && self.kind != WalkKind::Flush =>
            {
                self.next = None;
                self.go_on()
            }
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
        if self.kind == WalkKind::Scan {
            self.pages += 1;
            let is_long = self.pages >= SCAN_PAGES_MAX;
            self.left = if is_long { 0 } else { self.left.saturating_sub(page.entries.len() as u64) };
        }
        if self.kind == WalkKind::Flush {
            let delete = |key| Mutation {
                key,
                condition: Condition::Always,
                return_previous: ReturnPrevious::Nothing,
                action: Action::Delete,
            };
            let mutations: Vec<_> = page.entries.into_iter().map(|(key, _)| delete(key)).collect();
            // A page has no more keys than fit one request, all of one shard.
            return match grouped(mutations, self.ground.shards()).pop() {
                Some(batch) => {
                    self.removes = true;
                    Some(batch)
                }
                None => self.go_on(),
            };
        }
        if self.kind == WalkKind::Random {
            let keys = page.entries.len() as u64;
            if keys > 0 {
                let (key, _) = &page.entries[(self.drawn % keys) as usize];
                self.found.push(Bytes::copy_from_slice(key));
                return None;
            }
            return self.go_on();
        }
        if let WalkKind::CountOfSlot(wanted) | WalkKind::KeysOfSlot(wanted) = self.kind {
            let of_slot = page.entries.iter().map(|(key, _)| key).filter(|key| slot(key) == wanted);
            let of_slot: Vec<Bytes> = of_slot.map(|key| Bytes::copy_from_slice(key)).collect();
            return self.take_of_slot(of_slot);
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

    fn take_of_slot(&mut self, keys: Vec<Bytes>) -> Option<RequestBody> {
        self.counted += keys.len();
        if let WalkKind::KeysOfSlot(_) = self.kind {
            let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(keys.len());
            self.left -= wanted as u64;
            self.found_bytes += keys[..wanted].iter().map(|key| key.len() + size_of::<Bytes>()).sum::<usize>();
            self.found.extend(keys.into_iter().take(wanted));
            if self.found_bytes > SESSION_VALUES_BYTES_MAX {
                return self.fail("ERR too many keys".to_owned());
            }
            if self.left == 0 {
                return None;
            }
        }
        self.go_on()
    }

    fn go_on(&mut self) -> Option<RequestBody> {
        self.removes = false;
        match self.next.take() {
            Some(next) => self.cursor = next,
            None => {
                let behind = self.shard.and_then(|shard| self.ground.from(shard + 1));
                (self.shard, self.cursor) = (behind, ScanCursor::default());
            }
        }
        if let WalkKind::CountOfSlot(_) | WalkKind::KeysOfSlot(_) = self.kind
            && self.cursor == ScanCursor::default()
        {
            // A slot is in one shard.
            self.shard = None;
        }
        if self.kind == WalkKind::Random && self.shard.is_none() && !self.wrapped {
            (self.wrapped, self.shard) = (true, self.ground.from(0));
        }
        let Some(shard) = self.shard else {
            self.told = 0;
            return None;
        };
        if self.kind == WalkKind::Scan && self.left == 0 {
            let place = self.cursor.order >> (u64::BITS - PLACE_BITS);
            let told = u64::from(shard) << PLACE_BITS | place;
            if told > self.began {
                self.told = told;
                return None;
            }
        }
        self.page()
    }

    fn page(&self) -> Option<RequestBody> {
        let limit = match self.kind {
            WalkKind::Scan => self.left.clamp(1, SCAN_ENTRIES_MAX.into()) as u32,
            WalkKind::Random => RANDOM_KEYS,
            WalkKind::Keys | WalkKind::Flush | WalkKind::CountOfSlot(_) | WalkKind::KeysOfSlot(_) => SCAN_ENTRIES_MAX,
        };
        Some(RequestBody::Scan(ScanRequest {
            shard: ShardId(self.shard?),
            cursor: self.cursor,
            prefix: self.prefix.clone(),
            limit,
            values: false,
            mode: ReadMode::Linearizable,
        }))
    }
}

fn prefix_of(pattern: &Pattern) -> Bytes {
    let mut prefix = pattern.prefix();
    prefix.truncate(KEY_BYTES_MAX);
    prefix.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{Entry, Version};

    fn scan(cursor: u64, count: u64) -> Walk {
        Walk::scan(&Scan { cursor, pattern: None, count, value_type: None }, Ground::All(4)).unwrap()
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
        assert_eq!(asked(walk.begin()), (0, 0));
        assert_eq!(asked(walk.advance(page(&["a"], None))), (1, 0), "a shard's end is not the end");
        assert!(walk.advance(page(&["b"], Some(7 << 23 | 5))).is_none());
        let told = walk.told;
        assert!(told < 1 << 53);
        assert_eq!(asked(scan(told, 2).begin()), (1, 7 << 23), "at the place or before it");
        assert_eq!(walk.found.len(), 2);
    }

    #[test]
    fn keys_that_share_a_place_are_gone_through() {
        let told = 1 << PLACE_BITS | 7;
        let mut walk = scan(told, 1);
        assert_eq!(asked(walk.advance(page(&["a"], Some(7 << 23 | 5)))), (1, 7 << 23 | 5), "no further yet");
        assert!(walk.advance(page(&["b"], Some(8 << 23))).is_none());
        assert_eq!(walk.told, told + 1);
    }

    #[test]
    fn the_last_shard_ends_it_and_no_cursor_lies_behind() {
        let mut walk = scan(3 << PLACE_BITS, 10);
        assert!(walk.advance(page(&[], None)).is_none());
        assert_eq!(walk.told, 0);
        let behind = Scan { cursor: 4 << PLACE_BITS, pattern: None, count: 1, value_type: None };
        assert!(Walk::scan(&behind, Ground::All(4)).is_err());
    }

    #[test]
    fn a_flush_removes_each_page_before_it_goes_on() {
        let mut walk = Walk::new(WalkKind::Flush, Ground::All(1));
        assert_eq!(asked(walk.begin()), (0, 0));
        let batch = walk.advance(page(&["a", "b"], Some(5)));
        assert!(matches!(&batch, Some(RequestBody::Atomic(atomic)) if atomic.mutations.len() == 2), "{batch:?}");
        let removed = ResponseBody::Atomic(kvorum_protocol::AtomicResult::Applied(Vec::new()));
        assert_eq!(asked(walk.advance(removed)), (0, 5));
        assert!(walk.advance(page(&[], None)).is_none());
        assert!(walk.failed.is_none());
    }

    #[test]
    fn a_walk_over_what_a_node_leads_leaves_out_the_rest() {
        let mut walk = Walk::new(WalkKind::Keys, Ground::Led(8, vec![2, 5]));
        assert_eq!(asked(walk.begin()), (2, 0));
        let moved = ResponseBody::Error(kvorum_protocol::ServerError::new(ErrorCode::NotLeader, "moved"));
        assert_eq!(asked(walk.advance(moved.clone())), (5, 0), "its new leader is asked for these");
        assert!(walk.advance(page(&["a"], None)).is_none());
        assert_eq!((walk.found.len(), walk.failed), (1, None));
        assert!(Walk::new(WalkKind::Keys, Ground::Led(8, Vec::new())).begin().is_none());
        let mut flush = Walk::new(WalkKind::Flush, Ground::Led(8, vec![2]));
        assert!(flush.advance(moved).is_none() && flush.failed.is_some(), "some keys are left");
        // A cursor of a shard that is led no more goes on with the next one.
        let cursor = Scan { cursor: 3 << PLACE_BITS | 9, pattern: None, count: 1, value_type: None };
        assert_eq!(asked(Walk::scan(&cursor, Ground::Led(8, vec![2, 5])).unwrap().begin()), (5, 0));
    }

    #[test]
    fn a_random_key_is_looked_for_in_all_shards() {
        let mut walk = Walk::random(Ground::All(2), 1);
        assert_eq!(asked(walk.begin()).0, 1);
        assert_eq!(asked(walk.advance(page(&[], None))), (0, 0));
        assert_eq!(asked(walk.advance(page(&[], None))), (1, 0), "what lies before the place is left");
        let mut other = Walk::random(Ground::All(2), 1);
        assert!(other.advance(page(&["a", "b"], None)).is_none());
        assert_eq!(other.found, ["b"]);
        assert!(walk.advance(page(&[], None)).is_none());
        assert!(walk.found.is_empty());
    }

    #[test]
    fn the_keys_of_a_slot_are_found_in_its_shard() {
        let wanted = slot(b"a");
        let shard = ShardId(wanted / 4096);
        let mut walk = Walk::count_of_slot(wanted, shard, Ground::All(4));
        assert_eq!(asked(walk.begin()), (shard.0, 0));
        assert_eq!(asked(walk.advance(page(&["a", "b", "{a}1"], Some(7)))), (shard.0, 7));
        assert!(walk.advance(page(&["{a}2"], None)).is_none());
        assert_eq!(walk.counted, 3);
        let mut walk = Walk::keys_of_slot(wanted, 2, shard, Ground::All(4));
        assert!(walk.advance(page(&["a", "{a}1", "{a}2"], Some(7))).is_none());
        assert_eq!(walk.found, ["a", "{a}1"]);
        assert!(Walk::count_of_slot(wanted, shard, Ground::Led(4, Vec::new())).begin().is_none());
    }
}
