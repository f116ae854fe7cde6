//! The order of a connection's commands: their replies leave as the commands came, and commands that must wait for others begin
//! when those are done.
//!
//! Writes begin at once. A read behind unanswered writes begins when it comes to the head: by then they are answered, so that two
//! connections which each write one key and read the other's can't both miss. A read of a key with an unanswered write may go at
//! once, since the session keeps the order of a key.

use super::execute::Touches;
use std::collections::{HashMap, VecDeque};

/// When a command begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// Now.
    AtOnce,
    /// When all commands before it are answered.
    AtHead,
}

/// How a command stands that others of its keys must not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// Nothing of it has taken effect, and nothing is on its way.
    Harmless,
    /// Something of it is on its way.
    UnderWay,
    /// It took effect, or may have.
    TookEffect,
}

/// Whether a refused command may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeats {
    /// Yes.
    Now,
    /// Once others are answered.
    Later,
    /// No: a later one of its keys took effect.
    Never,
}

#[derive(Debug)]
struct Slot<T> {
    of: T,
    touches: Option<Touches>,
    /// It waits for its turn.
    is_held: bool,
    /// A read that the shard may carry out later than a write that comes after it.
    is_loose: bool,
    is_done: bool,
}

/// Commands that have not been answered, in order.
#[derive(Debug)]
pub(super) struct ReplyQueue<T> {
    slots: VecDeque<Slot<T>>,
    /// The number of the first one.
    first: u64,
    /// Unanswered writes of each key.
    written: HashMap<u64, u32>,
    /// Unanswered writes.
    writes: usize,
    /// Keys of commands that wait for their turn.
    held: HashMap<u64, u32>,
    /// Keys of reads that are under way, and have no place among the writes of their key.
    loose: HashMap<u64, u32>,
    /// Unanswered commands of all keys: whatever comes behind them waits.
    of_all: usize,
}

impl<T> Default for ReplyQueue<T> {
    fn default() -> Self {
        Self {
            slots: VecDeque::new(),
            first: 0,
            written: HashMap::new(),
            writes: 0,
            held: HashMap::new(),
            loose: HashMap::new(),
            of_all: 0,
        }
    }
}

impl<T> ReplyQueue<T> {
    /// Commands that are not answered.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether all are answered.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The number that the next command will have.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Adds a command that needs nobody else: it is answered once those before it are.
    pub(super) fn push_done(&mut self, of: T) {
        self.slots.push_back(Slot { of, touches: None, is_held: false, is_loose: false, is_done: true });
    }

    /// Adds a command. Gives its number, and when it begins.
    pub(super) fn push(&mut self, of: T, touches: Touches) -> (u64, Begins) {
        let begins = self.begins(&touches);
        let mut is_loose = false;
        match &touches {
            Touches::Writes(keys) => {
                add(&mut self.written, keys);
                self.writes += 1;
            }
            Touches::Reads(keys) => is_loose = keys.iter().all(|key| !self.written.contains_key(key)),
            Touches::All { writes } => {
                self.of_all += 1;
                self.writes += usize::from(*writes);
            }
        }
        let is_held = begins == Begins::AtHead;
        match &touches {
            Touches::Reads(keys) | Touches::Writes(keys) if is_held => add(&mut self.held, keys),
            Touches::Reads(keys) if is_loose => add(&mut self.loose, keys),
            _ => {}
        }
        is_loose &= !is_held;
        let number = self.next_number();
        self.slots.push_back(Slot { of, touches: Some(touches), is_held, is_loose, is_done: false });
        (number, begins)
    }

    fn begins(&self, touches: &Touches) -> Begins {
        let is_free = |keys: &[u64]| self.of_all == 0 && !keys.iter().any(|key| self.held.contains_key(key));
        let at_once = match touches {
            _ if self.slots.is_empty() => true,
            Touches::Writes(keys) => is_free(keys) && !keys.iter().any(|key| self.loose.contains_key(key)),
            Touches::Reads(keys) if self.writes == 0 => is_free(keys),
            Touches::Reads(keys) => is_free(keys) && keys.len() == 1 && self.written.contains_key(&keys[0]),
            Touches::All { .. } => false,
        };
        if at_once { Begins::AtOnce } else { Begins::AtHead }
    }

