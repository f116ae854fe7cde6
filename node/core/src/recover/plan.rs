//! Which groups are lost, from which replica each goes on, and the ring map that comes of it.

use super::{FolderReport, MembershipReport, RECOVERY_FORMAT, ReachReport, ReplicaReport};
use crate::folder::stored_id;
use crate::ring::{Loss, RingMap, RingNode};
use crate::shard::remains::TERMS_SKIPPED;
use kvorum_protocol::{FolderId, NodeId, ReplicaId, ShardId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// What is to be done about a loss.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecoveryPlan {
    /// [`RECOVERY_FORMAT`].
    pub format: u32,
    /// A hash of all the rest: two plans with the same id are the same. It is no signature.
    pub id: String,
    /// The cluster.
    pub cluster: Uuid,
    /// Nodes that are given up.
    pub gone: Vec<GivenUp>,
    /// The epoch of the newest ring map that is left.
    pub epoch: u64,
    /// The ring map from then on.
    pub ring: RingMap,
    /// The groups that have lost their quorum, `meta` first.
    pub lost: Vec<GroupLoss>,
    /// Groups that go on by themselves.
    pub untouched: usize,
    /// What is to be done in each folder.
    pub folders: Vec<FolderPlan>,
    /// Replicas on nodes that are left of which nothing can be read. They count as lost. Plans that have none are as they were before
    /// there was this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<UnreadReplica>,
}

/// A replica of which a node holds files or a note, and of which nothing can be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnreadReplica {
    /// The shard; 65535 is `meta`.
    pub shard: u16,
    /// The name of the node.
    pub node: String,
    /// Why nothing can be read.
    pub problem: String,
}

/// What a folder's ring map says of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanStanding {
    /// The map is older than the plan's: the plan is not carried out there yet.
    Ahead,
    /// The map is the plan's, or came of it.
    Followed,
    /// The map is as new as the plan's and did not come of it, as far as that can be told.
    Contradicted,
}

/// A node that is given up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenUp {
    /// Its id.
    pub node: Uuid,
    /// Its name.
    pub name: String,
    /// `host:port` of its binary door.
    pub client: String,
    /// `host:port` of its peer door.
    pub peer: String,
}

/// A group that has lost its quorum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupLoss {
    /// The shard; 65535 is `meta`.
    pub shard: u16,
    /// The name of the node on which it goes on.
    pub node: String,
    /// How far the replica reaches from which it goes on; `None` if nothing is left, and it begins empty.
    pub from: Option<ReachReport>,
    /// Why that replica is not what it should be, if it is not: nothing better is left.
    #[serde(default)]
    pub problem: Option<String>,
    /// Voters of the group, and how many of them are left and sound.
    pub voters: usize,
    /// See `voters`.
    pub voters_left: usize,
    /// Writes that were acknowledged may be lost.
    pub may_lack: bool,
    /// Other nodes with a replica of it, which begins anew, with the last entry that it held.
    pub discarded: Vec<(String, u64)>,
}

/// What is to be done in a data folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderPlan {
    /// The node.
    pub node: Uuid,
    /// Its name.
    pub name: String,
    /// The folder.
    #[serde(with = "stored_id")]
    pub folder: FolderId,
    /// How often a process was started with it, as of the report.
    pub starts: u64,
    /// It has amnesia, which ends: all its replicas begin anew or go on alone.
    pub heals: bool,
    /// The replicas from which groups go on.
    pub replicas: Vec<PlannedReplica>,
}

