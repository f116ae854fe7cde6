//! A walk over all kinds of requests, each with the largest legal input, and over what a replica does by itself: what every step on the
//! way costs, in the model of [`crate::cost`] and by a clock. For tests and measurements.
//!
//! A step is what an async worker does without letting go of it: a session takes a request or collects answers, a shard takes a
//! turn. Turns that their host calls long ([`ShardHost::is_long_turn`]), and what sessions have done elsewhere
//! ([`crate::session::Offload`]), are on threads of their own; they are in the list, and hold nobody up.

mod group;
mod inputs;

pub use group::Group;
pub use inputs::Kind;

use crate::cost::Cost;
use std::fmt;
use std::time::Duration;

/// Who took a step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Taker {
    /// A session: it took a request, or collected answers.
    Session,
    /// A shard, in a turn.
    Shard,
    /// A thread that holds no one up.
    Elsewhere,
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub struct WalkStep {
    /// Whose it was.
    pub taker: Taker,
    /// In the model.
    pub cost: Cost,
    /// By a clock.
    pub elapsed: Duration,
}

/// All steps that one input took.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The kind of request; `None`: what a replica did by itself.
    pub kind: Option<Kind>,
    /// The input.
    pub name: &'static str,
    /// The steps.
    pub steps: Vec<WalkStep>,
}

impl Walked {
    /// The worst step in the model, and the longest by the clock, of those of a taker.
    pub fn worst(&self, taker: Taker) -> (Cost, Duration) {
        let mut steps = self.steps.iter().filter(|step| step.taker == taker);
        let first = steps.next().map_or((Cost::default(), Duration::ZERO), |step| (step.cost, step.elapsed));
        steps.fold(first, |(cost, elapsed), step| {
            (if step.cost.ns() > cost.ns() { step.cost } else { cost }, elapsed.max(step.elapsed))
        })
    }
}

impl fmt::Display for Walked {
    /// A line of a table: the worst steps of sessions, of short turns, and of what was done elsewhere, in microseconds of the model and
    /// of a clock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<52}", self.name)?;
        for taker in [Taker::Session, Taker::Shard, Taker::Elsewhere] {
            let (cost, elapsed) = self.worst(taker);
            write!(f, "{:>9} {:>9}", cost.ns() / 1_000, elapsed.as_micros())?;
        }
        Ok(())
    }
}

/// What stands above the lines.
pub const HEADINGS: &str =
    "input                                                 session, model, µs   turn, model, µs   elsewhere, model, µs";

/// Takes the walk with a group of replicas, which must be new.
pub fn walk(group: &mut Group) -> Vec<Walked> {
    let mut walked = inputs::requests(group);
    walked.extend(inputs::background(group));
    walked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::memory::MemoryDisk;
    use crate::log::InlineSource;
    use std::sync::Arc;

    /// What an async worker may be held for, in the model: the time of hashing a frame of the largest size, nearly all keys, once. All
    /// else is below. A heartbeat is due every 100 ms, and an election after 500 at the earliest: a worker that
    /// forty shards share is far from either.
    const HELD_NS_MAX: u64 = 2_500_000;

    #[test]
    fn no_request_holds_a_worker_for_long() {
        let mut group = Group::new(|_| {
            let disk: Arc<dyn Disk> = MemoryDisk::new();
            (Arc::clone(&disk), Arc::new(InlineSource::new(disk)) as _)
        });
        let walked = walk(&mut group);
        println!("{HEADINGS}");
        walked.iter().for_each(|walked| println!("{walked}"));
        for kind in Kind::ALL {
            assert!(walked.iter().any(|walked| walked.kind == Some(kind)), "{kind:?} is in the walk");
        }
        let too_long: Vec<String> = walked
            .iter()
            .flat_map(|walked| [Taker::Session, Taker::Shard].map(|taker| (walked, taker, walked.worst(taker).0)))
            .filter(|(.., cost)| cost.ns() > HELD_NS_MAX)
            .map(|(walked, taker, cost)| format!("{}: {taker:?} {} µs, {cost:?}", walked.name, cost.ns() / 1_000))
            .collect();
        assert!(too_long.is_empty(), "{too_long:#?}");
    }
}
