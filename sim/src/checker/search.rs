//! The search for a linearization of one key's operations.
//!
//! Wing and Gong's algorithm places operations one after another; a candidate for the next place is every unplaced
//! operation that was called before the first answer among the unplaced ones. Lowe's addition is a memory of the
//! configurations (placed set, state) that were entered: entering one a second time can't end better. Five things keep
//! thousands of operations and dozens of clients cheap:
//!
//! * The placed set is remembered as the first unplaced answered operation and the bits after it up to the last operation
//!   that can be placed before it. Everything older is placed, so a quiet moment in the history costs nothing later on.
//! * An operation that fits and leaves the state unchanged is placed at once, without alternatives: if any linearization
//!   exists, moving that operation forward to here gives another.
//! * A value that has a time to live vanishes right before an operation that needs it gone, and at no other moment.
//! * Answers that tell a version of the key have only one possible order, that of the versions.
//! * An open operation (outcome unknown) may stay unplaced for ever. So of two configurations that differ only in the open
//!   operations used and in what is known of the version, the one which used fewer and knows less can do all that the
//!   other can; and of two identical open operations the one that was called first is used first. What can be known of
//!   open writes is found out beforehand, see the `known` module.

use super::history::{Call, Completion, Found, Operation, Reply, WriteStatus};
use super::known::{OpenPuts, longest_list};
use super::model::{Model, State, ValueId, depends_on_expiry};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

/// What a search found.
pub(super) enum Judgement {
    /// An order that explains every answer: positions in the slice given to [`Search::new`].
    Linearizable(Vec<usize>),
    /// There is none.
    NotLinearizable,
    /// The step limit was reached.
    Undecided,
}

/// One search, over the operations of one key.
pub(super) struct Search<'a> {
    operations: Vec<Prepared<'a>>,
    model: Model,
    unplaced: Unplaced,
    state: State,
    /// Answered operations that are not placed; the search ends when there are none.
    answered_left: usize,
    placed: Placed,
    told: Told,
    /// The key is only appended to: the longest value of it that was found, and the get that found it.
    longest_list: Option<(&'a [u8], u32)>,
    frames: Vec<Frame>,
    /// The candidates of all frames, those of the last frame at the end.
    candidates: Vec<Candidate>,
    entered: Entered,
}

struct Prepared<'a> {
    operation: Cow<'a, Operation>,
    /// Its place in the slice that the caller gave.
    position: usize,
    returned_at: Option<u64>,
    told: Option<ToldVersion>,
    /// It may be placed both on a value that has a time to live and after that value's expiry.
    depends_on_expiry: bool,
    /// An open operation's identical predecessor, which is used before it.
    twin: Option<u32>,
}

/// An operation that may be the next one.
#[derive(Clone, Copy)]
struct Candidate {
    operation: u32,
    /// The value that the key has expires right before it.
    after_expiry: bool,
}

/// A level of the search: an operation was placed, and the candidates for the next place are tried in turn.
struct Frame {
    /// `None` for the first level.
    placed: Option<u32>,
    state_before: State,
    candidates_start: usize,
    cursor: usize,
}

