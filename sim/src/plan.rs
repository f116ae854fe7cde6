//! What a run is made of: sizes, what clients do, and what goes wrong. A plan is drawn from a seed, and can be made smaller.

mod draw;
mod faults;
mod once;
mod steps;
mod theme;
mod transactions;

pub use draw::{FAULTS_MIN, OPERATIONS_MAX, OPERATIONS_MIN};

use serde::{Deserialize, Serialize};

/// Everything that a run is made of. Two runs of one plan are the same, event by event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Seeds what the lists below leave open: delays, losses, jitter, which unsynced sectors survive.
    pub seed: u64,
    /// Sizes and rates.
    pub options: Options,
    /// What each client does, in order.
    pub clients: Vec<Vec<Step>>,
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
}

/// Sizes and rates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Nodes that found the cluster, 3 to 5.
    pub nodes: u16,
    /// Machines besides them, with empty disks, that may join. They have the numbers behind the founders.
    #[serde(default)]
    pub spares: u16,
    /// Shards, a power of two.
    pub shards: u16,
    /// Acknowledged means synced by a quorum; otherwise in a quorum's page caches.
    pub fsync: bool,
    /// Most unanswered operations of one client.
    pub window: u32,
    /// How long faults go on, in simulated milliseconds. Then everything heals and progress is required.
    pub safety_ms: u64,
    /// The network between nodes.
    pub peers: Network,
    /// The network between clients and nodes.
    pub client_links: Network,
    /// The disks.
    pub disk: DiskOptions,
    /// For each node: how fast its clock runs, in parts per million off true time (−50,000 to 50,000).
    pub clock_rate_ppm: Vec<i32>,
    /// For each node: what its wall clock is off at the start, in milliseconds.
    pub wall_offset_ms: Vec<i64>,
    /// How long a client waits for one operation before it gives it up, in milliseconds.
    pub deadline_ms: u32,
    /// Of a thousand messages about snapshots, so many are lost besides.
    #[serde(default)]
    pub snapshots_lost_permille: u32,
    /// Such a message is on its way for up to so many milliseconds longer than others: entries and votes go before it.
    #[serde(default)]
    pub snapshots_late_ms: u32,
    /// No start finds a hint: each builds its indexes from all records.
    #[serde(default)]
    pub loses_hints: bool,
    /// Most unanswered requests of a shard's queue; 0 for production's bound, which so few clients don't reach.
    #[serde(default)]
    pub queue_requests_max: u32,
    /// Most bytes of them, half of what a node's shards may have together, and most bytes of a shard's consensus messages; 0
    /// for production's bounds.
    #[serde(default)]
    pub queue_bytes_max: u32,
    /// Most clients that a shard remembers; 0 for production's bound.
    #[serde(default)]
    pub sessions_max: u32,
    /// Most bytes of answers that a shard remembers; 0 for production's bound.
    #[serde(default)]
    pub session_bytes_max: u32,
    /// Most one-shot names that a shard remembers; 0 for production's bound. With another one no name is used twice, since a name
    /// that is forgotten means nothing.
    #[serde(default)]
    pub once_max: u32,
    /// Of a thousand writes that are sent for the first time, so many are held up for seconds, on a way of their own: whatever
    /// their client does meanwhile, they arrive, also when its connection is long gone.
    #[serde(default)]
    pub late_copies_permille: u32,
    /// How long a node that is down is waited for before what it holds is made anew, in milliseconds; 0 for no time.
    #[serde(default)]
    pub repair_hold_ms: u64,
    /// How many bits of a key's hash its place in an index has; 0 for production's, with which no two keys share one.
    #[serde(default)]
    pub order_bits: u32,
    /// 0: nothing is sealed; 1: everything is, with one key; 2: nodes begin plain, and each of their processes seals with another key
    /// than the one before.
    #[serde(default)]
    pub sealed: u32,
}

/// How a network treats messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Shortest delay of a message, in microseconds.
    pub delay_min_us: u64,
    /// Longest delay.
    pub delay_max_us: u64,
    /// Of a thousand messages, so many are lost. Between a client and a node, a loss breaks the connection.
    pub lost_permille: u32,
    /// Of a thousand messages, so many arrive twice. Only between nodes.
    pub duplicated_permille: u32,
    /// Of a thousand messages, so many are held up by up to a hundred times the longest delay, and others overtake them.
    pub held_up_permille: u32,
}

