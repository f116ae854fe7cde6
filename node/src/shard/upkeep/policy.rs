//! When a shard's files are worth tidying up, and which of them. Pure.

use crate::log::SegmentUse;

/// When and how much.
#[derive(Clone, Copy, Debug)]
pub struct UpkeepOptions {
    /// A checkpoint is written once the log has grown by this many bytes since the last one, and by eight times what the
    /// index takes on the disk.
    pub checkpoint_bytes: u64,
    /// Compaction waits until there is this much garbage,
    pub garbage_bytes_min: u64,
    /// and until it is this many hundredths of what lives.
    pub garbage_percent: u64,
    /// One compaction reads no more than this, but for the last segment.
    pub round_bytes_max: u64,
    /// The newest entries of this many bytes stay in the log for followers that lag.
    pub retain_bytes: u64,
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        UpkeepOptions {
            checkpoint_bytes: 64 << 20,
            garbage_bytes_min: 16 << 20,
            garbage_percent: 100,
            round_bytes_max: 1 << 30,
            retain_bytes: 64 << 20,
        }
    }
}

/// A segment that compaction may empty, and how much of it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// The segment.
    pub segment: SegmentUse,
    /// Bytes of its records that the index points at.
    pub live_bytes: u64,
}

impl Usage {
    fn garbage(&self) -> u64 {
        u64::from(self.segment.file_bytes).saturating_sub(self.live_bytes)
    }
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing.
    Rest,
    /// Write a checkpoint.
    Checkpoint,
    /// Empty these segments.
    Compact {
        /// Their numbers.
        victims: Vec<u32>,
        /// About how much of them lives.
        live_bytes: u64,
    },
}

/// Decides. `live_bytes` is what lives in all segments, those in `segments` and those that must stay; `appended` is how
/// much the log has grown since the last checkpoint, `index_bytes` what the index takes on the disk.
///
/// The fullest of garbage go first (the greedy policy of Rosenblum and Ousterhout, 1991), until half of the garbage would be
/// gone: so each round gains more than it copies, and the disk holds at most about twice what lives, and the retained log.
pub fn decide(options: &UpkeepOptions, segments: &[Usage], live_bytes: u64, appended: u64, index_bytes: u64) -> Plan {
    let garbage: u64 = segments.iter().map(Usage::garbage).sum();
    let allowed = options.garbage_bytes_min.max(live_bytes.saturating_mul(options.garbage_percent) / 100);
    if garbage > allowed {
        let mut order: Vec<&Usage> = segments.iter().collect();
        order.sort_by_key(|usage| {
            (usage.live_bytes * 1000 / u64::from(usage.segment.file_bytes).max(1), usage.segment.number)
        });
        let (mut victims, mut gained, mut read, mut live) = (Vec::new(), 0, 0, 0);
        for usage in order {
            if gained * 2 >= garbage || read >= options.round_bytes_max {
                break;
            }
            victims.push(usage.segment.number);
            gained += usage.garbage();
            read += u64::from(usage.segment.file_bytes);
            live += usage.live_bytes;
        }
        victims.sort_unstable();
        return Plan::Compact { victims, live_bytes: live };
    }
    let due = appended >= options.checkpoint_bytes.max(index_bytes.saturating_mul(8));
    if due { Plan::Checkpoint } else { Plan::Rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(number: u32, file_bytes: u32, live_bytes: u64) -> Usage {
        Usage { segment: SegmentUse { number, file_bytes, stale: false }, live_bytes }
    }

    fn options() -> UpkeepOptions {
        UpkeepOptions {
            checkpoint_bytes: 1000,
            garbage_bytes_min: 100,
            garbage_percent: 100,
            round_bytes_max: 250,
            retain_bytes: 0,
        }
    }

    #[test]
    fn the_fullest_of_garbage_go_until_half_of_it_is_gone() {
        let segments = [usage(1, 100, 90), usage(2, 100, 10), usage(3, 100, 50), usage(4, 100, 0)];
        let plan = decide(&options(), &segments, 150, 0, 0);
        assert_eq!(plan, Plan::Compact { victims: vec![2, 4], live_bytes: 10 });
    }

    #[test]
    fn a_round_has_a_bound() {
        let segments: Vec<_> = (1..10).map(|number| usage(number, 100, 0)).collect();
        let Plan::Compact { victims, .. } = decide(&options(), &segments, 10, 0, 0) else { panic!() };
        assert_eq!(victims, [1, 2, 3]);
    }

    #[test]
    fn little_garbage_is_left_alone_and_growth_makes_a_checkpoint() {
        let segments = [usage(1, 100, 40), usage(2, 100, 70)];
        assert_eq!(decide(&options(), &segments, 110, 999, 0), Plan::Rest);
        assert_eq!(decide(&options(), &segments, 110, 1000, 0), Plan::Checkpoint);
        assert_eq!(decide(&options(), &segments, 110, 1000, 126), Plan::Rest, "the index is large");
        assert_eq!(decide(&options(), &segments, 110, 1008, 126), Plan::Checkpoint);
        assert_eq!(decide(&options(), &[usage(1, 90, 0)], 0, 0, 0), Plan::Rest, "less than the least that is worth it");
    }
}
