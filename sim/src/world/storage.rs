//! What is on the disks: cold data is checked again, files take no more room than they should, and the last start finds
//! everything.

use super::node::{Crash, Node, UPKEEP};
use super::{Event, World};
use crate::plan::Options;
use kvorum_core::health::scrub::Checked;
use kvorum_core::sealing::{DATA_KEY_BYTES, DataKey, KeyEpoch, Keyring};
use kvorum_protocol::ShardId;
use rand::Rng as _;
use std::sync::Arc;

/// Cold data is checked again so long after a pass has ended, in milliseconds.
const SCRUB_PASS_EVERY_MS: u64 = 6_000;
/// Longest time between two segments of a pass.
const SCRUB_STEP_MS: u64 = 50;

impl World<'_> {
    /// A node's scrubber takes its next step.
    pub(super) fn scrub(&mut self, at: usize, process: u64) {
        if !self.is_current(at, process) {
            return;
        }
        // To the scrubber a read that fails is damage, and that is dealt to one node of a plan only: by other faults.
        let waits = self.nodes[at].files.reads_fail();
        let Some(running) = &mut self.nodes[at].process else { return };
        let checked = if waits { Some((ShardId(0), Checked::Left)) } else { running.scrub() };
        let wait_ms = match checked {
            None => {
                self.count("scrub passes");
                SCRUB_PASS_EVERY_MS
            }
            Some((shard, Checked::Damaged)) => {
                self.count("cold damage found by the scrubber");
                let numbers = [at as u64, shard.0.into()];
                self.trace.note(self.time.now(), "scrub", &numbers, format_args!("node {at} shard {shard} is damaged"));
                SCRUB_STEP_MS
            }
            Some((_, Checked::Sound | Checked::Left)) => self.rng.random_range(1..=SCRUB_STEP_MS),
        };
        self.queue.push(self.now().after_ms(wait_ms), Event::Scrub(at, process));
    }

    /// In plans in which no start finds a hint.
    pub(super) fn lose_hints_at_start(&mut self, at: usize) {
        if self.plan.options.loses_hints {
            self.nodes[at].files.lose_hints();
        }
    }

    /// What of the stored files is not as it should be by now, if anything isn't: too large, or damaged and not found.
    pub(super) fn untidy(&self) -> Option<(&'static str, String)> {
        self.nodes.iter().enumerate().find_map(|(at, node)| {
            let rotten = || node.process.as_ref().and_then(|process| process.rotten()).map(|what| ("repair", what));
            let (property, what) = self.overfull(node).map(|what| ("disk-space", what)).or_else(rotten)?;
            Some((property, format!("node {at}: {what}")))
        })
    }

    /// A replica whose files take more than they may, or a journal that does.
    fn overfull(&self, node: &Node) -> Option<String> {
        let disk = &self.plan.options.disk;
        let files = node.files.files();
        let within = |folder: &str| -> Vec<(String, u64)> {
            files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(folder)?.to_owned(), *bytes))).collect()
        };
        let journal: u64 = within("journal/").iter().map(|(_, bytes)| bytes).sum();
        // A start may have had to make one more.
        let journal_allowed = u64::from(disk.journal_files + 1) * u64::from(disk.journal_file_bytes);
        if journal > journal_allowed {
            return Some(format!("the journal takes {journal} bytes, more than {journal_allowed}"));
        }
        let process = node.process.as_ref()?;
        process.shards.iter().find_map(|(shard, replica)| {
            let live = replica.host.as_ref()?.shard().reader().live_bytes_total();
            let held = within(&format!("shards/{:05}/", shard.0));
            let (segments, others): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|(name, _)| name.ends_with(".segment") || name.ends_with(".data"));
            let largest = segments.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
            let allowed = segments_allowed(live, largest.max(disk.segment_bytes_max.into()));
            let total: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
            if total > allowed {
                return Some(format!("shard {shard}: {live} bytes live in {total}, more than {allowed}: {segments:?}"));
            }
            let stray = others.iter().find(|(name, _)| name != "manifest" && name != "hint");
            stray.map(|(name, bytes)| format!("shard {shard}: {name} of {bytes} bytes belongs to nothing"))
        })
    }

    /// All machines lose power, or all processes die if that is more than the cluster survives, and no hint is left: what
    /// the replicas hold from here on is what their records amount to.
    pub(super) fn start_all_again(&mut self) {
        let power = self.plan.options.fsync;
        for at in 0..self.nodes.len() {
            self.kill(at, Crash { power, down_ms: 100 }, "the last start");
            self.nodes[at].files.lose_hints();
        }
    }
}

/// About the most that clients write with one record, in bytes.
const LARGEST_RECORD_BYTES: u64 = 3_000;

/// What a replica's segments may take in all, if `live` bytes of them are of use and none is larger than `largest`.
///
/// - What compaction may empty holds what lives and as much garbage as its policy tolerates (`upkeep::decide`).
/// - The retained part of the log has sealed segments of `retain_bytes` and one more, and the active one. A segment is sealed
///   when the next record doesn't fit, so what it leaves free is less than what the next one holds: at worst they are half
///   empty.
/// - So are data segments, if not even two of the largest records fit into one (seed 3476). In production a value fills a quarter of
///   a segment at most.
fn segments_allowed(live: u64, largest: u64) -> u64 {
    let left_free = if largest < 2 * LARGEST_RECORD_BYTES { live } else { 0 };
    let garbage = UPKEEP.garbage_bytes_min.max(live * UPKEEP.garbage_percent / 100).max(left_free);
    live + garbage + 2 * (UPKEEP.retain_bytes + 2 * largest)
}

/// The keys of a node's process of this number, from 1: all keys that there will be, since the ring map brings a key before it is used.
pub(super) fn keyring(options: &Options, process: u64) -> Arc<Keyring> {
    const KEYS: u16 = 3;
    let ring = Keyring::default();
    let active = match options.sealed {
        0 => return Arc::new(ring),
        1 => 1,
        _ => (process as u16 - 1).min(KEYS),
    };
    (1..=KEYS).for_each(|epoch| ring.insert(KeyEpoch(epoch), DataKey::new([epoch as u8; DATA_KEY_BYTES])));
    if active > 0 {
        ring.activate(KeyEpoch(active));
    }
    Arc::new(ring)
}