impl Network {
    /// One in which nothing goes wrong.
    pub const CALM: Self =
        Self { delay_min_us: 50, delay_max_us: 2_000, lost_permille: 0, duplicated_permille: 0, held_up_permille: 0 };
}

/// How disks behave when nothing goes wrong, and how files are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskOptions {
    /// Shortest time of a sync, in microseconds.
    pub sync_min_us: u64,
    /// Longest time of a sync.
    pub sync_max_us: u64,
    /// First size of a shard's segments, in bytes; a multiple of 4096.
    pub segment_bytes_first: u32,
    /// Largest size of a shard's segments.
    pub segment_bytes_max: u32,
    /// Files of the journal's ring.
    pub journal_files: u32,
    /// Size of each, in bytes; a multiple of 4096, at least 32 KiB.
    pub journal_file_bytes: u32,
}

/// One thing that a client does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// It waits at least this long after it began the step before, in milliseconds.
    pub after_ms: u32,
    /// What it does then.
    pub act: Act,
}

/// An operation. Keys are numbers; the world makes `k<number>` of them. Values are made by the world so that each is
/// unique.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// A linearizable read.
    Get(u32),
    /// Stores a fresh value of about this many bytes.
    Put {
        /// The key.
        key: u32,
        /// Its size.
        bytes: u32,
        /// When it expires, in milliseconds.
        ttl_ms: Option<u64>,
        /// Answered when it is in the leader's log only.
        accepted: bool,
        /// Once it is accepted its client awaits it for so long, in milliseconds, if not 0.
        #[serde(default)]
        await_ms: u32,
    },
    /// Stores a fresh value of about this many bytes, and asks whether the key existed.
    PutAsking {
        /// The key.
        key: u32,
        /// Its size.
        bytes: u32,
    },
    /// Stores a fresh value, and keeps the key's time to live.
    PutKeeping(u32),
    /// Gives a key a time to live and then stores a fresh value that keeps it, with one BATCH.
    ExpireAndPut {
        /// The key.
        key: u32,
        /// When it expires, in milliseconds.
        ttl_ms: u64,
    },
    /// Stores a fresh value if the key has the version that this client saw last, or is absent if it never saw one.
    CompareAndSet(u32),
    /// Stores a fresh value if the key does not exist.
    PutIfAbsent(u32),
    /// Stores a fresh value if the key does not exist, or has the version that this client saw last.
    PutIfAbsentOrSeen(u32),
    /// Removes the key.
    Delete(u32),
    /// Adds to a counter (the key `n<number>`).
    Incr(u32),
    /// Adds to a counter under a one-shot name, which other clients use as well.
    IncrOnce {
        /// The counter.
        key: u32,
        /// The name.
        id: u32,
        /// What to add. Under one name only the first of several numbers may be added.
        by: u32,
    },
    /// Adds half of all there is to a counter, or takes it away: every other time that is past its range.
    IncrFar {
        /// The counter.
        key: u32,
        /// Takes it away.
        down: bool,
        /// The first copy of it is held up for so long, in milliseconds; with 0 as any other's may be.
        #[serde(default)]
        late_ms: u32,
    },
    /// Adds to a plain key, whose value is no number unless this made it.
    IncrPlain(u32),
    /// Adds to the first key of a pair and writes to the second, all or nothing. The first is a number only if it was missing.
    AtomicIncr(u32),
    /// Appends to a list (the key `a<number>`).
    Append(u32),
    /// Gives an existing key a time to live.
    Expire {
        /// The key.
        key: u32,
        /// When it expires, in milliseconds.
        ttl_ms: u64,
    },
    /// Stores a fresh value that expires at a time of the clock.
    PutUntil {
        /// The key.
        key: u32,
        /// How far that is ahead of true time, in milliseconds; it may be over.
        in_ms: i64,
    },
    /// Has an existing key expire at a time of the clock.
    ExpireAt {
        /// The key.
        key: u32,
        /// As of [`Act::PutUntil`].
        in_ms: i64,
    },
    /// Takes a key's time to live away.
    Persist(u32),
    /// Writes the same fresh value to both keys of a pair (`{p<number>}a` and `{p<number>}b`), all or nothing, on condition
    /// that both have the versions that this client saw last.
    AtomicPair(u32),
    /// Reads the keys of a pair one after the other.
    ReadPair(u32),
    /// Writes these many consecutive keys with one BATCH.
    Batch {
        /// The first key.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Reads these many consecutive keys with one MULTI-GET.
    MultiGet {
        /// The first key.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Reads and writes of a pair of keys (`{t<number>}a` and `{t<number>}b`) in turn, in one transaction.
    Transaction {
        /// The pair.
        pair: u32,
        /// Only if both keys have the versions that this client saw last.
        watch: bool,
        /// What it does, as bits.
        script: u32,
    },
    /// Renames a key of a pair (`{r<number>}a` and `{r<number>}b`) to the other one.
    RenamePair {
        /// The pair.
        pair: u32,
        /// The second to the first.
        back: bool,
    },
    /// Stores one of few values, or removes the key (`e<number>`).
    SwapValue {
        /// The key.
        key: u32,
        /// Only if it has this value.
        from: Option<u8>,
        /// What it gets; none: it is removed.
        to: Option<u8>,
    },
    /// Overwrites a part of a text (the key `s<number>`).
    Range {
        /// The key.
        key: u32,
        /// From here on.
        offset: u32,
    },
    /// Sets a bit of a text.
    Bit {
        /// The key.
        key: u32,
        /// Which.
        offset: u32,
        /// What it becomes.
        bit: bool,
    },
    /// Gives a text a time to live, depending on the one that it has.
    ExpireIf {
        /// The key.
        key: u32,
        /// When it expires, in milliseconds.
        ttl_ms: u64,
        /// What must hold.
        when: LifeTest,
    },
    /// Has a text expire at a time of the clock, depending on the time to live that it has.
    ExpireAtIf {
        /// The key.
        key: u32,
        /// As of [`Act::PutUntil`].
        in_ms: i64,
        /// What must hold.
        when: LifeTest,
    },
    /// Reads a text.
    ReadText(u32),
    /// Adds quarters to a decimal number (the key `d<number>`).
    Quarters {
        /// The key.
        key: u32,
        /// How many.
        by: i32,
    },
}

/// What must hold of the time to live that a key has, for it to be given another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeTest {
    /// It has none.
    None,
    /// It has one.
    Some,
    /// The new one is longer.
    Longer,
    /// The new one is shorter.
    Shorter,
}

