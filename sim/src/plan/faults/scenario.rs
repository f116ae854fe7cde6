//! The scenarios that bursts of faults are made of, and how often each is drawn.

use super::super::Options;

/// Faults that belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scenario {
    /// One process dies.
    Kill,
    /// One dies, and another one as soon as it is back.
    KillInTurn,
    /// One machine loses power.
    PowerLoss,
    /// All of them do.
    PowerLossEverywhere,
    /// A process dies in the middle of writing.
    CrashPoint,
    /// Several do, one of them while it recovers from the first.
    CrashWhileRecovering,
    /// Stopped in good order.
    Restart,
    /// A process stands still.
    Pause,
    /// A leader stands still, another one is elected, and the first one goes on.
    PausedLeader,
    /// A shard's turn is held up in the middle.
    HeldTurn,
    /// So is one of a leader that is cut off, for longer than its lease lasts.
    HeldLeader,
    /// So is one of the follower that a leader's lease rests on, and then they lose each other.
    HeldFollower,
    /// Leadership is handed over.
    Transfers,
    /// It is handed over and the old or new leader stands still, or is cut off.
    TransferAndPause,
    /// A shard's actor panics.
    Panic,
    /// Actors of a shard panic on several nodes.
    PanicsEverywhere,
    /// Actors of one node panic again and again, until their supervisor gives up.
    PanicsWithoutEnd,
    /// Nobody reaches a node.
    Isolate,
    /// Clients still reach a leader whose followers don't hear from it.
    LeaderCutOff,
    /// Messages pass in one direction only.
    OneWay,
    /// Messages to and from a leader are held back.
    CloggedLeader,
    /// A sync fails; what it was to sync is lost at the power loss that follows.
    FailedSync,
    /// A write fails.
    FailedWrite,
    /// Files can't be read when a node starts.
    FailedReads,
    /// A node misses so much that entries can't help it any more, and something happens while it is given a snapshot.
    Lagging,
    /// A node misses much, and leadership moves while it is given a snapshot.
    Overtaken,
    /// A node starts again and has to read all records.
    LostHints,
    /// No room.
    Full,
    /// A sync takes long.
    Stall,
    /// The clock of a leader slows down, and another one's goes fast.
    SlowLeader,
    /// Wall clocks jump, and leadership moves between them.
    WallJumps,
    /// Every connection breaks, with answers on it.
    DropClients,
    /// The unlucky node's files are damaged, and it reads them again.
    Damage,
    /// The unlucky node comes back with an empty disk.
    Wipe,
    /// A node makes a ring map up.
    MadeUpMap,
    /// A node is gone for so long that it is given up, and comes back at any step of what follows.
    Gone,
    /// Machines join, nodes are removed, and something happens while replicas move.
    Resize,
}

impl Scenario {
    /// Each of them, once.
    pub(super) const ALL: [Self; 37] = [
        Self::Gone,
        Self::Resize,
        Self::LostHints,
        Self::Lagging,
        Self::Overtaken,
        Self::Kill,
        Self::KillInTurn,
        Self::PowerLoss,
        Self::PowerLossEverywhere,
        Self::CrashPoint,
        Self::CrashWhileRecovering,
        Self::Restart,
        Self::Pause,
        Self::PausedLeader,
        Self::HeldTurn,
        Self::HeldLeader,
        Self::HeldFollower,
        Self::Transfers,
        Self::TransferAndPause,
        Self::Panic,
        Self::PanicsEverywhere,
        Self::PanicsWithoutEnd,
        Self::Isolate,
        Self::LeaderCutOff,
        Self::OneWay,
        Self::CloggedLeader,
        Self::FailedSync,
        Self::FailedWrite,
        Self::FailedReads,
        Self::Full,
        Self::Stall,
        Self::SlowLeader,
        Self::WallJumps,
        Self::DropClients,
        Self::Damage,
        Self::Wipe,
        Self::MadeUpMap,
    ];

    /// Whether a cluster with these options survives it. What is only in page caches doesn't survive that machines lose
    /// power, nor that a failed sync drops it.
    pub(super) fn is_survived(self, options: &Options) -> bool {
        options.fsync || !matches!(self, Self::PowerLoss | Self::PowerLossEverywhere | Self::FailedSync)
    }

    /// How often it is drawn in comparison with others that are switched on.
    pub(super) fn weight(self) -> u32 {
        match self {
            Self::PowerLossEverywhere | Self::PausedLeader | Self::TransferAndPause => 3,
            Self::CrashPoint | Self::CrashWhileRecovering | Self::FailedSync | Self::KillInTurn => 3,
            Self::Resize => 3,
            Self::Wipe | Self::PanicsWithoutEnd | Self::MadeUpMap => 1,
            // Many small things are of use to a start that reads all records only.
            Self::LostHints => 4,
            _ => 2,
        }
    }
}
