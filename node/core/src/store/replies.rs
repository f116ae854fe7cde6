//! The answers that one session remembers, in the order of their numbers.

use crate::log::remembered::Remembered;
use std::collections::VecDeque;

/// Answers by number. Numbers come almost in order and go from the front, which costs a few nanoseconds; one that comes out
/// of order moves those behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies {
    /// Each number is higher than the one before.
    replies: VecDeque<(u64, Remembered)>,
}

impl Replies {
    pub(super) fn len(&self) -> usize {
        self.replies.len()
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Remembered> {
        self.place(sequence).ok().map(|at| &self.replies[at].1)
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.replies.front().map(|(sequence, _)| *sequence)
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.replies.back().map(|(sequence, _)| *sequence)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, Remembered)> {
        self.replies.iter()
    }

    /// Remembers an answer. Returns the one that had this number before.
    pub(super) fn insert(&mut self, sequence: u64, reply: Remembered) -> Option<Remembered> {
        match self.place(sequence) {
            Ok(at) => Some(std::mem::replace(&mut self.replies[at].1, reply)),
            Err(at) => {
                self.replies.insert(at, (sequence, reply));
                None
            }
        }
    }

    /// Forgets the oldest answer if its number is below `floor`.
    pub(super) fn pop_below(&mut self, floor: u64) -> Option<Remembered> {
        self.oldest().filter(|oldest| *oldest < floor)?;
        self.replies.pop_front().map(|(_, reply)| reply)
    }

    /// Where a number is, or belongs.
    fn place(&self, sequence: u64) -> Result<usize, usize> {
        match self.newest() {
            Some(newest) if sequence <= newest => self.replies.binary_search_by_key(&sequence, |(number, _)| *number),
            _ => Err(self.replies.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::Version;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// A sorted map is the model.
        #[test]
        fn remembers_as_a_sorted_map_does(steps in proptest::collection::vec((0u64..32, any::<bool>()), 0..200)) {
            let (mut replies, mut model) = (Replies::default(), BTreeMap::new());
            for (at, (number, forgets)) in steps.into_iter().enumerate() {
                if forgets {
                    let gone = replies.pop_below(number);
                    let expected = model.first_key_value().filter(|(oldest, _)| **oldest < number).map(|(oldest, _)| *oldest);
                    prop_assert_eq!(gone, expected.and_then(|oldest| model.remove(&oldest)));
                } else {
                    let reply = Remembered::Applied(Version(at as u64));
                    prop_assert_eq!(replies.insert(number, reply.clone()), model.insert(number, reply));
                }
                prop_assert_eq!(replies.get(number), model.get(&number));
                prop_assert!(replies.iter().map(|(number, reply)| (number, reply)).eq(&model));
                prop_assert_eq!((replies.oldest(), replies.newest()), (model.keys().next().copied(), model.keys().last().copied()));
                prop_assert_eq!(replies.len(), model.len());
            }
        }
    }
}