/// Something that goes wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, in simulated milliseconds since the beginning.
    pub at_ms: u64,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong. Nodes are positions. A fault whose target is in no state to suffer it does nothing and isn't counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The process dies; its machine lives on. It is started again after `down_ms`.
    Kill {
        /// The node.
        node: u16,
        /// How long it is down.
        down_ms: u64,
    },
    /// The machine loses power. Started again after `down_ms`.
    PowerLoss {
        /// The node.
        node: u16,
        /// How long it is down.
        down_ms: u64,
    },
    /// All machines lose power at once.
    PowerLossEverywhere {
        /// How long they are down.
        down_ms: u64,
    },
    /// The process dies (or its machine does) at the so-manieth operation from now that changes a file.
    CrashAtOperation {
        /// The node.
        node: u16,
        /// That operation fails, perhaps half done.
        operation: u32,
        /// The machine loses power, too.
        power: bool,
        /// How long it is down.
        down_ms: u64,
    },
    /// The process dies (or its machine does) while the next write to the beginning of a journal file is half done.
    CrashAtJournalFile {
        /// The node.
        node: u16,
        /// The machine loses power, too.
        power: bool,
        /// How long it is down.
        down_ms: u64,
    },
    /// The node is stopped in good order and started again.
    Restart {
        /// The node.
        node: u16,
        /// How long it is down.
        down_ms: u64,
    },
    /// The process stands still, as if its machine were suspended. Its clock goes on.
    Pause {
        /// The node.
        node: u16,
        /// For how long: 100 to 30,000.
        ms: u64,
    },
    /// The next turn of a shard's replica is held up in the middle, as if its thread were preempted there. The rest of the process
    /// goes on.
    HoldTurn {
        /// The node.
        node: u16,
        /// The shard.
        shard: u16,
        /// Where.
        before: HeldUp,
        /// For how long: 10 to 3,000.
        ms: u64,
        /// If not 0, the turn goes on once a heartbeat has come in for it after all that time, and nothing else of that leader's node
        /// comes for so long then.
        #[serde(default)]
        deaf_ms: u64,
    },
    /// One shard's actor panics.
    PanicShard {
        /// The node.
        node: u16,
        /// The shard.
        shard: u16,
    },
    /// A node reaches nobody and nobody reaches it, clients included.
    Isolate {
        /// The node.
        node: u16,
        /// For how long.
        ms: u64,
    },
    /// A node's peers don't reach it nor it them; clients do.
    CutFromPeers {
        /// The node.
        node: u16,
        /// For how long.
        ms: u64,
    },
    /// Messages get lost in one direction between two nodes.
    CutOneWay {
        /// The sender.
        from: u16,
        /// The receiver.
        to: u16,
        /// For how long.
        ms: u64,
    },
    /// Messages to and from a node are held back, and delivered when it ends.
    Clog {
        /// The node.
        node: u16,
        /// For how long.
        ms: u64,
    },
    /// Leadership of a shard is handed over.
    Transfer {
        /// The shard.
        shard: u16,
        /// Who is to lead; nothing happens if it holds no replica.
        to: u16,
    },
    /// The node's next sync of a file fails; the system then takes what was dirty for clean.
    SyncFails {
        /// The node.
        node: u16,
        /// Of a file of the journal; otherwise of a segment.
        journal: bool,
    },
    /// The node's next write to the journal fails.
    WriteFails {
        /// The node.
        node: u16,
    },
    /// The node's next so many reads or openings of files fail.
    ReadsFail {
        /// The node.
        node: u16,
        /// How many.
        count: u32,
    },
    /// No file can be made on the node's disk.
    DiskFull {
        /// The node.
        node: u16,
        /// For how long.
        ms: u64,
    },
    /// The node's disk has room for so many more bytes, and fills up.
    DiskFills {
        /// The node.
        node: u16,
        /// What is left.
        room_bytes: u32,
        /// For how long.
        ms: u64,
    },
    /// A sync that begins takes this long.
    DiskStalls {
        /// The node.
        node: u16,
        /// How long: 100 to 60,000.
        ms: u64,
    },
    /// Damages the medium of the plan's one unlucky node: a bit of a stored file turns.
    FlipBit {
        /// The node.
        node: u16,
        /// In a file of the journal; otherwise in a segment.
        journal: bool,
    },
    /// Damages the medium of the plan's one unlucky node: its next write to the journal lands elsewhere.
    MisdirectWrite {
        /// The node.
        node: u16,
        /// If not 0, the machine loses power for so long, as soon as the node has promised something that rests on that write.
        #[serde(default)]
        down_ms: u64,
    },
    /// The unlucky node dies and comes back with an empty disk.
    Wipe {
        /// The node.
        node: u16,
        /// How long it is down.
        down_ms: u64,
    },
    /// A machine is lost with all it holds, and never comes back; not while a group would have no majority without it.
    GoneForGood {
        /// The node.
        node: u16,
    },
    /// A machine joins the cluster, if it is none of its nodes yet and never was.
    Join {
        /// The machine.
        node: u16,
    },
    /// A node is to give all it holds to others, and to leave for good.
    Remove {
        /// The node.
        node: u16,
    },
    /// A node is to give all it holds to another one, and to leave for good.
    Replace {
        /// The node that leaves.
        old: u16,
        /// The machine that takes its place, if it is a node by then.
        new: u16,
    },
    /// A node is announced to be away for a while.
    Drain {
        /// The node.
        node: u16,
        /// For how long.
        ms: u64,
    },
    /// A node that is being removed is to stay.
    Keep {
        /// The node.
        node: u16,
    },
    /// A node sends its peers a ring map that nobody has decided, with an epoch far ahead.
    MadeUpMap {
        /// The node.
        node: u16,
    },
    /// The hints of a node's shards are lost. Nothing rests on them: the next start takes longer.
    LoseHints {
        /// The node.
        node: u16,
    },
    /// Damages the medium of the plan's one unlucky node: the names of the manifests are lost, of those shards whose log does
    /// not begin at its first entry any more.
    LoseManifests {
        /// The node.
        node: u16,
    },
    /// A node's wall clock jumps by this many milliseconds, up to ten years.
    WallJump {
        /// The node.
        node: u16,
        /// By how much.
        ms: i64,
    },
    /// A node's clock runs at another rate from now on.
    ClockRate {
        /// The node.
        node: u16,
        /// In parts per million off true time, −50,000 to 50,000.
        ppm: i32,
    },
    /// Every connection of clients breaks.
    DropClients,
}

/// Where a turn is held up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldUp {
    /// It has begun, and has not looked at its inbox.
    Drain,
    /// It has taken what had come in, and has not read the clock.
    Clock,
    /// It has read the clock, and has not judged what it took.
    Work,
    /// It has decided everything, and nothing has left.
    Effects,
}
