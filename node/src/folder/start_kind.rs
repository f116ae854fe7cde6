//! What a node may believe of its own data, decided from how its last process ended. Pure.

use super::record::Record;
use kvorum_protocol::Durability;

/// How much of what this node once acknowledged is sure to be on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartKind {
    /// The folder is new: there is nothing.
    First,
    /// The last process synced everything and said so.
    AfterCleanStop,
    /// The last process ended without a word. With durability `fsync`, or while the machine stayed up, whatever was
    /// acknowledged is still there, on the disk or in the page cache.
    AfterCrash,
    /// The machine went down under a node that acknowledged from the page cache: writes and votes may be forgotten. Its
    /// replicas are given up, and the node goes on as one with another folder.
    Amnesiac,
}

/// What the run state file says of the last process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunState {
    /// Whether a process runs, or ended without saying goodbye.
    pub running: bool,
    /// The kernel's boot id when that process started. Page caches live as long as it stays the same.
    pub boot: String,
    /// Whether replicas with amnesia are left: it outlives crashes and clean stops until they are given up.
    pub amnesia: bool,
}

const TITLE: &str = "kvorum run state";

impl RunState {
    pub(super) fn encode(&self) -> String {
        let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let state = if self.running { "running" } else { "clean" };
        let lines = vec![("state", state.to_owned()), ("boot", self.boot.clone()), ("amnesia", word(self.amnesia))];
        Record { title: TITLE, lines }.encode()
    }

    /// `None` for what is damaged.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let [state, boot, amnesia] = Record::decode(text, TITLE, ["state", "boot", "amnesia"])?;
        let running = match state.as_str() {
            "running" => true,
            "clean" => false,
            _ => return None,
        };
        let amnesia = match amnesia.as_str() {
            "yes" => true,
            "no" => false,
            _ => return None,
        };
        Some(Self { running, boot, amnesia })
    }
}

/// Decides for a folder that has an identity; `last` is `None` if its run state is lost, which is taken for the worst.
pub(super) fn decide(last: Option<&RunState>, boot: &str, durability: Durability) -> StartKind {
    let page_cache_survived = last.is_some_and(|last| last.boot == boot);
    match (last, durability) {
        (Some(last), _) if last.amnesia => StartKind::Amnesiac,
        (Some(last), _) if !last.running => StartKind::AfterCleanStop,
        (_, Durability::Fsync) => StartKind::AfterCrash,
        (_, Durability::Memory) if page_cache_survived => StartKind::AfterCrash,
        (_, Durability::Memory) => StartKind::Amnesiac,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Durability::{Fsync, Memory};

    fn last(running: bool, boot: &str, amnesia: bool) -> RunState {
        RunState { running, boot: boot.to_owned(), amnesia }
    }

    #[test]
    fn only_a_machine_that_went_down_under_memory_durability_forgets() {
        let cases = [
            // running, boot, durability, expected
            (false, "old", Fsync, StartKind::AfterCleanStop),
            (false, "old", Memory, StartKind::AfterCleanStop),
            (true, "now", Fsync, StartKind::AfterCrash),
            (true, "now", Memory, StartKind::AfterCrash),
            (true, "old", Fsync, StartKind::AfterCrash),
            (true, "old", Memory, StartKind::Amnesiac),
        ];
        for (running, boot, durability, expected) in cases {
            let decided = decide(Some(&last(running, boot, false)), "now", durability);
            assert_eq!(decided, expected, "running {running}, boot {boot}, {durability}");
        }
    }

    #[test]
    fn amnesia_does_not_heal_by_restarting() {
        for running in [false, true] {
            for boot in ["old", "now"] {
                assert_eq!(decide(Some(&last(running, boot, true)), "now", Memory), StartKind::Amnesiac);
            }
        }
    }

    #[test]
    fn a_lost_run_state_is_taken_for_the_worst() {
        assert_eq!(decide(None, "now", Fsync), StartKind::AfterCrash);
        assert_eq!(decide(None, "now", Memory), StartKind::Amnesiac);
    }

    #[test]
    fn run_states_read_back() {
        for state in [last(true, "a-b", false), last(false, "c", true)] {
            assert_eq!(RunState::decode(&state.encode()), Some(state));
        }
        assert_eq!(RunState::decode("kvorum run state\n"), None);
    }
}
