//! Bugs that are planted on purpose, so that the simulator can prove that it finds such bugs.
//!
//! They are compiled in with the feature `seeded-bugs` only. Without it [`planted`] is a constant `false`, and each
//! place that asks is compiled as if it didn't. With it a bug is still absent until `plant` has put it into the
//! current thread: a simulation runs on one thread, and several may run side by side with different bugs.
//!
//! Where it costs nothing, a place asks last, after the conditions under which the bug makes a difference. So for many
//! of them the count of times that a place was reached tells a run in which the bug could show from one in which it
//! could not.

use std::fmt;

/// Declares the bugs: variant, stable name, and the documentation as text.
macro_rules! bugs {
    ($($(#[doc = $line:literal])+ $variant:ident = $name:literal,)+) => {
        /// A bug that can be planted. Each breaks a promise to clients or to other replicas, and only now and then.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum Bug {
            $($(#[doc = $line])+ $variant,)+
        }

        impl Bug {
            /// Every bug, in the order of the parts that they are in.
            pub const ALL: &[Bug] = &[$(Bug::$variant,)+];

            /// Its name on command lines and in reports. Never changes.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Bug::$variant => $name,)+
                }
            }

            /// What is broken, and which rule that breaks.
            pub fn description(self) -> &'static str {
                match self {
                    $(Bug::$variant => concat!($($line,)+),)+
                }
                .trim_start()
            }
        }
    };
}

