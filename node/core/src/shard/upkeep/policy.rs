//! When a shard's files are worth tidying up, and which of them. Pure.

use crate::log::SegmentUse;
use crate::store::CaptureSlice;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::{ReplicaId, ShardId};

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
    /// What one turn of the shard does for it.
    pub slice: Slice,
}

/// How much a shard's turn does of what upkeep asks of it. The rest is left to the next turns, so that requests and messages
/// pass in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slice {
    /// Records that are pointed at their copies. Each costs a look-up in the index and a glance at the copy's header: about
    /// half a microsecond where neither is in the processor's caches.
    pub relocations: usize,
    /// What is written down of the state, for a checkpoint or a snapshot.
    pub capture: CaptureSlice,
}

impl Default for Slice {
    fn default() -> Self {
        Self { relocations: 1024, capture: CaptureSlice::default() }
    }
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 64 << 20,
            garbage_bytes_min: 16 << 20,
            garbage_percent: 100,
            round_bytes_max: 1 << 30,
            retain_bytes: 64 << 20,
            slice: Slice::default(),
        }
    }
}

impl UpkeepOptions {
    /// The options of one replica. All replicas of a shard apply the same entries, and would have the same to do at the same
    /// moment: a quorum of them would be slow together. So each has thresholds of its own, from two thirds of these to all of
    /// them. Ids that follow each other are far apart (multiples of the golden ratio are).
    pub fn of_replica(self, shard: ShardId, replica: ReplicaId) -> Self {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let spread = hash64(&shard.0.to_le_bytes()).wrapping_add(replica.0.wrapping_mul(GOLDEN)) >> 32;
        // Of 2³⁰ parts.
        let part = (2 << 30) / 3 + spread / 4 / 3;
        let of = |whole: u64| ((u128::from(whole) * u128::from(part)) >> 30) as u64;
        Self {
            checkpoint_bytes: of(self.checkpoint_bytes),
            garbage_bytes_min: if self.garbage_bytes_min == u64::MAX { u64::MAX } else { of(self.garbage_bytes_min) },
            garbage_percent: of(self.garbage_percent),
            ..self
        }
    }
}

impl UpkeepOptions {
    /// What is worth it while the disk is full: little garbage is much then, and a follower that lags gets a snapshot.
    #[must_use]
    pub fn on_a_full_disk(self) -> Self {
        let garbage_bytes_min = self.garbage_bytes_min / GARBAGE_DIVISOR_FULL;
        Self { garbage_bytes_min, retain_bytes: 0, ..self }
    }
}

/// On a full disk compaction begins at so much less garbage.
const GARBAGE_DIVISOR_FULL: u64 = 64;

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
/// gone: so each round gains more than it copies, and the disk holds at most about twice what lives, and the retained log. With little
/// garbage, segments with old data keys are emptied: what lives there is sealed with the key of now as it moves.
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
    let (mut victims, mut read, mut live) = (Vec::new(), 0, 0);
    for usage in segments.iter().filter(|usage| usage.segment.old_key) {
        if read >= options.round_bytes_max {
            break;
        }
        victims.push(usage.segment.number);
        read += u64::from(usage.segment.file_bytes);
        live += usage.live_bytes;
    }
    if !victims.is_empty() {
        return Plan::Compact { victims, live_bytes: live };
    }
    let due = appended >= options.checkpoint_bytes.max(index_bytes.saturating_mul(8));
    if due { Plan::Checkpoint } else { Plan::Rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(number: u32, file_bytes: u32, live_bytes: u64) -> Usage {
        Usage { segment: SegmentUse { number, file_bytes, stale: false, old_key: false }, live_bytes }
    }

    fn options() -> UpkeepOptions {
        UpkeepOptions {
            checkpoint_bytes: 1000,
            garbage_bytes_min: 100,
            garbage_percent: 100,
            round_bytes_max: 250,
            retain_bytes: 0,
            slice: Slice::default(),
        }
    }

    #[test]
    fn replicas_of_a_shard_have_their_thresholds_apart_and_below_what_is_promised() {
        let usual = UpkeepOptions::default();
        for shard in 0..64 {
            for first in [1, 2, 77] {
                let mut of: Vec<UpkeepOptions> =
                    (first..first + 3).map(|replica| usual.of_replica(ShardId(shard), ReplicaId(replica))).collect();
                of.sort_by_key(|options| options.checkpoint_bytes);
                assert!(of.iter().all(|options| options.checkpoint_bytes >= usual.checkpoint_bytes * 66 / 100));
                assert!(of.iter().all(|options| options.garbage_percent <= usual.garbage_percent));
                let apart = |two: &[UpkeepOptions]| two[1].checkpoint_bytes - two[0].checkpoint_bytes;
                assert!(of.windows(2).all(|two| apart(two) >= usual.checkpoint_bytes / 20), "shard {shard}: {of:?}");
            }
        }
        let off = UpkeepOptions { garbage_bytes_min: u64::MAX, ..usual };
        assert_eq!(off.of_replica(ShardId(1), ReplicaId(1)).garbage_bytes_min, u64::MAX, "compaction is off");
    }

    #[test]
    fn segments_with_old_keys_are_emptied_once_there_is_little_garbage() {
        let old = |number| {
            let mut usage = usage(number, 100, 90);
            usage.segment.old_key = true;
            usage
        };
        let segments = [usage(1, 100, 90), old(2), old(3), old(4), old(5)];
        let plan = decide(&options(), &segments, 450, 0, 0);
        assert_eq!(plan, Plan::Compact { victims: vec![2, 3, 4], live_bytes: 270 }, "as much as is done in a round");
        let mut dead = old(6);
        dead.live_bytes = 20;
        let segments = [dead, old(7), old(8), old(9)];
        let plan = decide(&options(), &segments, 290, 0, 0);
        assert_eq!(plan, Plan::Compact { victims: vec![6, 7, 8], live_bytes: 200 }, "it is reading that takes time");
        let segments = [usage(1, 100, 0), usage(2, 100, 0), old(3)];
        let plan = decide(&options(), &segments, 90, 0, 0);
        assert_eq!(plan, Plan::Compact { victims: vec![1, 2], live_bytes: 0 }, "garbage first");
    }

    #[test]
    fn the_fullest_of_garbage_go_until_half_of_it_is_gone() {
        let segments = [usage(1, 100, 90), usage(2, 100, 10), usage(3, 100, 50), usage(4, 100, 0)];
        let plan = decide(&options(), &segments, 150, 0, 0);
        assert_eq!(plan, Plan::Compact { victims: vec![2, 4], live_bytes: 10 });
    }

    #[test]
    fn a_full_disk_makes_little_garbage_worth_it() {
        let (options, segments) = (UpkeepOptions::default(), [usage(1, 1 << 20, 900)]);
        assert_eq!(decide(&options, &segments, 1_900, 0, 0), Plan::Rest);
        let plan = decide(&options.on_a_full_disk(), &segments, 1_900, 0, 0);
        assert_eq!(plan, Plan::Compact { victims: vec![1], live_bytes: 900 });
        let mostly_live = [usage(1, 1 << 20, 900_000)];
        assert_eq!(
            decide(&options.on_a_full_disk(), &mostly_live, 900_000, 0, 0),
            Plan::Rest,
            "it would gain too little"
        );
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