impl<'a> Search<'a> {
    /// Prepares a search over the operations of one key, in any order. Costs a sort.
    pub(super) fn new(operations: &[&'a Operation]) -> Self {
        let open_puts = OpenPuts::new(operations);
        let mut prepared: Vec<Prepared<'a>> = operations
            .iter()
            .enumerate()
            // A get that was never answered constrains nothing.
            .filter(|(_, operation)| operation.call != Call::Get || operation.returned_at().is_some())
            .map(|(position, operation)| Prepared {
                operation: open_puts.simplified(operation),
                position,
                returned_at: operation.returned_at().or_else(|| open_puts.seen_at(operation)),
                told: ToldVersion::of(operation),
                depends_on_expiry: depends_on_expiry(operation),
                twin: None,
            })
            .collect();
        prepared.sort_by_key(|prepared| (prepared.operation.invoked_at, prepared.position));
        link_twins(&mut prepared);
        let longest_list = longest_list(operations).and_then(|(list, position)| {
            let get = (0..).zip(&prepared).find(|(_, prepared)| prepared.position == position);
            get.map(|(index, _)| (list, index))
        });
        Search {
            model: Model::default(),
            unplaced: Unplaced::new(&prepared),
            state: State::ABSENT,
            answered_left: prepared.iter().filter(|prepared| prepared.returned_at.is_some()).count(),
            placed: Placed::new(&prepared),
            told: Told::new(&prepared),
            longest_list,
            frames: Vec::new(),
            candidates: Vec::new(),
            entered: HashMap::default(),
            operations: prepared,
        }
    }

    /// Searches for at most `steps_max` steps.
    pub(super) fn run(&mut self, steps_max: u64) -> Judgement {
        let mut steps = 0;
        self.open_frame(None, State::ABSENT);
        while let Some(frame) = self.frames.last_mut() {
            if self.answered_left == 0 {
                return Judgement::Linearizable(self.order());
            }
            let Some(&candidate) = self.candidates.get(frame.cursor) else {
                self.close_frame();
                continue;
            };
            frame.cursor += 1;
            steps += 1;
            if steps > steps_max {
                return Judgement::Undecided;
            }
            let Candidate { operation, after_expiry } = candidate;
            let from = if after_expiry { self.state.expired() } else { Some(self.state) };
            let next = from.and_then(|from| self.model.step(from, &self.operations[operation as usize].operation));
            if let Some(next) = next {
                self.place(operation);
                if self.told.allows(next) && self.is_part_of_list(next) && self.enter(next) {
                    let before = std::mem::replace(&mut self.state, next);
                    self.open_frame(Some(operation), before);
                } else {
                    self.take_back(operation);
                }
            }
        }
        Judgement::NotLinearizable
    }

    /// The state after the operations that are placed now, with its value's bytes.
    pub(super) fn reached(&self) -> (State, Option<&[u8]>) {
        (self.state, self.state.value.map(|value| self.model.bytes(value)))
    }

    /// Whether the longest list can still be found, or was.
    fn is_part_of_list(&self, state: State) -> bool {
        let (Some((list, get)), Some(value)) = (self.longest_list, state.value) else { return true };
        list.starts_with(self.model.bytes(value)) || self.placed.contains(get)
    }

    fn order(&self) -> Vec<usize> {
        let placed = self.frames.iter().filter_map(|frame| frame.placed);
        placed.map(|operation| self.operations[operation as usize].position).collect()
    }

    fn open_frame(&mut self, placed: Option<u32>, state_before: State) {
        let candidates_start = self.candidates.len();
        self.frames.push(Frame { placed, state_before, candidates_start, cursor: candidates_start });
        self.gather_candidates();
    }

    fn close_frame(&mut self) {
        let frame = self.frames.pop().expect("only called on the open frame");
        self.candidates.truncate(frame.candidates_start);
        self.state = frame.state_before;
        if let Some(operation) = frame.placed {
            self.take_back(operation);
        }
    }

    fn place(&mut self, operation: u32) {
        self.unplaced.remove(operation);
        self.placed.insert(operation);
        self.told.skip_placed(&self.placed);
        self.answered_left -= usize::from(self.operations[operation as usize].returned_at.is_some());
    }

    fn take_back(&mut self, operation: u32) {
        self.unplaced.put_back(operation);
        self.placed.remove(operation);
        self.told.put_back(operation);
        self.answered_left += usize::from(self.operations[operation as usize].returned_at.is_some());
    }

    /// Appends the candidates for the next place: answered ones by the time of their answer, then open ones. Only
    /// one, if it fits and leaves the state unchanged.
    fn gather_candidates(&mut self) {
        let start = self.candidates.len();
        let mut open = Vec::new();
        for candidate in self.unplaced.before_first_return() {
            let prepared = &self.operations[candidate as usize];
            let both_ways = self.state.expires && prepared.depends_on_expiry;
            let ways = [false, true].into_iter().take(1 + usize::from(both_ways));
            let ways = ways.map(|after_expiry| Candidate { operation: candidate, after_expiry });
            if prepared.returned_at.is_none() {
                if prepared.twin.is_none_or(|twin| self.placed.contains(twin)) {
                    open.extend(ways);
                }
                continue;
            }
            if prepared.told.is_some_and(|told| !self.told.is_next(told)) {
                continue;
            }
            if self.model.step(self.state, &prepared.operation) == Some(self.state) {
                self.candidates.truncate(start);
                self.candidates.push(Candidate { operation: candidate, after_expiry: false });
                return;
            }
            self.candidates.extend(ways);
        }
        let operations = &self.operations;
        self.candidates[start..].sort_by_key(|candidate| operations[candidate.operation as usize].returned_at);
        // Placing open operations brings no further answered one into reach.
        if self.candidates.len() == start {
            return;
        }
        self.candidates.append(&mut open);
    }

    /// Remembers the configuration of the placed operations with `state`. False if one that can do all that it can was
    /// entered before.
    fn enter(&mut self, state: State) -> bool {
        // A missing key's version is only a bound for the next one, whatever the state says.
        let version_exact = state.version_exact && state.value.is_some();
        let way = Way { version: state.version, version_exact, used: self.placed.open_used() };
        let ways = self.entered.entry(self.placed.configuration(state)).or_default();
        let is_new = !ways.iter().any(|earlier| earlier.can_do_all_of(&way));
        if is_new {
            ways.push(way);
        }
        is_new
    }
}

/// A version of the key that an answer told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ToldVersion {
    version: u64,
    /// The write that was given this version comes before what found it there.
    is_found: bool,
}

