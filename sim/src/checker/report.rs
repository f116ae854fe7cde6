//! What is told about a history that is not linearizable: as little as explains it.

use super::history::{Completion, Operation};
use super::search::{Judgement, Search};
use super::text::Escaped;
use std::fmt;

/// Most operations that a report shows of each kind.
const SHOWN_MAX: usize = 24;

/// Why a key's operations have no linearization.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The key.
    pub key: Vec<u8>,
    /// How many operations on it the history holds.
    pub operations: usize,
    /// The operation whose answer nothing explains: without that answer the history up to it is linearizable.
    pub culprit: Operation,
    /// How many of the key's operations were called before the culprit's answer: the shortest prefix of the history that
    /// is not linearizable.
    pub prefix: usize,
    /// The operations that overlap the culprit in time, latest call first, culprit excluded; at most 24.
    pub concurrent: Vec<Operation>,
    /// The end of an order that explains everything before the culprit's answer; at most 24 operations.
    pub explained: Vec<Operation>,
    /// The key's state after that order, as text.
    pub state: String,
}

impl Report {
    /// Finds the shortest broken prefix of a key's operations, which are known to have no linearization.
    pub(super) fn new(key: &[u8], operations: &[&Operation], steps_max: u64) -> Self {
        let mut returns: Vec<(u64, usize)> = operations
            .iter()
            .enumerate()
            .filter_map(|(index, operation)| Some((operation.returned_at()?, index)))
            .collect();
        returns.sort_unstable();
        // A prefix of a linearizable history is linearizable, so the broken prefixes are those from some answer on.
        // One that can't be decided counts as whole: then the reported prefix is broken, and perhaps not the shortest.
        let whole = |answers: usize| {
            let prefix = prefix(operations, &returns[..answers]);
            let prefix: Vec<&Operation> = prefix.iter().collect();
            !matches!(Search::new(&prefix).run(steps_max), Judgement::NotLinearizable)
        };
        let (mut whole_answers, mut broken_answers) = (0, returns.len());
        while broken_answers - whole_answers > 1 {
            let middle = whole_answers.midpoint(broken_answers);
            if whole(middle) { whole_answers = middle } else { broken_answers = middle }
        }
        let (returned_at, culprit) = returns[broken_answers - 1];
        let culprit = operations[culprit];
        let mut concurrent: Vec<Operation> = operations
            .iter()
            .filter(|operation| !std::ptr::eq(**operation, culprit) && overlap(operation, culprit))
            .map(|operation| (*operation).clone())
            .collect();
        concurrent.sort_by_key(|operation| std::cmp::Reverse(operation.invoked_at));
        concurrent.truncate(SHOWN_MAX);
        let (explained, state) = explain(&prefix(operations, &returns[..whole_answers]), steps_max);
        Self {
            key: key.to_vec(),
            operations: operations.len(),
            culprit: culprit.clone(),
            prefix: operations.iter().filter(|operation| operation.invoked_at <= returned_at).count(),
            concurrent,
            explained,
            state,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key {} is not linearizable", Escaped(&self.key))?;
        writeln!(f, "nothing explains this answer ({} of {} operations seen):", self.prefix, self.operations)?;
        writeln!(f, "  {}", self.culprit)?;
        writeln!(f, "an order that explains every answer before it ends:")?;
        self.explained.iter().try_for_each(|operation| writeln!(f, "  {operation}"))?;
        writeln!(f, "and leaves the key at {}", self.state)?;
        writeln!(f, "operations at the same time:")?;
        self.concurrent.iter().try_for_each(|operation| writeln!(f, "  {operation}"))
    }
}

/// The history when only `answers` had been given: later answers are not yet known, later calls not yet made.
fn prefix(operations: &[&Operation], answers: &[(u64, usize)]) -> Vec<Operation> {
    let Some(&(end, _)) = answers.last() else { return Vec::new() };
    let mut given = vec![false; operations.len()];
    answers.iter().for_each(|&(_, index)| given[index] = true);
    let called = operations.iter().zip(given).filter(|(operation, _)| operation.invoked_at <= end);
    called
        .map(|(operation, given)| {
            let mut operation = (*operation).clone();
            if !given {
                operation.completion = Completion::Open;
            }
            operation
        })
        .collect()
}

/// The end of an order that explains a prefix, and the state it leads to.
fn explain(prefix: &[Operation], steps_max: u64) -> (Vec<Operation>, String) {
    let operations: Vec<&Operation> = prefix.iter().collect();
    let mut search = Search::new(&operations);
    let Judgement::Linearizable(order) = search.run(steps_max) else {
        return (Vec::new(), "a state that was not found within the step limit".into());
    };
    let (state, value) = search.reached();
    let state = match value {
        None => format!("nothing, after version {}", state.version),
        Some(value) => {
            let bound = if state.version_exact { "" } else { "at least " };
            let expiry = if state.expires { ", until it expires" } else { "" };
            format!("{} with version {bound}{}{expiry}", Escaped(value), state.version)
        }
    };
    let tail = order.len().saturating_sub(SHOWN_MAX);
    (order[tail..].iter().map(|&position| prefix[position].clone()).collect(), state)
}

fn overlap(one: &Operation, other: &Operation) -> bool {
    let returns_before = |one: &Operation, other: &Operation| one.returned_at().is_some_and(|at| at < other.invoked_at);
    !returns_before(one, other) && !returns_before(other, one)
}