/// A replica from which a group goes on alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlannedReplica {
    /// The shard; 65535 is `meta`.
    pub shard: u16,
    /// Its fresh id.
    pub replica: u64,
    /// The term that it begins in.
    pub term: u64,
    /// The last entry of the files from which it goes on, as of the report; `None` if it begins empty.
    pub last_index: Option<u64>,
    /// Up to where these files reach is not known from the journal: they were given up before.
    #[serde(default)]
    pub given_up: bool,
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanRefusal {
    /// Nothing was said of any folder.
    #[error("no report was given: run `kvorum recover inspect` on every node that is left")]
    NoReports,
    /// Another program has written it.
    #[error("a report is of format {0}, and this program reads format {RECOVERY_FORMAT}")]
    Format(u32),
    /// They don't belong together.
    #[error("the reports are of clusters {0} and {1}")]
    Clusters(Uuid, Uuid),
    /// There is no map to begin with.
    #[error("none of the folders knows a ring map: the cluster was never founded, so there is nothing to recover")]
    NoRing,
    /// They contradict each other.
    #[error("two folders hold different ring maps of epoch {0}: one of them is damaged, or of another cluster")]
    Rings(u64),
    /// Two folders of one node.
    #[error("there are two reports of {0}: leave out the one whose folder it does not run with")]
    Twice(String),
    /// Who was said to be gone is not.
    #[error("there is a report of {0}, which was named as gone: a node is either gone or left")]
    GoneIsThere(String),
    /// It is no node of the cluster.
    #[error("{0} is no node of the cluster: it has {1}")]
    UnknownNode(String, String),
    /// The folder can't come back.
    #[error("the data folder of {0} was replaced, and never returns: inspect the one with which it ran last")]
    Retired(String),
    /// Nothing is known of these.
    #[error(
        "nothing is known of {0}: inspect the folder of each node that is left, and name each other one with --gone. What a \
         node holds that is forgotten here would be lost"
    )]
    Missing(String),
    /// It would be for nothing.
    #[error(
        "every group has a quorum without the nodes that are gone: start the others, and take those out with `NODE REMOVE`"
    )]
    NothingLost,
    /// Data is lost that nobody has said may be lost.
    #[error(
        "of shard {shards} no replica is left: all its keys are lost. Say --empty-shards to begin it anew with nothing{}",
        unread_of_empty(unread)
    )]
    EmptyShards {
        /// The shards.
        shards: String,
        /// Replicas of them that are there and can't be read.
        unread: Vec<UnreadReplica>,
    },
    /// A mistake in this program, or a damaged report.
    #[error("the ring map that would come of it is invalid: {0}")]
    Ring(String),
}

/// What is to be done, if the nodes named `gone` (by name or id) never come back and these reports are of all others. Shards of
/// which no replica is left begin empty if `empty_shards` says so. The same arguments give the same plan, in whatever order.
///
/// # Errors
/// Why there is none.
pub fn plan(reports: &[FolderReport], gone: &[String], empty_shards: bool) -> Result<RecoveryPlan, PlanRefusal> {
    let ring = newest_ring(reports)?;
    let planning = Planning::new(ring, reports, gone)?;
    planning.run(empty_shards)
}

/// The newest map of all folders, which are of one cluster.
fn newest_ring(reports: &[FolderReport]) -> Result<&RingMap, PlanRefusal> {
    let first = reports.first().ok_or(PlanRefusal::NoReports)?;
    if let Some(other) = reports.iter().find(|report| report.format != RECOVERY_FORMAT) {
        return Err(PlanRefusal::Format(other.format));
    }
    if let Some(other) = reports.iter().find(|report| report.cluster != first.cluster) {
        return Err(PlanRefusal::Clusters(first.cluster, other.cluster));
    }
    let rings = || reports.iter().filter_map(|report| report.ring.as_ref());
    if let Some(other) = rings().find(|ring| ring.cluster != first.cluster) {
        return Err(PlanRefusal::Clusters(first.cluster, other.cluster));
    }
    let newest = rings().max_by_key(|ring| ring.epoch).ok_or(PlanRefusal::NoRing)?;
    match rings().find(|ring| ring.epoch == newest.epoch && *ring != newest) {
        Some(_) => Err(PlanRefusal::Rings(newest.epoch)),
        None => Ok(newest),
    }
}

