//! The index of one shard: from a key's place in its order to where its record lies. Holds no key bytes.
//!
//! The order is that of a keyed hash (see [`super::key_order`]). Two keys may share a place: then there are two slots with it, and
//! whoever looks one up compares the key in the record. Slots are kept in buckets by the place's leading bits, each under its own lock, so that readers on other threads
//! rarely meet the writer. A bucket is a row of pages of [`PAGE_SLOTS`] slots at most, in order, as in the leaves of a
//! B+ tree; a full page splits in two. So an insert moves a few slots and never a whole table, all memory is in blocks of
//! one size, which the next page takes when one is given back, and a scan walks the shard in order and takes up again anywhere.

use crate::log::Position;
use crate::store::prefetch::prefetch;
use parking_lot::RwLock;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many leading bits of an order name its bucket.
const BUCKET_BITS: u32 = 6;
const BUCKETS: usize = 1 << BUCKET_BITS;
/// How many slots a page has room for: 512 bytes.
const PAGE_SLOTS: usize = 32;
/// How many slots a page has that was loaded: about as many as one has on average whose slots came one by one.
const LOADED_SLOTS: usize = PAGE_SLOTS * 7 / 10;
/// How far a search goes from where it guesses, one by one.
const STEPS_MAX: usize = 16;
/// How many steps [`Index::prefetch`] has.
pub(super) const PREFETCH_STEPS: usize = 3;
/// Two pages become one when both together fill at most half of it.
const MERGED_SLOTS: usize = PAGE_SLOTS / 2;

/// One key: where it stands in a scan, and where its record lies. In the order of a scan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot {
    /// Its place: a hash of the key.
    pub(super) order: u64,
    /// Its record.
    pub(super) position: Position,
}

impl Slot {
    /// As two numbers, in the same order as slots.
    pub(super) fn pair(&self) -> (u64, u64) {
        (self.order, self.position.pack())
    }
}

