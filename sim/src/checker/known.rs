//! What is known of writes of unknown outcome before the search begins.
//!
//! Of puts, on a key that nothing else makes such values of (an incr makes numbers, and of numbers only):
//!
//! * A value that only one put writes, and that somebody found, was written before it was found. The put is then no longer
//!   open: it took effect, at the latest when the finder was answered.
//! * A value that nobody found could as well be any other that nobody found. If all open puts of such values write the same
//!   one, they can stand in for each other, and the search tries one of them rather than each.
//!
//! Of writes that want no key, or one version:
//!
//! * A version that the key had left behind before the write was called does not come back. Then the write wants no key.
//!
//! Of appends, on a key that is only appended to:
//!
//! * Every value that the key has is a beginning of the longest that was found, until that was found. So of all open appends
//!   only those that were found can be next, each at its place.
//!
//! Nothing of this changes whether there is a linearization. It keeps dozens of open writes on one key from multiplying the search,
//! the more so if values may expire: then each of them explains a missing key.

use super::history::{Action, Call, Completion, Condition, Operation, Reply};
use super::model::decimal;
use std::borrow::Cow;
use std::collections::HashMap;

/// The values of one key, as far as that helps with its open puts.
pub(super) struct OpenPuts<'a> {
    /// For each value that was found: the first answer that showed it, and how many puts write it. Empty if other operations
    /// than puts make values, too.
    found: HashMap<&'a [u8], Finding>,
    /// What stands for every value that was not found.
    unfound: Option<&'a [u8]>,
    /// When an answer told of a version that was higher than any before: in order.
    versions: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Finding {
    first_at: Option<u64>,
    puts: usize,
}

impl<'a> OpenPuts<'a> {
    /// Looks at the operations of one key.
    pub(super) fn new(operations: &[&'a Operation]) -> Self {
        let mut known = OpenPuts { found: HashMap::new(), unfound: None, versions: versions_told(operations) };
        if derive_values(operations) {
            return known;
        }
        for operation in operations {
            if let Completion::Answered { at, reply: Reply::Value(Some(found)) } = &operation.completion {
                let first_at = &mut known.found.entry(&found.value).or_default().first_at;
                *first_at = Some(first_at.map_or(*at, |first| first.min(*at)));
            }
        }
        for value in operations.iter().filter_map(|operation| put_value(operation)) {
            match known.found.get_mut(value) {
                Some(finding) => finding.puts += 1,
                None => known.unfound = known.unfound.or(Some(value)),
            }
        }
        known
    }

    /// When an open put is known to have taken effect, although its caller does not know.
    pub(super) fn seen_at(&self, operation: &Operation) -> Option<u64> {
        let finding = self.found.get(put_value(operation)?).filter(|finding| finding.puts == 1)?;
        // What was found before its put was called is for the search to refuse.
        finding.first_at.filter(|at| *at >= operation.invoked_at)
    }

    /// The operation, or one with the same effect on all that was seen.
    pub(super) fn simplified<'b>(&self, operation: &'b Operation) -> Cow<'b, Operation> {
        let mut simplified = Cow::Borrowed(operation);
        if operation.completion != Completion::Open {
            return simplified;
        }
        if let Call::Write { condition: Condition::IfAbsentOrVersion(version), .. } = operation.call
            && self.version_before(operation.invoked_at) > version
            && let Call::Write { condition, .. } = &mut simplified.to_mut().call
        {
            *condition = Condition::IfAbsent;
        }
        if let (Some(unfound), Some(value)) = (self.unfound, put_value(operation))
            && !self.found.contains_key(value)
            && let Call::Write { action: Action::Put { value: stored, .. } | Action::PutKeeping(stored), .. } =
                &mut simplified.to_mut().call
        {
            *stored = unfound.to_vec();
        }
        simplified
    }

    /// The highest version that the key is known to have had before this moment.
    fn version_before(&self, at: u64) -> u64 {
        let before = self.versions.partition_point(|(told_at, _)| *told_at < at);
        before.checked_sub(1).map_or(0, |last| self.versions[last].1)
    }
}

/// When answers told of versions that were higher than any before.
fn versions_told(operations: &[&Operation]) -> Vec<(u64, u64)> {
    let told = operations.iter().filter_map(|operation| match &operation.completion {
        Completion::Answered { at, reply: Reply::Value(found) } => Some((*at, found.as_ref()?.version?)),
        Completion::Answered { at, reply: Reply::Written(written) } => Some((*at, written.version?)),
        Completion::Answered { reply: Reply::Refused | Reply::Together(_), .. } => None,
        Completion::AppliedUnseen { .. } | Completion::Open => None,
    });
    let mut told: Vec<(u64, u64)> = told.collect();
    told.sort_unstable();
    let mut highest = 0;
    told.retain(|(_, version)| {
        let is_higher = *version > highest;
        highest = highest.max(*version);
        is_higher
    });
    told
}

/// Of a key that is only appended to: the longest value that was found, and the position of the get that found it.
pub(super) fn longest_list<'a>(operations: &[&'a Operation]) -> Option<(&'a [u8], usize)> {
    let mut longest: Option<(&[u8], usize)> = None;
    for (position, operation) in operations.iter().enumerate() {
        match (&operation.call, &operation.completion) {
            (Call::Get, Completion::Answered { reply: Reply::Value(Some(found)), .. }) => {
                if longest.is_none_or(|(longest, _)| longest.len() < found.value.len()) {
                    longest = Some((&found.value, position));
                }
            }
            (Call::Get, _) | (Call::Write { action: Action::Append(_), .. }, _) => {}
            _ => return None,
        }
    }
    longest
}

fn put_value(operation: &Operation) -> Option<&[u8]> {
    match &operation.call {
        Call::Write { action: Action::Put { value, .. } | Action::PutKeeping(value), .. } => Some(value),
        _ => None,
    }
}

/// Whether other operations than puts may make values that puts write, or others of them; or than gets tell values apart.
fn derive_values(operations: &[&Operation]) -> bool {
    let is_number = |value: &[u8]| decimal(value).is_some();
    let puts_number = || operations.iter().filter_map(|operation| put_value(operation)).any(is_number);
    operations.iter().any(|operation| match &operation.call {
        Call::Write { action: Action::Append(_) | Action::SetRange { .. } | Action::SetBit { .. }, .. } => true,
        Call::Write { action: Action::IncrQuarters(_), .. } | Call::Together { .. } => true,
        // What is compared with counts as found by others than gets.
        Call::Write { condition: Condition::IfEquals(_), .. } => true,
        Call::Write { action: Action::Incr(_), .. } => puts_number(),
        _ => false,
    })
}