impl ToldVersion {
    fn of(operation: &Operation) -> Option<Self> {
        let Completion::Answered { reply, .. } = &operation.completion else { return None };
        Self::of_reply(reply)
    }

    fn of_reply(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Value(Some(Found { version: Some(version), .. })) => {
                Some(Self { version: *version, is_found: true })
            }
            Reply::Value(_) | Reply::Refused => None,
            // What is done together has its place where the first version that it tells has it.
            Reply::Together(replies) => replies.iter().find_map(Self::of_reply),
            Reply::Written(written) => {
                let is_found = written.status != WriteStatus::Applied;
                // Version 0 tells that there is no such key, which may be so more than once.
                written.version.filter(|version| *version > 0).map(|version| Self { version, is_found })
            }
        }
    }
}

/// The answered operations that told a version, in the order of these. They can be placed in no other order, so the first
/// unplaced one bounds what may be placed now and what state may be reached without it.
struct Told {
    order: Vec<(ToldVersion, u32)>,
    /// Each operation's place in `order`.
    place_of: Vec<Option<usize>>,
    next: usize,
}

impl Told {
    fn new(operations: &[Prepared<'_>]) -> Self {
        let told = operations.iter().zip(0..).filter_map(|(prepared, index)| Some((prepared.told?, index)));
        let mut order: Vec<(ToldVersion, u32)> = told.collect();
        order.sort_unstable();
        let mut place_of = vec![None; operations.len()];
        order.iter().enumerate().for_each(|(place, &(_, operation))| place_of[operation as usize] = Some(place));
        Self { order, place_of, next: 0 }
    }

    /// Whether an operation that told this may be placed before all others that did.
    fn is_next(&self, told: ToldVersion) -> bool {
        self.order.get(self.next).is_none_or(|(next, _)| *next == told)
    }

    /// Whether what is still to be told can be told after this state.
    fn allows(&self, state: State) -> bool {
        self.order.get(self.next).is_none_or(|(next, _)| {
            // What is found now was written with its version; from a missing key on only a later write tells one.
            if next.is_found && state.value.is_some() {
                state.version <= next.version
            } else {
                state.version < next.version
            }
        })
    }

    fn skip_placed(&mut self, placed: &Placed) {
        while self.order.get(self.next).is_some_and(|(_, operation)| placed.contains(*operation)) {
            self.next += 1;
        }
    }

    fn put_back(&mut self, operation: u32) {
        self.next = self.next.min(self.place_of[operation as usize].unwrap_or(self.next));
    }
}

fn link_twins(operations: &mut [Prepared<'_>]) {
    let mut last: Vec<u32> = Vec::new();
    for index in 0..operations.len() {
        if operations[index].returned_at.is_some() {
            continue;
        }
        let call = &operations[index].operation.call;
        let twin = last.iter().position(|&earlier| operations[earlier as usize].operation.call == *call);
        match twin {
            Some(class) => {
                operations[index].twin = Some(last[class]);
                last[class] = index as u32;
            }
            None => last.push(index as u32),
        }
    }
}

/// The unplaced operations' calls and answers in order of time: a doubly linked list, so that placing an operation and
/// taking it back cost nothing (Horn and Kroening, 2015). Event 0 is the list's head.
struct Unplaced {
    next: Vec<u32>,
    previous: Vec<u32>,
    /// The event's operation, if the event is a call.
    call_of: Vec<Option<u32>>,
    /// Each operation's call and answer events.
    events_of: Vec<(u32, Option<u32>)>,
}

impl Unplaced {
    fn new(operations: &[Prepared<'_>]) -> Self {
        // At the same instant calls come before answers: then neither operation precedes the other.
        let mut events: Vec<(u64, bool, u32)> = Vec::with_capacity(operations.len() * 2);
        for (index, prepared) in operations.iter().enumerate() {
            events.push((prepared.operation.invoked_at, false, index as u32));
            events.extend(prepared.returned_at.map(|at| (at, true, index as u32)));
        }
        events.sort_unstable();
        let count = events.len() as u32 + 1;
        let mut events_of = vec![(0, None); operations.len()];
        let mut call_of = vec![None; count as usize];
        for (event, (_, is_return, operation)) in (1..).zip(events) {
            if is_return {
                events_of[operation as usize].1 = Some(event);
            } else {
                events_of[operation as usize].0 = event;
                call_of[event as usize] = Some(operation);
            }
        }
        Self {
            next: (0..count).map(|event| (event + 1) % count).collect(),
            previous: (0..count).map(|event| (event + count - 1) % count).collect(),
            call_of,
            events_of,
        }
    }

    /// The operations that were called before the first answer.
    fn before_first_return(&self) -> impl Iterator<Item = u32> {
        let mut event = 0;
        std::iter::from_fn(move || {
            event = self.next[event as usize];
            self.call_of[event as usize]
        })
    }

    fn remove(&mut self, operation: u32) {
        let (call, answer) = self.events_of[operation as usize];
        self.unlink(call);
        answer.into_iter().for_each(|event| self.unlink(event));
    }

    /// Undoes the last `remove` that was not undone, which must be of this operation.
    fn put_back(&mut self, operation: u32) {
        let (call, answer) = self.events_of[operation as usize];
        answer.into_iter().for_each(|event| self.link(event));
        self.link(call);
    }

    fn unlink(&mut self, event: u32) {
        let (previous, next) = (self.previous[event as usize], self.next[event as usize]);
        self.next[previous as usize] = next;
        self.previous[next as usize] = previous;
    }

    fn link(&mut self, event: u32) {
        let (previous, next) = (self.previous[event as usize], self.next[event as usize]);
        self.next[previous as usize] = event;
        self.previous[next as usize] = event;
    }
}

/// A bit per operation, in words.
type Bits = Box<[u64]>;

/// The configurations that were entered, and the ways they were entered in, none of which can do all that an earlier one
/// can. The hasher has no random seed, so that a search takes the same steps each time it is run.
type Entered = HashMap<Configuration, Vec<Way>, BuildHasherDefault<DefaultHasher>>;

/// What the rest of the search depends on, apart from the way.
#[derive(PartialEq, Eq, Hash)]
struct Configuration {
    value: Option<ValueId>,
    expires: bool,
    /// The first answered operation that is not placed.
    first_unplaced: u32,
    /// The bits from its word on, up to the last operation that was called before its answer.
    placed_after: Bits,
}

/// What getting to a configuration has cost: knowledge of the version, and open operations that can't be used again.
struct Way {
    version: u64,
    version_exact: bool,
    used: Bits,
}

impl Way {
    fn can_do_all_of(&self, other: &Self) -> bool {
        let version_as_free = match self.version_exact {
            true => other.version_exact && self.version == other.version,
            false => self.version <= other.version,
        };
        version_as_free && is_subset(&self.used, &other.used)
    }
}

/// Which operations are placed.
struct Placed {
    answered: Bits,
    open: Bits,
    is_open: Vec<bool>,
    /// For each answered operation, the last operation that was called no later than its answer: nothing later can be
    /// placed before it.
    reach: Vec<u32>,
    first_unplaced: usize,
}

impl Placed {
    fn new(operations: &[Prepared<'_>]) -> Self {
        let words = operations.len() / 64 + 1;
        let reach = operations.iter().map(|prepared| {
            let until = prepared.returned_at.unwrap_or(prepared.operation.invoked_at);
            operations.partition_point(|other| other.operation.invoked_at <= until) as u32 - 1
        });
        let mut placed = Self {
            answered: vec![0; words].into(),
            open: vec![0; words].into(),
            is_open: operations.iter().map(|prepared| prepared.returned_at.is_none()).collect(),
            reach: reach.collect(),
            first_unplaced: 0,
        };
        placed.skip_placed();
        placed
    }

    fn contains(&self, operation: u32) -> bool {
        let (word, bit) = (operation as usize / 64, operation % 64);
        (self.answered[word] | self.open[word]) >> bit & 1 == 1
    }

    fn insert(&mut self, operation: u32) {
        *self.word(operation) |= 1 << (operation % 64);
        self.skip_placed();
    }

    fn remove(&mut self, operation: u32) {
        *self.word(operation) &= !(1 << (operation % 64));
        if !self.is_open[operation as usize] {
            self.first_unplaced = self.first_unplaced.min(operation as usize);
        }
    }

    fn open_used(&self) -> Bits {
        let end = self.open.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        self.open[..end].into()
    }

    fn configuration(&self, state: State) -> Configuration {
        let placed_after = match self.reach.get(self.first_unplaced) {
            Some(&reach) => self.answered[self.first_unplaced / 64..=reach as usize / 64].into(),
            None => Box::default(),
        };
        let State { value, expires, .. } = state;
        Configuration { value, expires, first_unplaced: self.first_unplaced as u32, placed_after }
    }

    fn word(&mut self, operation: u32) -> &mut u64 {
        let bits = if self.is_open[operation as usize] { &mut self.open } else { &mut self.answered };
        &mut bits[operation as usize / 64]
    }

    fn skip_placed(&mut self) {
        while self.first_unplaced < self.is_open.len()
            && (self.is_open[self.first_unplaced] || self.contains(self.first_unplaced as u32))
        {
            self.first_unplaced += 1;
        }
    }
}

/// Whether every bit of `small` is in `large`; missing words are zero.
fn is_subset(small: &[u64], large: &[u64]) -> bool {
    small.iter().enumerate().all(|(index, word)| word & !large.get(index).copied().unwrap_or(0) == 0)
}