    /// A command that is not answered.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(place).map(|slot| &mut slot.of)
    }

    /// All answers of a command are there.
    pub(super) fn complete(&mut self, number: u64) {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) else { return };
        if std::mem::replace(&mut slot.is_done, true) {
            return;
        }
        match &slot.touches {
            Some(Touches::Writes(keys)) => {
                self.writes -= 1;
                remove(&mut self.written, keys);
            }
            Some(Touches::Reads(keys)) if slot.is_loose => remove(&mut self.loose, keys),
            Some(Touches::All { writes }) => {
                self.of_all -= 1;
                self.writes -= usize::from(*writes);
            }
            Some(Touches::Reads(_)) | None => {}
        }
    }

    /// Whether a command that was refused may be asked again: it must not change places with another one of its keys. `stands` says
    /// how a command stands.
    pub(super) fn may_repeat(&self, number: u64, stands: impl Fn(&T) -> Stands) -> Repeats {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let touches = |place: usize| self.slots.get(place).and_then(|slot| slot.touches.as_ref());
        let Some((place, own)) = place.and_then(|place| Some((place, touches(place)?))) else { return Repeats::Never };
        let others = self.slots.iter().enumerate().filter(|(other, slot)| {
            *other != place && !slot.is_held && slot.touches.as_ref().is_some_and(|touches| touches.meet(own))
        });
        let mut repeats = Repeats::Now;
        for (other, slot) in others {
            match (other < place, slot.is_done, stands(&slot.of)) {
                // What came before is through, or comes first.
                (true, true, _) | (false, _, Stands::Harmless) => {}
                (true, false, _) | (false, false, Stands::UnderWay) => repeats = Repeats::Later,
                (false, _, Stands::TookEffect) | (false, true, Stands::UnderWay) => return Repeats::Never,
            }
        }
        repeats
    }

    /// Takes the first command, if its answers are all there.
    pub(super) fn pop_done(&mut self) -> Option<T> {
        let slot = self.slots.pop_front_if(|slot| slot.is_done)?;
        self.first += 1;
        Some(slot.of)
    }

    /// The number of the first command, if it has waited for its turn: it begins now.
    pub(super) fn begin_head(&mut self) -> Option<u64> {
        let slot = self.slots.front_mut().filter(|slot| slot.is_held)?;
        slot.is_held = false;
        if let Some(Touches::Reads(keys) | Touches::Writes(keys)) = &slot.touches {
            remove(&mut self.held, keys);
        }
        if let Some(Touches::Reads(keys)) = &slot.touches {
            slot.is_loose = true;
            add(&mut self.loose, keys);
        }
        Some(self.first)
    }
}

fn add(counts: &mut HashMap<u64, u32>, keys: &[u64]) {
    keys.iter().for_each(|key| *counts.entry(*key).or_default() += 1);
}