bugs! {
    // The journal.
    /// The journal's frames are written and not synced. Breaks: what was acknowledged survives power loss.
    JournalNotSynced = "journal-not-synced",
    /// A sync of the journal that failed is tried again, and the second try's success is believed, although the system
    /// took the bytes for clean. Breaks: no retry of a failed sync.
    FailedJournalSyncRetried = "failed-journal-sync-retried",
    /// A sync of a segment that failed is tried again, and the second try's success is believed; the journal file that
    /// covered the segment is used again. Breaks: no retry of a failed sync.
    FailedSegmentSyncRetried = "failed-segment-sync-retried",
    /// A failed write to the journal is overlooked, and the round is reported as durable. Breaks: what was acknowledged
    /// survives power loss, and rounds have no gaps.
    FailedJournalWriteOverlooked = "failed-journal-write-overlooked",
    /// A full journal file is used again although none of the segments that it covers was synced. Breaks: a journal
    /// file is only overwritten once replay can do without it.
    CoveredSegmentsNotSynced = "covered-segments-not-synced",
    /// Of the segments that a journal file covers, only the newest of each shard is synced before the file is used
    /// again; the one that was sealed in between is forgotten. Breaks: as above.
    SealedSegmentNotCovered = "sealed-segment-not-covered",
    /// A journal file is free as soon as its segments are synced, before a durable round says that it isn't needed. A
    /// torn write over it leaves a newest round that still asks for what was destroyed. Breaks: replay finds every
    /// round that it needs.
    SyncedFileOverwrittenEarly = "synced-file-overwritten-early",
    /// A large append is neither written to the journal nor is its segment synced. Breaks: what was acknowledged
    /// survives power loss.
    LargeAppendNotSynced = "large-append-not-synced",
    /// Replay doesn't verify the checksum of a frame's body, and writes the rest of a torn frame into segments. Breaks:
    /// a torn round is as if it had never been; power loss makes no replica faulty.
    FrameChecksumIgnored = "frame-checksum-ignored",
    /// Replay takes the newest of several rounds for torn, always. Breaks: recovery shows everything that was promised.
    NewestRoundNotReplayed = "newest-round-not-replayed",

    /// Replay takes no round that the medium has put elsewhere than it was written to. Breaks: recovery shows everything that was
    /// promised.
    AstrayRoundOverlooked = "astray-round-overlooked",

    // The shard log.
    /// The checksums of payloads and stored values are not verified. Breaks: damaged or torn bytes are never taken for
    /// what was written.
    RecordChecksumsIgnored = "record-checksums-ignored",
    /// A damaged record in the durable part of a log is cut off with all that follows, as if it were a torn tail.
    /// Breaks: recovery shows everything that was promised, or the replica is faulty.
    DurableDamageCut = "durable-damage-cut",
    /// Recovery removes what no manifest lists before it has looked whether the log is sound without it. Breaks: a start
    /// that finds damage changes nothing of use.
    RecoveryRemovesFirst = "recovery-removes-first",
    /// A log is opened as if nothing were known of its durable position: gaps that an ordinary power loss leaves in its
    /// unpromised tail count as damage, and damage to its last record as a torn tail. Breaks: power loss makes no
    /// replica faulty, and damage does.
    DurablePositionIgnored = "durable-position-ignored",

    // What nodes pass on.
    /// An answer to a forwarded request that finds its lane full is dropped. Breaks: no answer is dropped without another
    /// in its place.
    FullLaneDropsAnswer = "full-lane-drops-answer",

    // Consensus.
    /// Term and vote are not written down. Breaks: at most one vote per term, terms never fall.
    HardStateNotWritten = "hard-state-not-written",
    /// Votes, and the requests of a candidate who has voted for itself, leave before term and vote are synced. Breaks:
    /// votes leave only after they are durable.
    VotesBeforeSync = "votes-before-sync",
    /// A leader tells its followers of a commit before it has applied it itself. Breaks: followers apply nothing that
    /// their leader has not applied.
    CommitToldBeforeApplied = "commit-told-before-applied",
    /// A follower acknowledges entries before it has synced them. Breaks: acknowledged means synced by a quorum.
    AppendAnswersBeforeSync = "append-answers-before-sync",
    /// The completion of one sync is taken for that of everything that was submitted by then. Breaks: acknowledged
    /// means synced by a quorum.
    CompletionCoversLaterAppends = "completion-covers-later-appends",
    /// A leader commits its entries once it has synced them itself. Breaks: an entry is committed once a quorum holds
    /// it.
    CommitWithoutQuorum = "commit-without-quorum",
    /// A leader commits an entry of an older term because a quorum holds it. Breaks: what is committed is in the log of
    /// every later leader (section 5.4.2 of the Raft paper).
    OldTermCommittedByCount = "old-term-committed-by-count",
    /// A follower takes every entry that it has received for committed, and applies it. Breaks: replicas apply the same
    /// entries.
    FollowerCommitsReceived = "follower-commits-received",
    /// The commit position that is written into the log, to be applied at once by the next start, is the log's end.
    /// Breaks: replicas apply the same entries.
    CommitPositionAhead = "commit-position-ahead",
    /// Voters are exchanged at once instead of through a joint state. Breaks: old and new voters never decide apart.
    SingleStepMembership = "single-step-membership",
    /// A snapshot is said to hold one entry more than it does. Breaks: a replica's state is what its entries amount to.
    SnapshotIndexOffByOne = "snapshot-index-off-by-one",
    /// A new leader serves before it has applied an entry of its own term, and so perhaps without the last acknowledged
    /// writes. Breaks: reads see, and conditions are decided on, every acknowledged write.
    ServesBeforeOwnTerm = "serves-before-own-term",
    /// A restarted replica votes at once, although it may have acknowledged a lease before. Breaks: nobody else leads
    /// during a lease.
    NoSilenceAfterRestart = "no-silence-after-restart",
    /// Followers grant votes although they have just heard from a leader. Breaks: nobody else leads during a lease.
    VotesDuringLease = "votes-during-lease",
    /// The lease counts from when an acknowledgement arrived instead of when the acknowledged message was sent. Breaks:
    /// the lease ends before another leader can be elected.
    LeaseFromReceiveTime = "lease-from-receive-time",
    /// The lease lasts as long as the longest election timeout instead of less than the shortest. Breaks: the lease
    /// ends before another leader can be elected.
    LeaseOfLongestTimeout = "lease-of-longest-timeout",
    /// The lease survives a hand-over: the gate is neither closed when one begins nor when leadership is lost by it.
    /// Breaks: nobody else leads during a lease.
    LeaseKeptOverTransfer = "lease-kept-over-transfer",
    /// A hand-over that nobody takes up is never given up, and its leader takes no writes until it is deposed. Breaks: what
    /// waits for another replica ends in bounded time.
    HandOverNeverAborts = "hand-over-never-aborts",

    // The shard.
    /// A turn's clock is read before the inbox is drained, so that a message which comes in between is judged by a time before it:
    /// a follower's refusal to vote ends too soon. Breaks: nobody else leads during a lease.
    ClockReadBeforeDrain = "clock-read-before-drain",
    /// A read is confirmed by the lease instead of a quorum, as of a time before the inbox was drained. Breaks: reads are
    /// linearizable.
    ConfirmedByPastLease = "confirmed-by-past-lease",
    /// Reads pass the gate after the lease has run out, for as long as the replica believes that it leads. Breaks:
    /// reads are linearizable.
    NoLeaseCheck = "no-lease-check",
    /// A read without a lease is confirmed without asking a quorum. Breaks: reads are linearizable.
    ReadConfirmedAlone = "read-confirmed-alone",
    /// A GET that keeps its place behind a write is answered before that write is committed. Breaks: reads are
    /// linearizable.
    OrderedReadBeforeCommit = "ordered-read-before-commit",
    /// A write is told that its condition failed before the write that failed it is committed. Breaks: answers rest on
    /// committed entries.
    RefusalBeforeCommit = "refusal-before-commit",
    /// Writes in an entry that another leader's entry superseded are told that they were applied. Breaks: acknowledged
    /// means committed.
    SupersededToldApplied = "superseded-told-applied",
    /// Whoever waits for an entry is told that it was not applied as soon as leadership is lost, although the next
    /// leader may commit it. Breaks: "not applied" is certain.
    InFlightToldNotApplied = "in-flight-told-not-applied",
    /// A write whose deadline passes while it is being committed is told that it was not applied. Breaks: "not applied"
    /// is certain.
    LateWriteToldNotApplied = "late-write-told-not-applied",
    /// What a leader had proposed and lost is still believed when it leads again. Breaks: conditions, increments and
    /// retries are decided on the log that precedes them.
    OverlayOutlivesLeadership = "overlay-outlives-leadership",
    /// A new leader begins with an empty session table, as if it had not been filled by the entries of others. Breaks:
    /// a retry takes effect at most once.
    SessionsLostWithLeader = "sessions-lost-with-leader",
    /// Reads compare a key's expiry with the replica's wall clock. Breaks: a key expires by log time only, once and for
    /// all.
    ExpiryByWallClock = "expiry-by-wall-clock",

    /// A leader says that its group is settled because of the membership that it knows, and proves nothing. Breaks: a replica's
    /// files stay until its group goes on without it.
    SettledWithoutProof = "settled-without-proof",
    /// A leader says that its group is settled while the group waits for a replica that joins. Breaks: as above.
    SettledBeforeThere = "settled-before-there",
    /// The entries behind a snapshot that is on its way are dropped as any others. Breaks: a replica that joins catches up however
    /// much is written.
    LogNotPinned = "log-not-pinned",
    /// A shard is given back to the replica that should lead it although that lacks much. Breaks: a hand-over costs no more than a
    /// moment.
    LaggardPreferred = "laggard-preferred",
    /// A replica that joins votes before it has caught up, and the one that it replaces is demoted. Breaks: a group has no fewer
    /// replicas to spare while one moves.
    HeirNotWhole = "heir-not-whole",
    /// A replica that is to leave is demoted before the one that replaces it votes. Breaks: as above.
    HeirNotAwaited = "heir-not-awaited",

    // The evaluation of requests.
    /// Log time is the leader's wall clock if that is behind the last entry's. Breaks: log time never goes back.
    LogTimeFalls = "log-time-falls",
    /// Log time jumps to the leader's wall clock whenever that is ahead. Breaks: a key with a time to live is there until it has
    /// passed.
    LogTimeFollowsWall = "log-time-follows-wall",
    /// Log time stands still while the leader's wall clock is behind it. Breaks: a key with a time to live is gone once it has
    /// passed.
    LogTimeAwaitsWall = "log-time-awaits-wall",
    /// A retried write that was applied before is applied again. Breaks: a retry takes effect at most once.
    NoDeduplication = "no-deduplication",
    /// A retry that is proposed in one entry with its first copy is applied with it. Breaks: a retry takes effect at
    /// most once.
    InFlightNotDeduplicated = "in-flight-not-deduplicated",
    /// Requests don't see the writes before them that are not applied yet, those of their own batch above all. Breaks:
    /// conditions and increments are decided on everything before them.
    OverlayNotConsulted = "overlay-not-consulted",
    /// A retry is told that its write can't be done, such as an INCR of what is no number, and that is not remembered: a first
    /// copy that comes later finds a number. Breaks: the answer to a retry is final.
    VerdictOnRetryForgotten = "verdict-on-retry-forgotten",
    /// An ATOMIC whose condition fails leaves its first write behind. Breaks: all or nothing.
    AtomicHalfApplied = "atomic-half-applied",
    /// What a TRANSACTION checks is looked up in what is applied, without the writes that are on their way. Breaks: nothing is done
    /// unless its checks hold.
    TransactionChecksApplied = "transaction-checks-applied",
    /// A TRANSACTION that wants a version of a key goes through when the key was removed. Breaks: as above.
    TransactionMissesRemoval = "transaction-misses-removal",
    /// A read in a TRANSACTION does not see what was written before it in the same one. Breaks: its operations are done in turn.
    TransactionReadsBefore = "transaction-reads-before",
    /// A TRANSACTION ends with its first operation that fails, as if those behind it had failed as well, and what they were told is
    /// that they were done. Breaks: as above.
    TransactionStopsAtError = "transaction-stops-at-error",
    /// A TRANSACTION that was done is not remembered. Breaks: a retry takes effect at most once.
    TransactionForgotten = "transaction-forgotten",
    /// A TRANSACTION is answered when it is proposed. Breaks: acknowledged means committed, and reads see committed writes only.
    TransactionBeforeCommit = "transaction-before-commit",
    /// A write that wants a value goes through if the one that is there is as long. Breaks: nothing is written unless its condition
    /// holds.
    EqualByLength = "equal-by-length",
    /// A key that was renamed lives for ever. Breaks: a key with a time to live is gone once it has passed.
    RenameForgetsTtl = "rename-forgets-ttl",
    /// A write that asks for a version, or for no key, goes through whatever version the key has. Breaks: nothing is written unless
    /// its condition holds.
    AbsentOrVersionUnchecked = "absent-or-version-unchecked",
    /// A PUT that keeps the time to live takes it off. Breaks: a key with a time to live is gone once it has passed.
    KeepTtlForgets = "keep-ttl-forgets",
    /// A PUT that keeps the time to live sees the one that is applied, not that of a write before it on its way. Breaks: writes are
    /// decided on everything before them.
    KeepTtlSeesOld = "keep-ttl-sees-old",
    /// A time at which a value is to expire is taken for how long it is to live. Breaks: as above.
    UntilTakenForDuration = "until-taken-for-duration",
    /// A key that is to expire at a time that is over lives for ever. Breaks: as above.
    PastExpiryIgnored = "past-expiry-ignored",
    /// A time at which a key is to expire is set whatever time to live it has. Breaks: nothing is written unless its condition holds.
    ExpireAtUnconditional = "expire-at-unconditional",
    /// One-shot names are missing from checkpoints and snapshots. Breaks: a write under a name that was used has no second effect.
    OnceIdNotRemembered = "once-id-not-remembered",
    /// A write under the name of one that is on its way is done as well. Breaks: as above.
    OnceIdIgnoresOverlay = "once-id-ignores-overlay",
    /// What is asked for under a name that was used is not compared. Breaks: an answer is one to what was asked.
    OnceIdOtherBody = "once-id-other-body",
    /// Who asks whether a key existed is told what is applied, without the writes that are on their way. Breaks: answers are those
    /// of one order of all operations.
    ExistedToldWrong = "existed-told-wrong",

    /// A client that awaits an accepted write is told that it was applied as soon as the leader's log holds it. Breaks: acknowledged
    /// means committed.
    AwaitBeforeApplied = "await-before-applied",
    /// A client that awaits an accepted write is told that it was applied although an entry of another leader stands in its place.
    /// Breaks: acknowledged means committed.
    AwaitIgnoresTerm = "await-ignores-term",

    // The store.
    /// Of each client only the newest answer is remembered, and older ones count as never given: enough for a client
    /// that sends one write at a time. Breaks: a retry takes effect at most once.
    OnlyNewestAnswerRemembered = "only-newest-answer-remembered",
    /// A copy of a write that arrives after its client has had the answer is taken for a new write. Breaks: a retry
    /// takes effect at most once.
    ForgottenWriteAppliedAgain = "forgotten-write-applied-again",
    /// A shard that has dropped a session takes what it knows nothing of for new, even if its number is one that the session
    /// may have seen. Breaks: a write takes effect at most once, however late its copies are.
    DroppedSessionWritesAgain = "dropped-session-writes-again",
    /// The version is that of the last entry's first record, which shows when another leader counts on from it. Breaks:
    /// a version is never used twice.
    VersionsReused = "versions-reused",
    /// When an overwritten record's time comes, its key is removed, whatever was written since. Breaks: a write stays
    /// until it is overwritten, removed or expires.
    OverwrittenRecordExpires = "overwritten-record-expires",
    /// A checkpoint, and so a snapshot, has zeros for what the index's order is keyed with. Breaks: a key is found where its
    /// record was put, and replicas agree on the order of a scan.
    IndexSecretLost = "index-secret-lost",
    /// When a record that expires is overwritten, when it did so stays in memory until then. Breaks: memory follows the keys that
    /// are there.
    ExpiryOfOverwrittenKept = "expiry-of-overwritten-kept",
    /// A page of a scan that ends within keys which share a place leaves the rest of them out. Breaks: a scan finds every key.
    RestOfTieSkipped = "rest-of-tie-skipped",
    /// What is remembered of clients' writes is left out of checkpoints, and so of snapshots. Breaks: a retry takes
    /// effect at most once.
    SessionsMissingFromCheckpoint = "sessions-missing-from-checkpoint",
    /// The index is read from a hint that belongs to another manifest. Breaks: what a start shows is the state at its base.
    HintOfAnotherManifestUsed = "hint-of-another-manifest-used",
    /// A leader brings back what an old ring map wants of its shard. Breaks: a replica is erased only when its group has no such member.
    OldMapFollowed = "old-map-followed",
    /// Two entries of a leader are sealed under the same nonces. Breaks: no two texts of a shard are sealed under one nonce.
    NonceUsedTwice = "nonce-used-twice",
    /// A record is bound to another shard than it is written in. Breaks: what is sealed opens in its place.
    SealedForAnotherShard = "sealed-for-another-shard",
    /// A segment that holds superseded entries leaves the log as it is, and a rebuilt index counts their records. Breaks:
    /// only committed entries have effects.
    StaleSegmentRetired = "stale-segment-retired",
    /// Compaction removes the segments that it has emptied before the manifest that names the copies is written. Breaks: a
    /// crash at any moment leaves a state that can be opened.
    CompactionDropsLive = "compaction-drops-live",
    /// Where one slice of a compaction that is taken over ends, the next one begins a record too late. Breaks: a segment goes
    /// only when nothing is left in it.
    SliceBoundarySkipped = "slice-boundary-skipped",
    /// A record that was overwritten while a compaction was taken over is what its key has again, as soon as the slice with its
    /// copy comes. Breaks: a write stays until it is overwritten, removed or expires.
    OverwrittenRecordMovedBack = "overwritten-record-moved-back",
    /// What a capture of the state stands for is the last entry that was applied when it ended, while its index is that of when it
    /// began. Breaks: index and base are of one position.
    CaptureMixesPositions = "capture-mixes-positions",
    /// A session that is used before a capture has come to it is written without its answers. Breaks: what is remembered of clients'
    /// writes is of the base's position, too.
    AnswersNotPutAside = "answers-not-put-aside",
    /// The segments that a compaction has emptied can't be read from its first slice on. Breaks: a record can be read at every moment.
    VictimsLeaveViewEarly = "victims-leave-view-early",
    /// A snapshot that is whole takes the place of the log, although that has got to the snapshot's last entry meanwhile, and
    /// further. Breaks: what a replica says to hold it holds.
    SnapshotReplacesLog = "snapshot-replaces-log",
    /// A snapshot leaves out who replicates the shard. Breaks: membership is part of the state.
    SnapshotWithoutMembership = "snapshot-without-membership",
    /// An append that finds no room on the disk is taken for done. Breaks: what a replica says to hold it holds.
    DiskFullLosesAppend = "disk-full-loses-append",
    /// Compaction drops every tombstone, and every expired record, although an older record of the key is kept elsewhere
    /// and comes back when the index is rebuilt. Breaks: what was removed stays so.
    TombstoneDroppedEarly = "tombstone-dropped-early",

    /// A segment that the log has left for another one, so that what has an old key can move, is emptied before its seal is durable. Breaks:
    /// what is listed as durable is.
    RolledSegmentNotSynced = "rolled-segment-not-synced",

    /// The files that a compaction has replaced stay on the disk until the next start. Breaks: what is stored is bounded by
    /// what lives.
    ReplacedFilesKept = "replaced-files-kept",
    /// Damage that the scrubber finds in cold data is not told to anybody. Breaks: damage is found and repaired while the
    /// other replicas are well.
    ScrubbedDamageOverlooked = "scrubbed-damage-overlooked",

    // The node.
    /// A shard's queue takes requests past its bound. Breaks: every queue has its bound.
    QueueUnbounded = "queue-unbounded",
    /// Whoever comes first may fill a shard's queue, and the next client is turned away. Breaks: no client keeps the others out.
    QueueSharesIgnored = "queue-shares-ignored",
    /// Of the clients that wait for an entry the one goes next that was given most. Breaks: clients take turns.
    LaneStarves = "lane-starves",
    /// While clients share a shard, one of them still gets as much of an entry as it asks for. Breaks: who asks
    /// for little waits for short entries.
    EntryPartIgnored = "entry-part-ignored",
    /// A GET does not wait for a write that was sent before it on its connection, was answered when it was accepted, and is not
    /// applied yet. Breaks: requests for one key take effect in the order in which one connection sends them.
    AcceptedWriteOvertaken = "accepted-write-overtaken",
    /// A request for a key is sent on although one before it is held until a leader is known, or is on its way to the leader of an
    /// earlier term; and a leader takes what is for another term's. Breaks: as above.
    HeldOutOfOrder = "held-out-of-order",
    /// A leader whose node is unfit does not hand over, so that its shard refuses writes as long as its disk is full. Breaks:
    /// leadership leaves a full disk.
    LeadsOnFullDisk = "leads-on-full-disk",
    /// A forwarded write whose answer will not come is reported as not applied. Breaks: "not applied" is certain.
    LostForwardToldNotApplied = "lost-forward-told-not-applied",
    /// A replica that takes the place of a lost one gets its id. Breaks: a replica that has forgotten its votes and entries is
    /// not counted.
    ReplicaIdReused = "replica-id-reused",
    /// Voters leave their group straight out of the joint state. Breaks: until the new voters know that the joint state is over,
    /// the old ones are there to elect a leader.
    VoterRemovedUndemoted = "voter-removed-undemoted",
    /// A node erases a replica as soon as the ring map wants another one in its place. Breaks: a replica's files stay until its
    /// group goes on without it.
    LeavingErasedUnsettled = "leaving-erased-unsettled",
    /// Messages of replicas that should leave are refused. Breaks: a group keeps its quorum until it goes on without them.
    LeavingNotHeard = "leaving-not-heard",
    /// That a group is settled counts for whatever change the map made last. Breaks: a replica's files stay until its group goes
    /// on without it.
    SettledOfEarlierMove = "settled-of-earlier-move",
    /// A node is drained although a group has no majority without it and those that are drained already. Breaks: an announced absence
    /// stops nothing.
    DrainCostsQuorum = "drain-costs-quorum",
    /// What a dead node held is made anew only while all other replicas of its group are there and well. Breaks: a group that has a
    /// majority becomes whole again.
    RepairWaitsForAll = "repair-waits-for-all",
    /// A group that moves counts as one that has its target's replicas already. Breaks: an announced absence stops nothing.
    MovingCountedAsMoved = "moving-counted-as-moved",
    /// A node that comes with an empty data folder is let in under its old name: its peers take it for the one they know, and
    /// it opens the replicas that it has forgotten itself. (Either of the two alone is made harmless by the other.) Breaks: a
    /// replica that has forgotten its votes and entries is not counted.
    WipedDiskAdmitted = "wiped-disk-admitted",
    /// The ring map's group changes its map only while its leader holds a lease, and a leader that has tried to hand over has
    /// none for the rest of its term, if nobody takes over. Breaks: a node that was wiped is made whole.
    MapNeedsLease = "map-needs-lease",
    /// A ring map is taken for what the group has decided because one peer has sent it. Breaks: a map is in force only if the
    /// group has decided it.
    MapOfOnePeerTaken = "map-of-one-peer-taken",
}