struct Planning<'a> {
    ring: &'a RingMap,
    gone: Vec<&'a RingNode>,
    /// The nodes that are left, in the map's order.
    left: Vec<(&'a RingNode, &'a FolderReport)>,
}

/// A replica of a group that is left.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    node: &'a RingNode,
    report: &'a ReplicaReport,
    reach: &'a ReachReport,
    /// It would take part if the node were started.
    is_sound: bool,
}

impl Candidate<'_> {
    fn is(&self, replica: u64) -> bool {
        self.is_sound && self.report.replica == Some(replica)
    }
}

/// What is left of a group.
enum Left<'a> {
    Quorum,
    Lost { survivor: Option<Candidate<'a>>, view: Option<&'a MembershipReport>, may_lack: bool },
}

impl<'a> Planning<'a> {
    fn new(ring: &'a RingMap, reports: &'a [FolderReport], gone: &[String]) -> Result<Self, PlanRefusal> {
        let names = |nodes: &mut dyn Iterator<Item = &RingNode>| {
            nodes.map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let named = |name: &String| {
            let known = ring.nodes.iter().find(|node| node.name == *name || node.id.to_string() == *name);
            known.ok_or_else(|| PlanRefusal::UnknownNode(name.clone(), names(&mut ring.nodes.iter())))
        };
        let gone: BTreeSet<Uuid> = gone.iter().map(|name| named(name).map(|node| node.id)).collect::<Result<_, _>>()?;
        let mut by_node: BTreeMap<Uuid, &FolderReport> = BTreeMap::new();
        for report in reports {
            let node = named(&report.node.to_string())?;
            if gone.contains(&report.node) {
                return Err(PlanRefusal::GoneIsThere(node.name.clone()));
            }
            if ring.is_retired(report.folder) {
                return Err(PlanRefusal::Retired(node.name.clone()));
            }
            if by_node.insert(report.node, report).is_some() {
                return Err(PlanRefusal::Twice(node.name.clone()));
            }
        }
        let is_missing = |node: &&RingNode| !gone.contains(&node.id) && !by_node.contains_key(&node.id);
        if ring.nodes.iter().any(|node| is_missing(&node)) {
            return Err(PlanRefusal::Missing(names(&mut ring.nodes.iter().filter(is_missing))));
        }
        let left = ring.nodes.iter().filter_map(|node| Some((node, *by_node.get(&node.id)?))).collect();
        Ok(Self { ring, gone: ring.nodes.iter().filter(|node| gone.contains(&node.id)).collect(), left })
    }

    fn run(&self, empty_shards: bool) -> Result<RecoveryPlan, PlanRefusal> {
        let groups: BTreeMap<ShardId, Left<'a>> =
            self.ring.group_ids().map(|shard| (shard, self.left_of(shard))).collect();
        let is_empty = |(shard, left): &(&ShardId, &Left<'_>)| {
            **shard != ShardId::META && matches!(left, Left::Lost { survivor: None, .. })
        };
        let empty: Vec<String> = groups.iter().filter(is_empty).map(|(shard, _)| shard.to_string()).collect();
        if groups.values().all(|left| matches!(left, Left::Quorum)) {
            return Err(PlanRefusal::NothingLost);
        }
        if !empty.is_empty() && !empty_shards {
            let mut unread = self.unread();
            unread.retain(|unread| is_empty(&(&ShardId(unread.shard), &groups[&ShardId(unread.shard)])));
            return Err(PlanRefusal::EmptyShards { shards: empty.join(", "), unread });
        }
        let mut loss = self.loss(&groups);
        self.place_empty(&groups, &mut loss);
        let ring = self.ring.after_loss(&loss);
        if let Err(error) = RingMap::from_bytes(&ring.to_bytes()) {
            return Err(PlanRefusal::Ring(error.to_string()));
        }
        let lost = self.ring.group_ids().filter_map(|shard| self.told(shard, &groups[&shard], &loss)).collect();
        let folders = self.left.iter().map(|(node, report)| self.folder(node, report, &groups, &ring)).collect();
        let untouched = groups.values().filter(|left| matches!(left, Left::Quorum)).count();
        let plan = RecoveryPlan {
            format: RECOVERY_FORMAT,
            id: String::new(),
            cluster: self.ring.cluster,
            gone: self.gone.iter().map(|node| given_up(node)).collect(),
            epoch: self.ring.epoch,
            ring,
            lost,
            untouched,
            folders,
            unread: self.unread(),
        };
        Ok(RecoveryPlan { id: plan.hash(), ..plan })
    }

    /// The replicas of a group that are left and can be read, in the order of the map's nodes.
    fn candidates(&self, shard: ShardId) -> Vec<Candidate<'a>> {
        let of_node = |(node, report): &(&'a RingNode, &'a FolderReport)| {
            let found = report.replicas.iter().find(|replica| replica.shard == shard.0)?;
            let reach = found.reach.as_ref()?;
            let given = self.ring.replica_on(shard, NodeId(node.id)).map(|replica| replica.0);
            let is_sound = self.is_trusted(node, report) && found.problem.is_none() && found.replica == given;
            Some(Candidate { node, report: found, reach, is_sound })
        };
        self.left.iter().filter_map(of_node).collect()
    }

