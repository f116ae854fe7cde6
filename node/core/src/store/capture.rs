//! The state of a store as of one entry, written down slice by slice while later entries are applied.
//!
//! A capture is the state at its *begin*, exactly: the base and the dump are of one position, whatever was applied before the last slice. The
//! argument is one of sets. The index is a set of pairs of numbers (order and position), and so is, with counts, the queue of what
//! expires. What such a set was at the begin is what it is now, without what has come since, and with what has gone since. A walk
//! goes through the set in order. Ahead of it, every change is noted, and what cancels out is forgotten. When the walk gets to
//! a range, it writes the range as it was. Behind the walk nothing is noted: it will not come back.
//!
//! What a slice costs is bounded by what it looks at: pairs that are there, and changes. A turn that applies an entry notes two
//! changes at most for each record that comes or goes. So a capture ends, since every turn takes a slice of more pairs than that.
//!
//! A record that an entry has replaced since the begin stays readable where it was. Segments leave the view only with a checkpoint, which
//! the replica prepares after the capture, or are held by the snapshot that the capture is for. Entries behind the base stay in the log:
//! what a checkpoint retires lies before its base.

use super::Store;
use super::dump::{DumpWriter, IndexDump};
use super::index::{Index, Slot};
use crate::cost;
use crate::disk::Scratch;
use crate::log::Position;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Bytes of a state besides its sessions and one-shot names, at most.
const STATE_HEAD_BYTES: usize = 256;

type Pair = (u64, u64);

/// Names a capture of a store until that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CaptureId(u64);

/// How much of a capture is done at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CaptureSlice {
    /// Pairs of the dump, and changes of pairs: some 30 ns each.
    pub pairs: usize,
    /// Bytes of what is remembered of writes. A session, or a one-shot name, counts [`CaptureSlice::SESSION_BYTES`] at least: that is what finding it costs.
    pub session_bytes: usize,
}

impl CaptureSlice {
    /// What a session counts besides its answers, and a one-shot name at least.
    pub const SESSION_BYTES: usize = 64;
    /// All of it.
    pub const WHOLE: Self = Self { pairs: usize::MAX, session_bytes: usize::MAX };
}

impl Default for CaptureSlice {
    /// About half a millisecond.
    fn default() -> Self {
        Self { pairs: 16 * 1024, session_bytes: 256 * 1024 }
    }
}

/// A store's state at the moment that its capture began.
#[derive(Clone, Debug)]
pub struct Captured {
    /// What [`Store::encode_base`] would have written.
    pub state: Bytes,
    /// The index.
    pub index: IndexDump,
}

/// The captures of a store that are under way.
#[derive(Debug, Default)]
pub(super) struct Captures {
    last: u64,
    under_way: Vec<Capture>,
}

#[derive(Debug)]
struct Capture {
    id: CaptureId,
    state: CapturedState,
    slots: Walk,
    expiries: Walk,
    live: BTreeMap<u32, u64>,
    out: DumpWriter,
}

/// How far the state is written down, apart from the index. It comes first: what has changed of it meanwhile is the most to put
/// aside.
#[derive(Debug)]
enum CapturedState {
    /// The sessions are being written.
    Sessions,
    /// Behind them, the one-shot names.
    Once(Scratch),
    /// All of it is.
    Whole(Bytes),
}

impl Captures {
    /// Whether none is.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// The index points at `to` in place of `from`.
    pub(super) fn note_slot(&mut self, order: u64, from: Option<Position>, to: Option<Position>) {
        for capture in &mut self.under_way {
            for (position, by) in [(from, -1), (to, 1)] {
                if let Some(position) = position {
                    capture.slots.note(Slot { order, position }.pair(), by);
                }
            }
        }
    }

    /// So many more records of this place expire at that time.
    pub(super) fn note_expiry(&mut self, at_ms: u64, order: u64, by: i64) {
        self.under_way.iter_mut().for_each(|capture| capture.expiries.note((at_ms, order), by));
    }
}

impl Store {
    /// Begins to write down the state as it is now: [`Store::go_on_capture`].
    pub fn begin_capture(&mut self) -> CaptureId {
        let mut state = Vec::new();
        self.encode_base_head(&mut state);
        let out = Scratch::new(STATE_HEAD_BYTES + self.sessions.encoded_bytes_max() + self.once.encoded_bytes_max());
        let mut out = out.expect("the system has memory");
        out.write(|out| bytes::BufMut::put_slice(out, &state));
        self.captures.last += 1;
        let id = CaptureId(self.captures.last);
        self.sessions.begin_capture(id, out);
        self.once.begin_capture(id);
        let live = self.reader.live.all();
        self.captures.under_way.push(Capture {
            id,
            state: CapturedState::Sessions,
            slots: Walk::default(),
            expiries: Walk::default(),
            out: DumpWriter::new(self.reader.keys() as usize, self.expiry.len(), live.len()),
            live,
        });
        id
    }

