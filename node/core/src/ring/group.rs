//! Who holds one shard, as the ring map says it.

use kvorum_protocol::limits::REPLICAS_MAX;
use serde::{Deserialize, Serialize};

/// A node's place in the ring map. It is given once and never to another node, so that what names it needs no change when
/// nodes come and go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeSlot(pub u32);

/// One replica of a shard. An id stands for one life of a log: whoever forgot a part of it comes back under another id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// Its id in the shard's group. Never used for another replica of that shard.
    pub replica: u64,
    /// The node that holds it.
    pub node: NodeSlot,
}

/// A replica that is gone, under whatever id.
const GONE: Holder = Holder { replica: 0, node: NodeSlot(u32::MAX) };

/// More replicas than this are never on their way at a time, but where one node after the other is lost to which they move.
const OPEN_MAX: usize = 6;

/// All subsets of the first replicas of a list.
fn subsets(all: &[Holder]) -> impl Iterator<Item = Vec<Holder>> + use<> {
    let all: Vec<Holder> = all.iter().copied().take(OPEN_MAX).collect();
    (0..1_u32 << all.len())
        .map(move |bits| all.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, held)| *held).collect())
}

/// The replicas of one shard, `meta` included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardGroup {
    /// How many replicas the group was born with. They have the ids from 1 on.
    pub founders: u8,
    /// The epoch that changed who should be in the group last.
    pub since: u64,
    /// The value of `since` up to which the group's leader has said that the group is as it should be.
    pub settled: u64,
    /// The replica from which the group went on alone, if it lost its quorum and an operator has recovered it. It lies in its
    /// node's folder since then: if it does not, it is never begun with nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survivor: Option<u64>,
    /// The replicas that should vote; the first should lead.
    pub replicas: Vec<Holder>,
    /// Replicas that came while the group was on its way already, but for the last one: like that one, they may not vote yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled: Vec<u64>,
    /// Those that took the place of one that is gone, while the group was on its way already: until they vote, that one does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renewed: Vec<u64>,
    /// Replicas that should go. Their files stay until the group's leader has said that the group goes on without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<Holder>,
}

impl ShardGroup {
    /// A new group, with a replica on each of these nodes.
    pub(super) fn new(nodes: impl Iterator<Item = NodeSlot>, since: u64) -> Self {
        let replicas: Vec<_> = (1..).zip(nodes).map(|(replica, node)| Holder { replica, node }).collect();
        Self {
            founders: replicas.len() as u8,
            since,
            settled: since,
            survivor: None,
            replicas,
            unsettled: Vec::new(),
            renewed: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// All replicas that have files: those that should vote, and those that should go.
    pub fn held(&self) -> impl Iterator<Item = &Holder> {
        self.replicas.iter().chain(&self.leaving)
    }

    /// The replicas that have come since the group was settled last: they may not vote yet.
    pub fn newcomers(&self) -> impl Iterator<Item = Holder> {
        let newest = self.newcomer();
        let is_open = move |held: &&Holder| Some(**held) == newest || self.unsettled.contains(&held.replica);
        self.replicas.iter().filter(is_open).copied()
    }

    /// The sets of voters that the group may have. There is one, unless it moves: then each newcomer may vote already, or the one in
    /// whose place it comes may vote still. A joint state needs a majority of two of these sets.
    pub(super) fn possible_voters(&self) -> Vec<Vec<Holder>> {
        let newcomers: Vec<Holder> = self.newcomers().collect();
        let stay = || self.replicas.iter().filter(|held| !newcomers.contains(held)).copied();
        let mut sets = Vec::new();
        for votes in subsets(&newcomers) {
            let (gone, moved): (Vec<&Holder>, Vec<&Holder>) = newcomers
                .iter()
                .filter(|held| !votes.contains(held))
                .partition(|held| self.renewed.contains(&held.replica));
            let so_far = || stay().chain(votes.iter().copied()).chain(gone.iter().map(|_| GONE));
            // A newcomer in whose place nobody leaves makes the group larger.
            let before = moved.len().min(self.leaving.len());
            let leave = subsets(&self.leaving).filter(|leave| leave.len() == before || newcomers.is_empty());
            sets.extend(leave.map(|leave| so_far().chain(leave).collect()));
        }
        // All newcomers vote, and who leads has to hand over before it goes.
        if let (Some(_), Some(leaves)) = (newcomers.first(), self.leaving.first()) {
            sets.push(self.replicas.iter().chain([leaves]).copied().collect());
        }
        sets
    }

    /// The group is on its way to something else. What has come before, and stays, may not vote yet.
    pub(super) fn set_out(&mut self, epoch: u64, open: Vec<Holder>) {
        let stays = open.into_iter().filter(|held| self.replicas.contains(held));
        self.unsettled = stays.map(|held| held.replica).collect();
        let replicas = &self.replicas;
        self.renewed.retain(|id| replicas.iter().any(|held| held.replica == *id));
        self.since = epoch;
    }

    /// Whether the group is on its way from some replicas to others. It takes no other change meanwhile.
    pub fn is_moving(&self) -> bool {
        self.settled < self.since
    }

    /// What is wrong with it, in a map whose replica ids go up to `ids_to`.
    pub(super) fn check(&self, ids_to: u64, is_node: impl Fn(NodeSlot) -> bool) -> Result<(), &'static str> {
        if self.replicas.is_empty() || self.held().count() > 2 * REPLICAS_MAX || self.replicas.len() > REPLICAS_MAX {
            return Err("a shard without replicas, or with too many");
        }
        if self.founders == 0 || usize::from(self.founders) > REPLICAS_MAX {
            return Err("a shard's number of founders");
        }
        if self.held().any(|held| held.replica == 0 || !is_node(held.node)) {
            return Err("a replica's node or id");
        }
        if self.held().any(|held| held.replica > ids_to) {
            return Err("a replica's id, which was never made");
        }
        if self.settled > self.since || !self.leaving.is_empty() && !self.is_moving() {
            return Err("a shard whose replicas leave although it is settled");
        }
        let is_held = |id: &u64| self.replicas.iter().any(|held| held.replica == *id);
        let mut marked = self.unsettled.iter().chain(&self.renewed).peekable();
        if marked.peek().is_some() && !self.is_moving() || !marked.all(is_held) {
            return Err("a replica that may not vote yet in a shard that is settled, or that has none like it");
        }
        let repeats = |(at, one): (usize, &Holder)| {
            self.held().take(at).any(|other| other.replica == one.replica || other.node == one.node)
        };
        if self.held().enumerate().any(repeats) {
            return Err("a replica, or a node of a shard, that is there twice");
        }
        Ok(())
    }
}
