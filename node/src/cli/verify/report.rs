//! What was found, and how it is told: to a person at three in the morning, or to a program.

use serde::Serialize;
use std::fmt;

/// What became of a data folder. Its form in JSON is documented in `docs/OPERATIONS.md`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The folder.
    pub folder: String,
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// Whose it is; `None` if that can't be read.
    pub owner: Option<OwnerReport>,
    /// How its last process ended; `None` if that can't be read.
    pub last_process: Option<&'static str>,
    /// The journal; `None` if it is damaged.
    pub journal: Option<JournalReport>,
    /// The shards, in order.
    pub shards: Vec<ShardReport>,
    /// What is damaged outside of the shards.
    pub findings: Vec<Finding>,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
}

/// What is to be thought of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No damage was found.
    Sound,
    /// Damage was found.
    Damaged,
}

/// Whose a folder is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OwnerReport {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
    /// The folder's id.
    pub disk: String,
    /// Shards of the ring.
    pub shards: u16,
    /// What "committed" means.
    pub durability: String,
}

/// A sound journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct JournalReport {
    /// Its files.
    pub files: usize,
    /// Rounds that a start writes back.
    pub rounds: u64,
    /// The newest round; 0 if there is none.
    pub newest_round: u64,
}

/// One shard's files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: String,
    /// Whose replica they are; `None` if nothing is noted.
    pub replica: Option<u64>,
    /// The replica is over: its files are of no use, and were not looked at.
    pub over: bool,
    /// Log segments.
    pub log_segments: usize,
    /// Data segments.
    pub data_segments: usize,
    /// What they take.
    pub bytes: u64,
    /// Records whose checksums were verified.
    pub records: u64,
    /// The last entry of the checkpoint; 0 if there is none.
    pub base: u64,
    /// The last entry of the log; `None` if the log is damaged.
    pub last_entry: Option<u64>,
    /// Keys as of the checkpoint; `None` without a fresh index.
    pub keys: Option<u64>,
    /// Bytes of records in use as of the checkpoint; `None` without a fresh index.
    pub live_bytes: Option<u64>,
    /// Bytes of a torn tail that a start cuts.
    pub torn_bytes: u64,
    /// What is damaged.
    pub findings: Vec<Finding>,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
}

/// Something that is damaged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The file, below the data folder.
    pub file: String,
    /// Where in it, in bytes; `None` if that is not known.
    pub offset: Option<u32>,
    /// What is wrong.
    pub what: String,
    /// What a start makes of it.
    pub effect: Effect,
}

/// What a start makes of damage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It gets by without, and nothing is lost.
    GetsBy,
    /// The replica is replaced: at once, or when the damage is met.
    ReplacesReplica,
    /// The node does not start.
    DoesNotStart,
}

impl Report {
    /// All damage.
    pub fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().chain(self.shards.iter().flat_map(|shard| &shard.findings))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{}, offset {offset}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data folder {}", self.folder)?;
        if let Some(owner) = &self.owner {
            let OwnerReport { cluster, node, disk, shards, durability } = owner;
            writeln!(f, "identity: node {node} of cluster {cluster}, folder {disk}")?;
            writeln!(f, "identity: {shards} shards, durability {durability}")?;
        }
        if let Some(last) = self.last_process {
            writeln!(f, "last process: {last}")?;
        }
        if let Some(JournalReport { files, rounds, newest_round }) = self.journal {
            writeln!(
                f,
                "journal: sound; files: {files}, newest round: {newest_round}, rounds to write back: {rounds}"
            )?;
        }
        self.shards.iter().try_for_each(|shard| shard.fmt(f))?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "DAMAGED {finding}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        writeln!(f, "verdict: {}", self.conclusion())
    }
}

impl Report {
    /// The verdict and what to do, in a sentence or two.
    fn conclusion(&self) -> String {
        let count = self.all_findings().count();
        let found = if count == 1 { "damage in 1 place".to_owned() } else { format!("damage in {count} places") };
        match self.all_findings().map(|finding| finding.effect).max() {
            None => "sound".to_owned(),
            Some(Effect::GetsBy) => format!("{found}, and nothing is lost: start the node"),
            Some(Effect::ReplacesReplica) => format!(
                "{found}. Keep this folder and the other nodes as they are. If the other replicas of these shards are well, \
                 start the node: its damaged replicas are replaced from them"
            ),
            Some(Effect::DoesNotStart) => format!(
                "{found}; the node does not start with this folder. Keep it. If the other replicas of its shards are well, \
                 start the node with an empty folder: it gets everything from them"
            ),
        }
    }
}

impl fmt::Display for ShardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}: ", self.shard)?;
        if self.over {
            f.write_str("not looked at: its replica is over and waits to be replaced")?;
        } else if self.findings.is_empty() {
            f.write_str("sound")?;
        } else {
            f.write_str("DAMAGED")?;
        }
        if let Some(replica) = self.replica {
            write!(f, "; replica {replica}")?;
        }
        if !self.over {
            if let Some(last) = self.last_entry {
                write!(f, ", entries to {last}, checkpoint at {}", self.base)?;
            }
            write!(f, ", log segments {}, data segments {}", self.log_segments, self.data_segments)?;
            write!(f, ", bytes {}, records {}", self.bytes, self.records)?;
            if let (Some(keys), Some(live)) = (self.keys, self.live_bytes) {
                write!(f, ", keys {keys} in {live} bytes at the checkpoint")?;
            }
        }
        writeln!(f)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}