fn remove(counts: &mut HashMap<u64, u32>, keys: &[u64]) {
    for key in keys {
        let Some(count) = counts.get_mut(key) else { continue };
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &[u64]) -> Touches {
        Touches::Reads(keys.to_vec())
    }

    fn write(keys: &[u64]) -> Touches {
        Touches::Writes(keys.to_vec())
    }

    /// Pushes commands, and tells which of them begin at once.
    fn at_once(commands: &[Touches]) -> Vec<bool> {
        let mut queue = ReplyQueue::default();
        commands.iter().map(|touches| queue.push((), touches.clone()).1 == Begins::AtOnce).collect()
    }

    #[test]
    fn replies_leave_in_the_order_of_their_commands() {
        let mut queue = ReplyQueue::default();
        let (first, _) = queue.push("first", write(&[1]));
        let (second, _) = queue.push("second", write(&[2]));
        queue.push_done("third");
        assert_eq!(queue.pop_done(), None);
        queue.complete(second);
        assert_eq!(queue.pop_done(), None, "the first is not answered");
        queue.complete(first);
        queue.complete(first);
        assert_eq!(
            [queue.pop_done(), queue.pop_done(), queue.pop_done()],
            [Some("first"), Some("second"), Some("third")]
        );
        assert!(queue.is_empty());
        let (next, _) = queue.push("fourth", write(&[1]));
        assert_eq!((next, queue.get_mut(next)), (3, Some(&mut "fourth")));
        assert_eq!(queue.get_mut(2), None);
    }

    #[test]
    fn a_read_behind_writes_waits_for_them() {
        assert_eq!(at_once(&[write(&[1]), write(&[2]), read(&[3])]), [true, true, false]);
        assert_eq!(at_once(&[read(&[1]), read(&[1]), read(&[2, 3])]), [true; 3]);
        assert_eq!(
            at_once(&[write(&[1]), read(&[1]), read(&[1, 2])]),
            [true, true, false],
            "its own key's write is in order"
        );
    }

    #[test]
    fn a_write_does_not_pass_a_read_of_its_key() {
        assert_eq!(at_once(&[write(&[1]), read(&[2]), write(&[2]), write(&[3])]), [true, false, false, true]);
        assert_eq!(at_once(&[read(&[1]), write(&[1])]), [true, false], "nobody says when the read is carried out");
        assert_eq!(at_once(&[write(&[1]), read(&[1]), write(&[1])]), [true; 3], "this one keeps its place");
    }

    #[test]
    fn nothing_passes_a_command_of_all_keys() {
        let all = Touches::All { writes: true };
        assert_eq!(at_once(&[all.clone(), read(&[1]), write(&[1])]), [true, false, false]);
        assert_eq!(at_once(&[read(&[1]), all]), [true, false]);
    }

    #[test]
    fn a_refused_command_does_not_change_places_with_others_of_its_keys() {
        let mut queue = ReplyQueue::default();
        let (first, _) = queue.push(Stands::UnderWay, write(&[1]));
        let (second, _) = queue.push(Stands::Harmless, write(&[1, 2]));
        let (third, _) = queue.push(Stands::UnderWay, write(&[2]));
        let (other, _) = queue.push(Stands::TookEffect, write(&[3]));
        let repeats = |queue: &ReplyQueue<Stands>, command| queue.may_repeat(command, |stands| *stands);
        assert_eq!(repeats(&queue, other), Repeats::Now, "nobody else has its key");
        assert_eq!(repeats(&queue, second), Repeats::Later, "the first one may be refused as well");
        queue.complete(first);
        assert_eq!(repeats(&queue, second), Repeats::Later, "so may the third");
        *queue.get_mut(third).unwrap() = Stands::Harmless;
        assert_eq!(repeats(&queue, second), Repeats::Now);
        assert_eq!(repeats(&queue, third), Repeats::Later, "the second one comes first");
        *queue.get_mut(third).unwrap() = Stands::TookEffect;
        queue.complete(third);
        assert_eq!(repeats(&queue, second), Repeats::Never);
    }

    #[test]
    fn what_waits_begins_at_the_head() {
        let mut queue = ReplyQueue::default();
        let (set, _) = queue.push("set", write(&[1]));
        let (get, _) = queue.push("get", read(&[2]));
        let (other, _) = queue.push("other set", write(&[2]));
        assert_eq!(queue.begin_head(), None);
        queue.complete(set);
        assert_eq!(queue.pop_done(), Some("set"));
        assert_eq!((queue.begin_head(), queue.begin_head()), (Some(get), None), "it begins once");
        queue.complete(get);
        assert_eq!(queue.pop_done(), Some("get"));
        assert_eq!(queue.begin_head(), Some(other));
        queue.complete(other);
        assert_eq!(queue.pop_done(), Some("other set"));
        assert!(queue.written.is_empty() && queue.held.is_empty() && queue.loose.is_empty());
        assert_eq!((queue.writes, queue.of_all), (0, 0));
    }
}
