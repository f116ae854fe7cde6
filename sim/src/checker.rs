//! A linearizability checker for histories of a key-value store.
//!
//! A history is linearizable if every operation can be given one instant between its call and its answer such that, in
//! the order of those instants, a single-threaded store would have given exactly the recorded answers. Keys are
//! independent objects, and linearizability is a local property (Herlihy and Wing, 1990), so each key is judged alone.
//!
//! The search is Wing and Gong's (1993) with Lowe's memoisation (2017); see the `search` module for what is added to make
//! thousands of operations per key cheap. What an operation may do to a key, and how keys expire, is in the `model` module.

mod history;
mod known;
mod model;
mod report;
mod search;
mod text;

pub use history::{
    Action, Call, Completion, Condition, ExpireWhen, Found, History, Operation, Reply, WriteStatus, Written,
};
pub use report::Report;
pub use text::ParseError;

use search::{Judgement, Search};

/// How long the search may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most search steps for one key; one step places one operation tentatively. Bounds time and memory: a step takes
    /// microseconds and remembers at most one configuration of some tens of bytes.
    pub steps_per_key_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps_per_key_max: 2_000_000 }
    }
}

/// What became of the check of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every key has a linearization.
    Linearizable,
    /// A key has none.
    NotLinearizable(Box<Report>),
    /// The step limit was reached for a key before the search ended, and no other key was found to be broken.
    Undecided {
        /// The first key that was not decided.
        key: Vec<u8>,
        /// The steps that were spent on it.
        steps: u64,
    },
}

impl Verdict {
    /// Whether the history is known to be linearizable.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable)
    }
}

/// Judges a history.
///
/// Typical cost is linear in the number of operations where answers carry versions (they fix the order of writes), and
/// near it otherwise; the worst case is exponential in the number of concurrent operations and cut off by `limits`.
pub fn check(history: &History, limits: Limits) -> Verdict {
    let mut undecided = None;
    for (key, operations) in history.by_key() {
        match Search::new(&operations).run(limits.steps_per_key_max) {
            Judgement::Linearizable(_) => {}
            Judgement::NotLinearizable => {
                return Verdict::NotLinearizable(Box::new(Report::new(key, &operations, limits.steps_per_key_max)));
            }
            Judgement::Undecided => {
                undecided.get_or_insert(Verdict::Undecided { key: key.to_vec(), steps: limits.steps_per_key_max });
            }
        }
    }
    undecided.unwrap_or(Verdict::Linearizable)
}