impl Bug {
    /// The bug of a name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "seeded-bugs")]
pub use enabled::{Planted, plant, planted, times_reached};

/// Whether the bug is planted: never, without the feature `seeded-bugs`.
#[cfg(not(feature = "seeded-bugs"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "seeded-bugs")]
mod enabled {
    use super::Bug;
    use std::cell::Cell;
    use std::marker::PhantomData;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static REACHED: Cell<u64> = const { Cell::new(0) };
    }

    /// Until it is dropped, its bug is in the code that runs on its thread.
    #[derive(Debug)]
    #[must_use = "the bug is taken out when this is dropped"]
    pub struct Planted {
        before: Option<Bug>,
        /// It must be dropped on the thread on which it was made.
        not_send: PhantomData<*const ()>,
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(self.before);
        }
    }

    /// Plants a bug on this thread, in place of one that is planted already; with `None`, makes sure that none is.
    pub fn plant(bug: Option<Bug>) -> Planted {
        REACHED.set(0);
        Planted { before: PLANTED.replace(bug), not_send: PhantomData }
    }

    /// How often code on this thread was about to go right and went wrong, since a bug was last planted. Some bugs are
    /// reached without a difference that anyone could see.
    pub fn times_reached() -> u64 {
        REACHED.get()
    }

    /// Whether the bug is planted on this thread.
    pub fn planted(bug: Bug) -> bool {
        let planted = PLANTED.get() == Some(bug);
        if planted {
            REACHED.set(REACHED.get() + 1);
        }
        planted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for &bug in Bug::ALL {
            assert_eq!(Bug::from_name(bug.name()), Some(bug));
            assert!(bug.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{bug}");
            assert!(bug.description().contains("Breaks: "), "{bug} says which rule it breaks");
            assert!(!planted(bug), "{bug} is absent unless it is planted");
        }
        assert_eq!(Bug::from_name("none"), None);
    }

    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn a_planted_bug_is_on_its_thread_only_and_as_long_as_its_guard() {
        let guard = plant(Some(Bug::NoDeduplication));
        assert!(planted(Bug::NoDeduplication) && !planted(Bug::JournalNotSynced));
        assert!(std::thread::spawn(|| !planted(Bug::NoDeduplication)).join().unwrap());
        let none = plant(None);
        assert!(!planted(Bug::NoDeduplication));
        drop(none);
        assert!(planted(Bug::NoDeduplication));
        assert_eq!(times_reached(), 1, "counted since the last call of `plant`");
        drop(guard);
        assert!(!planted(Bug::NoDeduplication));
    }
}