    /// Replicas that count as lost, since nothing of them can be read.
    fn unread(&self) -> Vec<UnreadReplica> {
        let of_node = |(node, report): &(&'a RingNode, &'a FolderReport)| {
            let unread = |replica: &ReplicaReport| {
                let problem = replica.problem.clone().filter(|_| replica.reach.is_none())?;
                self.ring.group(ShardId(replica.shard))?;
                Some(UnreadReplica { shard: replica.shard, node: node.name.clone(), problem })
            };
            report.replicas.iter().filter_map(unread).collect::<Vec<_>>()
        };
        self.left.iter().flat_map(of_node).collect()
    }

    fn is_trusted(&self, node: &RingNode, report: &FolderReport) -> bool {
        report.distrusted.is_none() && node.disk.is_none_or(|disk| disk == report.folder)
    }

    fn left_of(&self, shard: ShardId) -> Left<'a> {
        let candidates = self.candidates(shard);
        // Of several that reach as far, the one that should lead, then the first.
        let wanted = self.ring.replicas(shard);
        let place = |candidate: &Candidate<'_>| {
            let at = wanted.iter().position(|held| held.node == candidate.node.slot);
            Reverse((at.unwrap_or(usize::MAX), candidate.node.slot))
        };
        let reaches =
            |candidate: &Candidate<'a>| (candidate.reach.last_term, candidate.reach.last_index, place(candidate));
        let Some(furthest) = candidates.iter().copied().max_by_key(reaches) else {
            return Left::Lost { survivor: None, view: None, may_lack: true };
        };
        let view = &furthest.reach.membership;
        let is_there = |replica: u64| candidates.iter().any(|candidate| candidate.is(replica));
        let views = || [Some(view), furthest.reach.membership_committed.as_ref()].into_iter().flatten();
        if views().all(|view| view.has_quorum(is_there)) {
            return Left::Quorum;
        }
        let votes = |candidate: &Candidate<'_>| {
            candidate.report.replica.is_some_and(|replica| views().any(|view| view.votes(replica)))
        };
        let survivor = candidates
            .iter()
            .copied()
            .filter(|candidate| candidate.reach.last_index > 0)
            .max_by_key(|candidate| (votes(candidate) && candidate.is_sound, reaches(candidate)));
        let may_lack = views().any(|view| view.may_have_agreed(is_there))
            || survivor.is_none_or(|survivor| !votes(&survivor) || !survivor.is_sound);
        Left::Lost { survivor, view: Some(view), may_lack }
    }

    fn loss(&self, groups: &BTreeMap<ShardId, Left<'a>>) -> Loss {
        let mut loss = Loss {
            gone: self.gone.iter().map(|node| NodeId(node.id)).collect(),
            folders: self.left.iter().map(|(node, report)| (NodeId(node.id), report.folder)).collect(),
            replicas_made: self.highest_id(),
            ..Loss::default()
        };
        for (&shard, left) in groups {
            if let Left::Lost { survivor: Some(survivor), .. } = left {
                loss.alone.insert(shard, NodeId(survivor.node.id));
            }
            let candidates = self.candidates(shard);
            let is_sound =
                |node: &RingNode| candidates.iter().any(|candidate| candidate.node.id == node.id && candidate.is_sound);
            // One that has not begun yet has no files, and nothing to forget.
            let is_noted = |report: &FolderReport| report.replicas.iter().any(|replica| replica.shard == shard.0);
            let unsound = self
                .left
                .iter()
                .filter(|(node, report)| !is_sound(node) && (!self.is_trusted(node, report) || is_noted(report)));
            loss.unsound.extend(unsound.map(|(node, _)| (shard, NodeId(node.id))));
        }
        loss
    }

    /// The highest replica id that any folder has heard of.
    fn highest_id(&self) -> u64 {
        let of_view = |view: &MembershipReport| {
            [&view.voters, &view.learners, &view.voters_outgoing].into_iter().flatten().copied().max().unwrap_or(0)
        };
        let of_replica = |replica: &ReplicaReport| {
            let reach = replica.reach.as_ref();
            replica.replica.unwrap_or(0).max(reach.map_or(0, |reach| of_view(&reach.membership)))
        };
        let of_report = |report: &FolderReport| {
            let made = report.ring.as_ref().map_or(0, |ring| ring.replicas_made);
            report.replicas.iter().map(of_replica).max().unwrap_or(0).max(made)
        };
        self.left.iter().map(|(_, report)| of_report(report)).max().unwrap_or(0)
    }

    /// Groups of which nothing is left begin on the nodes that hold least, the first ones of the map.
    fn place_empty(&self, groups: &BTreeMap<ShardId, Left<'a>>, loss: &mut Loss) {
        let mut held: BTreeMap<NodeId, usize> = self.left.iter().map(|(node, _)| (NodeId(node.id), 0)).collect();
        for node in loss.alone.values() {
            *held.entry(*node).or_default() += 1;
        }
        let empty = groups.iter().filter(|(_, left)| matches!(left, Left::Lost { survivor: None, .. }));
        for (&shard, _) in empty {
            let least = self.left.iter().map(|(node, _)| NodeId(node.id)).min_by_key(|node| held[node]);
            let Some(node) = least else { continue };
            *held.entry(node).or_default() += 1;
            loss.alone.insert(shard, node);
        }
    }

    fn name(&self, node: NodeId) -> String {
        self.ring
            .nodes
            .iter()
            .find(|known| known.id == node.0)
            .map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// What is told of a group, if it is lost.
    fn told(&self, shard: ShardId, left: &Left<'_>, loss: &Loss) -> Option<GroupLoss> {
        let Left::Lost { survivor, view, may_lack } = left else { return None };
        let node = *loss.alone.get(&shard)?;
        let candidates = self.candidates(shard);
        let is_there = |replica: u64| candidates.iter().any(|candidate| candidate.is(replica));
        let voters: BTreeSet<u64> = view.iter().flat_map(|view| view.halves().flatten().copied()).collect();
        let others = candidates.iter().filter(|candidate| candidate.node.id != node.0);
        let is_voter = |replica: u64| view.is_some_and(|view| view.votes(replica));
        let problem = |candidate: &Candidate<'_>| match (&candidate.report.problem, candidate.is_sound) {
            (Some(problem), _) => Some(problem.clone()),
            (None, false) => Some("the ring map gives its node another replica, or another data folder".to_owned()),
            (None, true) if !candidate.report.replica.is_some_and(is_voter) => Some("it does not vote".to_owned()),
            (None, true) => None,
        };
        Some(GroupLoss {
            shard: shard.0,
            node: self.name(node),
            from: survivor.map(|survivor| survivor.reach.clone()),
            problem: survivor.as_ref().and_then(problem),
            voters: if view.is_some() { voters.len() } else { self.ring.replicas(shard).len() },
            voters_left: voters.iter().filter(|voter| is_there(**voter)).count(),
            may_lack: *may_lack,
            discarded: others.map(|other| (other.node.name.clone(), other.reach.last_index)).collect(),
        })
    }

    fn folder(
        &self,
        node: &RingNode,
        report: &FolderReport,
        groups: &BTreeMap<ShardId, Left<'a>>,
        ring: &RingMap,
    ) -> FolderPlan {
        let planned = |shard: ShardId| -> Option<PlannedReplica> {
            let Left::Lost { survivor, .. } = &groups[&shard] else { return None };
            let group = ring.group(shard)?;
            let replica =
                ring.replica_on(shard, NodeId(node.id)).filter(|replica| group.survivor == Some(replica.0))?;
            let terms = self.candidates(shard).into_iter().map(|candidate| candidate.reach.term).max();
            Some(PlannedReplica {
                shard: shard.0,
                replica: replica.0,
                term: terms.unwrap_or(0) + TERMS_SKIPPED,
                last_index: survivor.map(|survivor| survivor.reach.last_index),
                given_up: survivor.is_some_and(|survivor| survivor.report.problem.is_some()),
            })
        };
        FolderPlan {
            node: node.id,
            name: node.name.clone(),
            folder: report.folder,
            starts: report.starts,
            heals: report.distrusted.is_some(),
            replicas: ring.group_ids().filter_map(planned).collect(),
        }
    }
}