/// How many of so many things in a row, whose orders ascend within `range`, are of lower orders than that one. Hashes are spread evenly,
/// so one that is a third of the way through the range is about there among them: the search begins at that one and goes on one
/// by one, a few steps in most cases. Where they are not it ends as a binary search.
fn rank(count: usize, order_at: impl Fn(usize) -> u64, order: u64, range: &Range<u64>) -> usize {
    // All below `low` are lower, none from `high` on.
    let (mut low, mut high, mut rank) = (0, count, guess(count, order, range));
    for _ in 0..STEPS_MAX {
        if rank > low && order_at(rank - 1) >= order {
            rank -= 1;
            high = rank;
        } else if rank < high && order_at(rank) < order {
            rank += 1;
            low = rank;
        } else {
            return rank;
        }
    }
    while low < high {
        let middle = low.midpoint(high);
        match order_at(middle) < order {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// Where [`rank`] begins.
fn guess(count: usize, order: u64, range: &Range<u64>) -> usize {
    let (before, width) = (order.saturating_sub(range.start), range.end.saturating_sub(range.start).max(1));
    let guess = count as f32 * (before as f32 / width as f32);
    (guess as usize).min(count)
}

/// Fetches the two of some things in a row between which a search begins, as far as they are there.
fn prefetch_around<T>(things: &[T], number: usize) {
    let around = [number.checked_sub(1), Some(number)].into_iter().flatten();
    around.filter_map(|number| things.get(number)).for_each(prefetch);
}

/// Some slots of a bucket that follow each other.
#[derive(Debug)]
struct Page {
    /// None of its slots is of a lower order, and no slot of the pages before it of a higher one. Says nothing of a bucket's first page.
    from: u64,
    len: usize,
    slots: Box<[Slot; PAGE_SLOTS]>,
}

impl Page {
    fn new(from: u64) -> Self {
        let nothing = Slot { order: 0, position: Position { segment: 0, offset: 0 } };
        Self { from, len: 0, slots: Box::new([nothing; PAGE_SLOTS]) }
    }

    fn slots(&self) -> &[Slot] {
        &self.slots[..self.len]
    }

    fn insert(&mut self, number: usize, slot: Slot) {
        self.slots.copy_within(number..self.len, number + 1);
        self.slots[number] = slot;
        self.len += 1;
    }

    fn remove(&mut self, number: usize) {
        self.slots.copy_within(number + 1..self.len, number);
        self.len -= 1;
    }

    /// Takes over the slots of another page from that number on, all of which come behind its own.
    fn append(&mut self, other: &mut Self, from: usize) {
        let end = self.len + other.len - from;
        self.slots[self.len..end].copy_from_slice(&other.slots[from..other.len]);
        (self.len, other.len) = (end, from);
    }
}

/// The slots of a range of orders.
#[derive(Debug, Default)]
struct Bucket {
    pages: Vec<Page>,
}

/// Where a slot is, or would be: the page, and the number there.
#[derive(Clone, Copy)]
struct Place {
    page: usize,
    number: usize,
}

impl Bucket {
    /// What it has allocated, in bytes.
    fn bytes(&self) -> usize {
        self.pages.len() * size_of::<[Slot; PAGE_SLOTS]>() + self.pages.capacity() * size_of::<Page>()
    }

    /// Where the slots of an order begin, or would. There may be no slot at that place, but ones on the next page.
    fn seek(&self, order: u64, range: &Range<u64>) -> Place {
        let (page, range) = self.page_of(order, range);
        let number = self.pages.get(page).map_or(0, |page| {
            let slots = page.slots();
            rank(slots.len(), |slot| slots[slot].order, order, &range)
        });
        Place { page, number }
    }

    /// The page of an order, by number, and the orders that it is for.
    fn page_of(&self, order: u64, range: &Range<u64>) -> (usize, Range<u64>) {
        // The first one has all slots below the second one's.
        let others = self.pages.get(1..).unwrap_or_default();
        let page = rank(others.len(), |other| others[other].from, order, range);
        let start = if page == 0 { range.start } else { others[page - 1].from };
        let end = others.get(page).map_or(range.end, |next| next.from);
        (page, start..end)
    }

    /// Fetches the page at which the search for an order begins.
    fn prefetch_page(&self, order: u64, range: &Range<u64>) {
        prefetch_around(&self.pages, 1 + guess(self.pages.len().saturating_sub(1), order, range));
    }

    /// Fetches the slots of an order's page at which the search begins.
    fn prefetch_slots(&self, order: u64, range: &Range<u64>) {
        let (page, range) = self.page_of(order, range);
        let Some(page) = self.pages.get(page) else { return };
        prefetch_around(page.slots(), guess(page.len, order, &range));
    }

    /// The first slot at that place or behind it.
    fn at(&self, mut place: Place) -> Option<(Place, Slot)> {
        loop {
            match self.pages.get(place.page)?.slots().get(place.number) {
                Some(slot) => return Some((place, *slot)),
                None => place = Place { page: place.page + 1, number: 0 },
            }
        }
    }

    /// The slots from that place on.
    fn from(&self, place: Place) -> impl Iterator<Item = (Place, Slot)> {
        let behind = |place: Place| Place { number: place.number + 1, ..place };
        std::iter::successors(self.at(place), move |(place, _)| self.at(behind(*place)))
    }

    /// The slots of an order, which may be those of several keys.
    fn of_order(&self, order: u64, range: &Range<u64>) -> impl Iterator<Item = (Place, Slot)> {
        self.from(self.seek(order, range)).take_while(move |(_, slot)| slot.order == order)
    }

    fn find(&self, slot: Slot, range: &Range<u64>) -> Option<Place> {
        self.of_order(slot.order, range).find(|(_, other)| *other == slot).map(|(place, _)| place)
    }

    fn insert(&mut self, slot: Slot, range: &Range<u64>) {
        if self.pages.is_empty() {
            self.pages.push(Page::new(slot.order));
        }
        let mut place = self.seek(slot.order, range);
        if let Some((behind, _)) = self.from(place).take_while(|(_, other)| *other < slot).last() {
            place = Place { number: behind.number + 1, ..behind };
        }
        if self.pages[place.page].len == PAGE_SLOTS {
            let half = PAGE_SLOTS / 2;
            let lower = &mut self.pages[place.page];
            let mut upper = Page::new(lower.slots[half].order);
            upper.append(lower, half);
            self.pages.insert(place.page + 1, upper);
            if place.number > half {
                place = Place { page: place.page + 1, number: place.number - half };
            }
        }
        self.pages[place.page].insert(place.number, slot);
    }

    fn remove(&mut self, slot: Slot, range: &Range<u64>) -> bool {
        let Some(place) = self.find(slot, range) else { return false };
        self.pages[place.page].remove(place.number);
        let fits = |one: usize| self.pages.get(one..one + 2).is_some_and(|two| two[0].len + two[1].len <= MERGED_SLOTS);
        match [place.page.checked_sub(1), Some(place.page)].into_iter().flatten().find(|one| fits(*one)) {
            Some(one) => {
                let mut next = self.pages.remove(one + 1);
                self.pages[one].append(&mut next, 0);
            }
            None if self.pages[place.page].len == 0 => drop(self.pages.remove(place.page)),
            None => {}
        }
        true
    }

    fn relocate(&mut self, old: Slot, new: Position, range: &Range<u64>) -> bool {
        let mut all = self.of_order(old.order, range);
        match (all.next(), all.next()) {
            (Some((place, slot)), None) if slot == old => {
                drop(all);
                self.pages[place.page].slots[place.number].position = new;
                true
            }
            // Slots of one order are in the order of positions.
            _ => {
                drop(all);
                let is_there = self.remove(old, range);
                if is_there {
                    self.insert(Slot { position: new, ..old }, range);
                }
                is_there
            }
        }
    }
}

/// From places in the order to positions.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[RwLock<Bucket>]>,
    keys: AtomicU64,
    /// Allocated for the buckets' pages.
    page_bytes: AtomicU64,
    mask: u64,
}

impl Index {
    /// An empty index that looks at `order_bits` bits of each hash: 64, or fewer where keys are to share places.
    pub(super) fn new(order_bits: u32) -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| RwLock::default()).collect(),
            keys: AtomicU64::new(0),
            page_bytes: AtomicU64::new(0),
            mask: !u64::MAX.checked_shr(order_bits).unwrap_or(0),
        }
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// What it takes in memory, in bytes. Two loads.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(&*self.buckets) as u64 + self.page_bytes.load(Ordering::Relaxed)
    }

    /// The place of a key that has this hash.
    pub(super) fn order(&self, hash: u64) -> u64 {
        hash & self.mask
    }

    /// The bucket of a slot, by number.
    pub(super) fn bucket_number(order: u64) -> usize {
        (order >> (u64::BITS - BUCKET_BITS)) as usize
    }

    /// Where a bucket begins, by number; nowhere if there is none.
    fn start(bucket: usize) -> Option<u64> {
        (bucket < BUCKETS).then_some((bucket as u64) << (u64::BITS - BUCKET_BITS))
    }

    /// The orders of a bucket, by number. The very last one of all is not in it.
    fn range(bucket: usize) -> Range<u64> {
        Self::start(bucket).unwrap_or(u64::MAX)..Self::start(bucket + 1).unwrap_or(u64::MAX)
    }

    /// Looks at the bucket of an order.
    fn look<T>(&self, order: u64, look: impl FnOnce(&Bucket, &Range<u64>) -> T) -> T {
        let number = Self::bucket_number(order);
        look(&self.buckets[number].read(), &Self::range(number))
    }

    /// Changes the bucket of an order, and what is known of its size with it.
    fn change<T>(&self, order: u64, change: impl FnOnce(&mut Bucket, &Range<u64>) -> T) -> T {
        let number = Self::bucket_number(order);
        let mut bucket = self.buckets[number].write();
        let before = bucket.bytes();
        let result = change(&mut bucket, &Self::range(number));
        let after = bucket.bytes();
        if after != before {
            // Wraps round where it shrinks.
            self.page_bytes.fetch_add((after as u64).wrapping_sub(before as u64), Ordering::Relaxed);
        }
        result
    }

    /// Calls `visit` with each position whose key may have this place, until it returns something. The positions are
    /// copied out first, so no lock is held while `visit` reads the log.
    pub(super) fn find<T>(&self, order: u64, mut visit: impl FnMut(Position) -> Option<T>) -> Option<T> {
        let mut first = None;
        let mut others = Vec::new();
        self.look(order, |bucket, range| {
            for (_, slot) in bucket.of_order(order, range) {
                match first {
                    None => first = Some(slot.position),
                    Some(_) => others.push(slot.position),
                }
            }
        });
        first.and_then(&mut visit).or_else(|| others.into_iter().find_map(visit))
    }

    /// Fetches what the search for this place will read next, after so many steps before it: each rests on what the one before
    /// has fetched. After [`PREFETCH_STEPS`] of them [`Index::find`] waits for little. Costs some nanoseconds per step.
    pub(super) fn prefetch(&self, order: u64, step: usize) {
        match step {
            0 => prefetch(&self.buckets[Self::bucket_number(order)]),
            1 => self.look(order, |bucket, range| bucket.prefetch_page(order, range)),
            _ => self.look(order, |bucket, range| bucket.prefetch_slots(order, range)),
        }
    }

    /// All slots of an order, which may be those of several keys.
    pub(super) fn slots_at(&self, order: u64) -> Vec<Slot> {
        self.look(order, |bucket, range| bucket.of_order(order, range).map(|(_, slot)| slot).collect())
    }

    /// Whether a key with this place is at `position`.
    pub(super) fn points_at(&self, order: u64, position: Position) -> bool {
        self.look(order, |bucket, range| bucket.find(Slot { order, position }, range).is_some())
    }

    /// Points the key that is at `old` (`None`: a new key) at `new`.
    pub(super) fn put(&self, order: u64, old: Option<Position>, new: Position) {
        if let Some(old) = old {
            assert!(
                self.relocate(order, old, new),
                "only the writer changes the index, and it has just found the slot"
            );
            return;
        }
        self.change(order, |bucket, range| bucket.insert(Slot { order, position: new }, range));
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    /// Points the key that is at `old` at `new`, if one is. Returns whether one was.
    pub(super) fn relocate(&self, order: u64, old: Position, new: Position) -> bool {
        self.change(order, |bucket, range| bucket.relocate(Slot { order, position: old }, new, range))
    }

    /// Removes the slot that points at `position`. Returns whether there was one.
    pub(super) fn remove(&self, order: u64, position: Position) -> bool {
        self.remove_at(Slot { order, position })
    }

    /// Removes a slot. Returns whether it was there.
    pub(super) fn remove_at(&self, slot: Slot) -> bool {
        let removed = self.change(slot.order, |bucket, range| bucket.remove(slot, range));
        self.keys.fetch_sub(u64::from(removed), Ordering::Relaxed);
        removed
    }

    /// Fills a bucket that is still empty with all of its slots, in order.
    pub(super) fn load(&self, bucket: usize, slots: impl ExactSizeIterator<Item = Slot>) {
        let count = slots.len();
        let pages = count.div_ceil(LOADED_SLOTS);
        self.change(Self::range(bucket).start, |held, _| {
            assert!(held.pages.is_empty(), "a bucket is loaded once, before anything else is put into it");
            held.pages.reserve_exact(pages);
            let mut last = None;
            for (number, slot) in slots.enumerate() {
                assert_eq!(Self::bucket_number(slot.order), bucket, "a slot's order names its bucket");
                assert!(last.replace(slot).is_none_or(|last| last < slot), "slots are loaded in order");
                if number >= held.pages.len() * count / pages {
                    held.pages.push(Page::new(slot.order));
                }
                let page = held.pages.last_mut().expect("the first slot is the first of a page");
                page.insert(page.len, slot);
            }
        });
        self.keys.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Hands out all slots in order, bucket by bucket.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn for_each_bucket(&self, mut visit: impl FnMut(&[Slot])) {
        let mut slots = Vec::new();
        for bucket in &self.buckets {
            slots.clear();
            slots.extend(bucket.read().from(Place { page: 0, number: 0 }).map(|(_, slot)| slot));
            visit(&slots);
        }
    }

    /// The next slots from `from` on, in order: at least `limit` of them unless the bucket or the index ends first, and
    /// always all slots that share the last one's order, so that the next page can begin behind it. Also says where the
    /// next page begins.
    pub(super) fn scan(&self, from: u64, limit: usize) -> (Vec<Slot>, Option<u64>) {
        let number = Self::bucket_number(from);
        let bucket = self.buckets[number].read();
        let mut following = bucket.from(bucket.seek(from, &Self::range(number))).map(|(_, slot)| slot);
        let mut slots: Vec<Slot> = following.by_ref().take(limit.max(1)).collect();
        let last = slots.last().map(|slot| slot.order);
        for slot in following {
            if Some(slot.order) != last {
                return (slots, Some(slot.order));
            }
            slots.push(slot);
        }
        (slots, Self::start(number + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::hash::hash64;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    fn order(index: &Index, key: &[u8]) -> u64 {
        index.order(hash64(key))
    }

    fn positions(index: &Index, order: u64) -> Vec<Position> {
        let mut all = Vec::new();
        index.find(order, |position| -> Option<()> {
            all.push(position);
            None
        });
        all
    }

    #[test]
    fn colliding_keys_each_keep_their_slot() {
        let index = Index::new(2);
        for key in 0..64 {
            index.put(order(&index, &[key]), None, at(u32::from(key)));
        }
        assert_eq!(index.keys(), 64);
        for key in 0..64 {
            assert!(positions(&index, order(&index, &[key])).contains(&at(u32::from(key))));
        }
        index.put(order(&index, &[7]), Some(at(7)), at(1007));
        assert!(index.remove(order(&index, &[8]), at(8)));
        assert!(!index.remove(order(&index, &[8]), at(8)), "it is gone");
        assert_eq!(index.keys(), 63);
        assert!(positions(&index, order(&index, &[7])).contains(&at(1007)));
        assert!(!positions(&index, order(&index, &[7])).contains(&at(7)));
        assert!(!positions(&index, order(&index, &[8])).contains(&at(8)));
    }

    proptest! {
        /// Few orders, so that many slots share one, and pages fill, split, run empty and merge. They begin a range that may be far longer.
        #[test]
        fn a_bucket_is_an_ordered_set(
            orders in 1_u64..300,
            emptiness in prop::sample::select(vec![1_u64, 3, 1 << 40]),
            turns in prop::collection::vec((0_usize..6, 0_usize..400, any::<prop::sample::Index>()), 1..12),
        ) {
            let (range, mut bucket, mut model, mut next) = (0..orders * emptiness, Bucket::default(), BTreeSet::new(), 0);
            for (kind, count, drawn) in turns {
                for _ in 0..count {
                    next += 1;
                    // As an odd factor modulo 2^16 permutes, no position comes twice.
                    let new = at((next as u16).wrapping_mul(40_503).into());
                    let old = (!model.is_empty()).then(|| *model.iter().nth(drawn.index(model.len())).unwrap());
                    match (kind, old) {
                        (0..3, _) | (_, None) => {
                            let slot = Slot { order: hash64(&u32::to_le_bytes(next)) % orders, position: new };
                            bucket.insert(slot, &range);
                            model.insert(slot);
                        }
                        (3, Some(old)) => {
                            prop_assert!(bucket.relocate(old, new, &range) && !bucket.relocate(old, new, &range));
                            model.remove(&old);
                            model.insert(Slot { position: new, ..old });
                        }
                        (_, Some(old)) => {
                            prop_assert!(bucket.remove(old, &range) && !bucket.remove(old, &range));
                            model.remove(&old);
                        }
                    }
                }
                let all = bucket.from(Place { page: 0, number: 0 }).map(|(_, slot)| slot);
                prop_assert!(all.eq(model.iter().copied()));
                for order in 0..orders {
                    let same = model.iter().filter(|slot| slot.order == order);
                    prop_assert!(bucket.of_order(order, &range).map(|(_, slot)| slot).eq(same.copied()));
                }
                prop_assert!(model.iter().all(|slot| bucket.find(*slot, &range).is_some()));
                prop_assert!(bucket.pages.iter().all(|page| page.len > 0), "an empty page is given back");
                let full_enough = bucket.pages.windows(2).all(|two| two[0].len + two[1].len > MERGED_SLOTS / 2);
                prop_assert!(full_enough, "pages that hold little are merged");
            }
        }
    }

    #[test]
    fn a_slot_moves_only_from_where_it_points() {
        let index = Index::new(2);
        let hash = order(&index, b"key");
        index.put(hash, None, at(1));
        index.put(hash, None, at(2));
        assert!(index.relocate(hash, at(1), at(3)));
        assert!(!index.relocate(hash, at(1), at(4)), "it does not point there any more");
        assert!(index.points_at(hash, at(3)) && index.points_at(hash, at(2)) && !index.points_at(hash, at(1)));
        assert_eq!((index.slots_at(hash).len(), index.keys()), (2, 2));
    }

    #[test]
    fn knows_what_its_pages_take() {
        let allocated =
            |index: &Index| -> u64 { index.buckets.iter().map(|bucket| bucket.read().bytes() as u64).sum() };
        let (grown, loaded) = (Index::new(64), Index::new(64));
        let empty = grown.bytes();
        for key in 0..20_000_u32 {
            grown.put(order(&grown, &key.to_le_bytes()), None, at(key));
        }
        assert_eq!(grown.bytes(), empty + allocated(&grown));
        let mut slots = Vec::new();
        grown.for_each_bucket(|bucket| slots.extend_from_slice(bucket));
        assert!(slots.is_sorted() && slots.len() == 20_000);
        for bucket in slots.chunk_by(|a, b| Index::bucket_number(a.order) == Index::bucket_number(b.order)) {
            loaded.load(Index::bucket_number(bucket[0].order), bucket.iter().copied());
        }
        assert_eq!(loaded.bytes(), empty + allocated(&loaded));
        assert_eq!(loaded.keys(), 20_000);
        assert!(loaded.bytes() < grown.bytes() * 11 / 10 && loaded.bytes() >= 20_000 * 16);
        for key in 0..20_000_u32 {
            assert!(loaded.points_at(order(&loaded, &key.to_le_bytes()), at(key)));
        }
    }

    #[test]
    fn each_order_is_in_the_bucket_that_begins_at_or_before_it() {
        for bucket in 0..BUCKETS {
            let range = Index::range(bucket);
            assert_eq!(Index::bucket_number(range.start), bucket);
            assert_eq!(Index::bucket_number(range.end - 1), bucket);
            assert_eq!(Index::start(bucket), Some(range.start));
        }
        assert_eq!((Index::range(BUCKETS - 1).end, Index::start(BUCKETS)), (u64::MAX, None));
        assert_eq!(Index::bucket_number(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_key_takes_about_as_much_however_many_there_are() {
        let index = Index::new(64);
        for key in 1..=400_000_u64 {
            index.put(order(&index, &key.to_le_bytes()), None, at(key as u32));
            // From half a page in each bucket on.
            if key >= 1000 && key % 1000 == 0 {
                let per_key = index.bytes() as f64 / key as f64;
                assert!(per_key < 45.0 && (per_key < 28.0 || key < 10_000), "{per_key} bytes for each of {key}");
            }
        }
    }

    #[test]
    fn memory_is_given_back() {
        let index = Index::new(64);
        let hashes: Vec<u64> = (0..50_000_u32).map(|key| hash64(&key.to_le_bytes())).collect();
        let put = |keys: Range<usize>| keys.for_each(|key| index.put(hashes[key], None, at(key as u32)));
        let remove = |keys: Range<usize>| keys.for_each(|key| assert!(index.remove(hashes[key], at(key as u32))));
        put(0..50_000);
        let full = index.bytes();
        remove(0..45_000);
        // A tenth is left, in pages that are a quarter full or more, but for what rows of pages were allocated.
        assert!(index.bytes() < full / 3, "{} of {full}", index.bytes());
        put(0..45_000);
        assert!(index.bytes() < full * 11 / 10, "{} after {full}", index.bytes());
    }

    #[test]
    fn a_scan_meets_every_slot_once_in_order() {
        for order_bits in [3, 12, 64] {
            let index = Index::new(order_bits);
            for key in 0..2000_u32 {
                index.put(order(&index, &key.to_le_bytes()), None, at(key));
            }
            let (mut met, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                let (page, next) = index.scan(at, 7);
                assert!(next.is_none_or(|next| next > at));
                met.extend(page);
                from = next;
            }
            assert!(met.is_sorted_by_key(|slot| slot.order));
            let mut offsets: Vec<u32> = met.iter().map(|slot| slot.position.offset).collect();
            offsets.sort_unstable();
            assert_eq!(offsets, (0..2000).collect::<Vec<_>>(), "{order_bits} bits");
        }
    }
}