    /// Does the next slice. Returns the state as it was when the capture began, once that is whole; then the capture is over.
    ///
    /// # Panics
    /// If there is no such capture.
    pub fn go_on_capture(&mut self, id: CaptureId, slice: CaptureSlice) -> Option<Captured> {
        let at = self.captures.place(id).expect("the capture is under way");
        let Capture { state, slots, expiries, out, .. } = &mut self.captures.under_way[at];
        let mut pairs = slice.pairs;
        let mut bytes = slice.session_bytes;
        if let CapturedState::Sessions = state {
            let (sessions, left) = self.sessions.go_on_capture(id, bytes)?;
            (*state, bytes) = (CapturedState::Once(sessions), left);
        }
        if let CapturedState::Once(out) = state {
            bytes = self.once.go_on_capture(id, out, bytes)?;
            let CapturedState::Once(out) = std::mem::replace(state, CapturedState::Sessions) else { return None };
            *state = CapturedState::Whole(out.finish());
            pairs = (pairs as u128 * bytes as u128 / slice.session_bytes.max(1) as u128) as usize;
        }
        let left = slots.go_on(pairs, out, |from, limit| slots_from(&self.reader.index, from, limit));
        let left = if left == 0 { 0 } else { expiries.go_on(left, out, |from, limit| self.expiry.from(from, limit)) };
        if left == 0 {
            return None;
        }
        let Capture { state, live, mut out, .. } = self.captures.under_way.remove(at);
        out.put(live.into_iter().map(|(segment, live)| (segment.into(), live)));
        let CapturedState::Whole(state) = state else { unreachable!("the state comes first") };
        Some(Captured { state, index: out.finish() })
    }

    /// Whether the next slice of a capture takes milliseconds: what it writes is a single answer, and large.
    pub fn captures_large_next(&self) -> bool {
        self.sessions.is_before_large()
    }
}

impl Captures {
    fn place(&self, id: CaptureId) -> Option<usize> {
        self.under_way.iter().position(|capture| capture.id == id)
    }
}

/// Slots from a pair on, and where the next ones begin. As many as `limit`, unless a bucket or the index ends before.
fn slots_from(index: &Index, from: Pair, limit: usize) -> (Vec<(Pair, i64)>, Option<Pair>) {
    let (slots, next) = index.scan(from.0, limit);
    let mut pairs: Vec<_> = slots
        .iter()
        .map(|slot| (slot.pair(), 1))
        .filter(|(pair, _)| *pair >= from)
        .take(limit.saturating_add(1))
        .collect();
    let next = if pairs.len() > limit { pairs.pop().map(|(pair, _)| pair) } else { next.map(|order| (order, 0)) };
    (pairs, next)
}

/// Goes through a sorted multiset of pairs that changes, and gives it out as it was in the beginning.
#[derive(Debug)]
struct Walk {
    /// Everything before it was given out. `None`: all of it was.
    from: Option<Pair>,
    /// Of pairs that were not given out yet: how many more there are than in the beginning.
    changes: BTreeMap<Pair, i64>,
}

impl Default for Walk {
    fn default() -> Self {
        Self { from: Some((0, 0)), changes: BTreeMap::new() }
    }
}

impl Walk {
    fn note(&mut self, pair: Pair, by: i64) {
        if self.from.is_none_or(|from| pair < from) {
            return;
        }
        match self.changes.entry(pair) {
            Entry::Vacant(entry) => drop(entry.insert(by)),
            Entry::Occupied(entry) if *entry.get() == -by => drop(entry.remove()),
            Entry::Occupied(mut entry) => *entry.get_mut() += by,
        }
    }

    /// Gives out about `limit` more, where `look` says what is there now, with counts, from a pair on: so many at most, and where what it has not
    /// said begins. Returns how many of `limit` are left, 0 unless all was given out.
    fn go_on(
        &mut self,
        limit: usize,
        out: &mut DumpWriter,
        look: impl Fn(Pair, usize) -> (Vec<(Pair, i64)>, Option<Pair>),
    ) -> usize {
        let mut left = limit;
        while let (Some(from), 1..) = (self.from, left) {
            let (now, next) = look(from, left);
            // Where much has gone, few that are there may be far apart, with many changes between them.
            let end = [next, self.changes.keys().nth(left).copied()].into_iter().flatten().min();
            let mut looked_at = 1;
            for (pair, count) in now.into_iter().take_while(|(pair, _)| end.is_none_or(|end| *pair < end)) {
                looked_at += 1 + self.give_gone(Some(pair), out);
                let came = self.changes.remove(&pair).unwrap_or(0);
                give(pair, count - came, out);
            }
            looked_at += self.give_gone(end, out);
            self.from = end;
            cost::pairs(looked_at);
            left = left.saturating_sub(looked_at);
        }
        // A walk that has come to its end with its last pair goes on to the next one another time.
        if self.from.is_some() { 0 } else { left }
    }

    /// Gives out what has gone, up to that pair, and was not followed by anything that is there. Returns how many changes that were.
    fn give_gone(&mut self, end: Option<Pair>, out: &mut DumpWriter) -> usize {
        let mut given = 0;
        while let Some(change) = self.changes.first_entry().filter(|change| end.is_none_or(|end| *change.key() < end)) {
            let (pair, came) = change.remove_entry();
            give(pair, -came, out);
            given += 1;
        }
        given
    }
}

fn give(pair: Pair, count: i64, out: &mut DumpWriter) {
    assert!(count >= 0, "no pair was there less than not at all");
    out.put(std::iter::repeat_n(pair, count as usize));
}