fn unread_of_empty(unread: &[UnreadReplica]) -> String {
    let each = unread.iter().map(|unread| format!("shard {} on {} ({})", unread.shard, unread.node, unread.problem));
    match each.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => none,
        each => format!(". Of these nothing can be read: {each}"),
    }
}

fn given_up(node: &RingNode) -> GivenUp {
    let (name, client, peer) = (node.name.clone(), node.client.clone(), node.peer.clone());
    GivenUp { node: node.id, name, client, peer }
}

impl RecoveryPlan {
    /// Whether the plan is as it was made.
    pub fn is_whole(&self) -> bool {
        self.format == RECOVERY_FORMAT && self.id == self.hash()
    }

    /// What is to be done in a data folder; `None` if the plan does not speak of it.
    pub fn folder(&self, folder: FolderId) -> Option<&FolderPlan> {
        self.folders.iter().find(|planned| planned.folder == folder)
    }

    /// What a folder's ring map says of this plan. Nodes that the plan has given up never come back, so a map that has one of them did
    /// not come of it. A map without a node that the plan keeps may come of another plan, or of a later removal: it counts as the former.
    pub fn standing(&self, ring: Option<&RingMap>) -> PlanStanding {
        let Some(ring) = ring.filter(|ring| ring.epoch >= self.ring.epoch) else { return PlanStanding::Ahead };
        if ring.epoch == self.ring.epoch {
            return if *ring == self.ring { PlanStanding::Followed } else { PlanStanding::Contradicted };
        }
        let has_gone = ring.nodes.iter().any(|node| self.gone.iter().any(|gone| gone.node == node.id));
        let lacks_kept = self.folders.iter().any(|folder| ring.removed.contains(&folder.node));
        if has_gone || lacks_kept { PlanStanding::Contradicted } else { PlanStanding::Followed }
    }

    fn hash(&self) -> String {
        let unnamed = Self { id: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&unnamed).expect("a plan has nothing that JSON can't say");
        format!("{:016x}", xxh3_64(&bytes))
    }
}

impl PlannedReplica {
    /// The shard.
    pub fn shard(&self) -> ShardId {
        ShardId(self.shard)
    }

    /// The fresh replica.
    pub fn replica(&self) -> ReplicaId {
        ReplicaId(self.replica)
    }
}
