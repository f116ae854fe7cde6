//! Every byte of a stopped node's files, flipped: the node must start, must never return wrong data, and must be whole again
//! from its peers.
//!
//! A small cluster works until its files hold a bit of everything (log and data segments, manifests, hints, journal, notes,
//! the ring map's copy), then all of it is stopped and its files are kept. Each flip begins with copies of those files, so one
//! flip knows nothing of another, and repeating one gives the same events.

use super::invariants::Invariants;
use super::node::{Medium, Process};
use super::queue::Moment;
use super::{Event, World};
use crate::disk::SimFileSystem;
use crate::plan::{Act, DiskOptions, Network, Options, Plan, Step};
use crate::run::RunSettings;
use bytes::{Bytes, BytesMut};
use kvorum_core::consensus::Role;
use kvorum_core::health::scrub::{self, Checked};
use kvorum_core::ring::RingMap;
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{
    ClientId, FolderId, ReadMode, Request, RequestBody, RequestId, Response, ResponseBody, ShardId, frame,
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The node whose files are damaged.
const VICTIM: usize = 2;
/// Within so many simulated milliseconds it must be whole: a snapshot that was held up is pulled again after up to a minute.
const WHOLE_MS_MAX: u64 = 120_000;
/// How often it is looked whether it is.
const LOOK_EVERY_MS: u64 = 50;
/// Until it is, its keys are read this often.
const READ_EVERY_LOOKS: u64 = 10;
/// A hand-over of all shards to it may take so long.
const HAND_OVER_MS_MAX: u64 = 20_000;
/// So long is watched that nobody leads where nobody may.
const LEADERLESS_MS: u64 = 20_000;
const JOURNAL_IDENTITY: &str = "journal.metadata";
const JOURNAL_IDENTITY_COPY: &str = "journal.copy.metadata";
/// Blocks in which files are written: what lies in one behind its last byte that is not zero counts as not used.
const BLOCK_BYTES: usize = 4096;
/// The connection over which it is read; far from those of clients.
const CONNECTION: u64 = u64::MAX;

/// How the node was stopped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stop {
    /// In good order.
    Clean,
    /// By `kill -9`: the journal holds rounds that the next start needs.
    Killed,
}

/// A flip of one byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flip {
    /// The file.
    pub path: String,
    /// The byte in it.
    pub offset: u64,
    /// Which of its bits.
    pub bits: u8,
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{:02x}", self.path, self.offset, self.bits)
    }
}

/// A file of the stopped node.
#[derive(Clone, Debug)]
pub struct StoppedFile {
    /// Its path in the data folder.
    pub path: String,
    /// Which of its bytes are in use: all but those behind the last byte of a block that is not zero.
    pub used: Vec<u64>,
    /// The others.
    pub unused: Vec<u64>,
}

impl FromStr for Flip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (rest, bits) = text.rsplit_once(':')?;
            let (path, offset) = rest.rsplit_once(':')?;
            let bits = u8::from_str_radix(bits, 16).ok().filter(|bits| *bits != 0)?;
            Some(Self { path: path.to_owned(), offset: offset.parse().ok()?, bits })
        };
        parts().ok_or_else(|| format!("`{text}` is not FILE:OFFSET:BITS, such as journal.metadata:3:ff"))
    }
}

/// Which flips to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Every so-manieth byte in use of files of a page and more.
    pub every: u64,
    /// Every so-manieth byte of smaller files.
    pub small_every: u64,
    /// Beginning with this one.
    pub offset: u64,
    /// Of the bytes that are not in use, every so-manieth.
    pub unused_every: u64,
    /// Draws a bit of each byte.
    pub seed: u64,
}

impl Share {
    /// Every byte in use, and of the others every 61st.
    pub fn all(seed: u64) -> Self {
        Self { every: 1, small_every: 1, offset: 0, unused_every: 61, seed }
    }
}

/// How a node got over a flip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Healing {
    /// Nothing had to be replaced: it was in nothing that counts, or something else says the same.
    Itself,
    /// Replicas were replaced from their peers.
    Replicas,
    /// The whole node was replaced from its peers.
    Node,
}

/// A cluster that was stopped, and what it must answer.
pub struct StoppedCluster {
    plan: Plan,
    ring: RingMap,
    folders: Vec<(FolderId, u64, SimFileSystem, bool)>,
    /// What each key holds.
    values: BTreeMap<Bytes, Option<Bytes>>,
    /// What each key has ever held: a replica that lags may still say so.
    ever: BTreeMap<Bytes, BTreeSet<Bytes>>,
    /// What its replicas have applied and promised.
    seen: Invariants,
}

impl StoppedCluster {
    /// Builds the cluster and stops it. Takes some milliseconds.
    ///
    /// # Errors
    /// If building it breaks a property, or its files lack what this is about.
    pub fn build(seed: u64, stop: Stop) -> Result<Self, String> {
        let plan = plan(seed);
        let mut world = World::new(&plan, &RunSettings::default());
        world.begin();
        let mut ever: BTreeMap<Bytes, BTreeSet<Bytes>> = BTreeMap::new();
        let mut looked_at = 0;
        loop {
            let over = world.step();
            if let Some(violation) = &world.violation {
                return Err(violation.to_string());
            }
            if over {
                break;
            }
            // Values are looked at often enough to see each of them: clients write once per millisecond at most.
            if world.now().ms() != looked_at {
                looked_at = world.now().ms();
                world.note_values(&mut ever);
            }
        }
        let values: BTreeMap<Bytes, Option<Bytes>> = world
            .recorder
            .keys()
            .into_iter()
            .map(|key| {
                let value = world.committed(&key)?;
                ever.entry(key.clone()).or_default().extend(value.clone());
                Ok((key, value))
            })
            .collect::<Result<_, String>>()?;
        for at in [VICTIM, 0, 1] {
            let process = world.nodes[at].process.take().ok_or("a node is down")?;
            if at != VICTIM || stop == Stop::Clean {
                process.stop()?;
            }
            world.nodes[at].files.kill();
            world.invariants.handle_process_end(at);
        }
        let folders = (0..world.nodes.len()).map(|at| {
            let node = &world.nodes[at];
            (node.folder_id, node.starts, node.files.fork(), at != VICTIM || stop == Stop::Clean)
        });
        let folders = folders.collect();
        let (ring, seen) = (world.ring.clone(), world.invariants.clone());
        drop(world);
        let quiet = Plan { clients: Vec::new(), ..plan };
        let stopped = Self { plan: quiet, ring, folders, values, ever, seen };
        stopped.check_files()?;
        Ok(stopped)
    }

    /// Whether the node's files hold a bit of everything.
    fn check_files(&self) -> Result<(), String> {
        let files = self.files();
        let wanted = [
            ".journal",
            ".segment",
            ".data",
            "/manifest",
            "/hint",
            "replica-",
            "known-disks",
            "ring",
            "journal.metadata",
        ];
        match wanted.iter().find(|part| !files.iter().any(|file| file.path.contains(**part))) {
            Some(part) => Err(format!("the node has no file with `{part}` in its name")),
            None if self.values.values().all(Option::is_some) => Err("no key was removed".to_owned()),
            None => Ok(()),
        }
    }

    /// The files of the node.
    pub fn files(&self) -> Vec<StoppedFile> {
        let of = |(path, bytes): (String, Vec<u8>)| {
            let mut file = StoppedFile { path, used: Vec::new(), unused: Vec::new() };
            for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
                let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let start = (number * BLOCK_BYTES) as u64;
                file.used.extend((0..used as u64).map(|at| start + at));
                file.unused.extend((used as u64..block.len() as u64).map(|at| start + at));
            }
            file
        };
        self.folders[VICTIM].2.contents().into_iter().map(of).collect()
    }

    /// A share of all flips of single bytes: each byte as a whole, and a bit of it.
    pub fn flips(&self, share: &Share) -> Vec<Flip> {
        let mut rng = ChaCha8Rng::seed_from_u64(share.seed);
        let mut flips = Vec::new();
        for StoppedFile { path, used, unused } in self.files() {
            let is_small = used.len() + unused.len() < BLOCK_BYTES;
            let every = if is_small { share.small_every } else { share.every }.max(1);
            let chosen = |offsets: Vec<u64>, every: u64| {
                let first = share.offset % every;
                offsets.into_iter().skip(first as usize).step_by(every as usize)
            };
            for offset in chosen(used, every).chain(chosen(unused, share.unused_every.max(1))) {
                let bit = 1 << rng.random_range(0..8);
                flips.extend([0xff, bit].map(|bits| Flip { path: path.clone(), offset, bits }));
            }
        }
        flips
    }

    /// How many keys are read.
    pub fn keys(&self) -> usize {
        self.values.len()
    }

    /// Starts the cluster with one byte of the node flipped, and watches until the node is whole. Then reads all cold data
    /// again, as the scrubber does; what that finds must heal, too. Last, the node leads and answers for every key.
    ///
    /// # Errors
    /// What went wrong.
    pub fn flip(&self, flip: &Flip) -> Result<Healing, String> {
        let mut world = self.start()?;
        let files = &world.nodes[VICTIM].files;
        if !files.damage(&flip.path, flip.offset, flip.bits) {
            return Err("there is no such byte".to_owned());
        }
        world.nodes[VICTIM].medium = Medium::MayForget;
        let folder = world.nodes[VICTIM].folder_id;
        Trial { cluster: self, world: &mut world, until: WHOLE_MS_MAX }.run()?;
        let replaced = ["faulty replicas replaced", "wiped disks replaced"].map(|name| world.coverage[name]);
        Ok(match replaced {
            _ if world.nodes[VICTIM].folder_id != folder => Healing::Node,
            [0, 0] => Healing::Itself,
            _ => Healing::Replicas,
        })
    }

    /// Starts the cluster after all nodes but one were killed and lost the identities of their journals, both copies at once.
    /// The one that is left can't know what the others would have said: for some time nobody may lead or answer a linearizable
    /// read, and what the nodes hold must stay where it is.
    ///
    /// # Errors
    /// What went wrong.
    pub fn lose_most_journals(&self) -> Result<(), String> {
        let mut world = self.start()?;
        let lost = 1..world.nodes.len();
        for at in lost.clone() {
            let node = &mut world.nodes[at];
            for file in [JOURNAL_IDENTITY, JOURNAL_IDENTITY_COPY] {
                if !node.files.damage(file, 0, 0xff) {
                    return Err(format!("there is no {file}"));
                }
            }
            node.medium = Medium::MayForget;
            node.stopped_cleanly = false;
        }
        let mut trial = Trial { cluster: self, world: &mut world, until: LEADERLESS_MS };
        while trial.world.now().ms() < LEADERLESS_MS {
            trial.go_on(LOOK_EVERY_MS)?;
            for process in trial.world.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
                if let Some(key) = self.values.keys().find(|key| {
                    // An error is one of the connection; there is none.
                    !matches!(read(process, key, ReadMode::Linearizable), Ok(None))
                }) {
                    return Err(format!("{key:?} is answered without a quorum\n{}", trial.world.states()));
                }
            }
        }
        if world.coverage.get("nodes that gave everything up") != Some(&(lost.len() as u64)) {
            return Err("not all of them have noticed".to_owned());
        }
        for at in lost {
            let of_logs = |files: &SimFileSystem| {
                let files = files.contents().into_iter();
                files.filter(|(path, _)| path.contains(".segment") || path.contains(".data")).collect::<Vec<_>>()
            };
            if of_logs(&world.nodes[at].files) != of_logs(&self.folders[at].2) {
                return Err(format!("node {at} has changed its logs"));
            }
        }
        Ok(())
    }

    /// A world in which the stopped nodes are about to start.
    fn start(&self) -> Result<World<'_>, String> {
        let mut world = World::new(&self.plan, &RunSettings::default());
        world.ring = self.ring.clone();
        world.proposed_epoch = self.ring.epoch;
        world.invariants = self.seen.clone();
        world.healed = true;
        for (at, (folder_id, starts, files, clean)) in self.folders.iter().enumerate() {
            world.nodes[at].folder_id = *folder_id;
            world.nodes[at].starts = *starts;
            world.nodes[at].files = files.fork();
            world.nodes[at].stopped_cleanly = *clean;
            world.queue.push(Moment(0).after_ms(at as u64), Event::Start(at));
        }
        Ok(world)
    }
}

/// A flip at work.
struct Trial<'a, 'b> {
    cluster: &'a StoppedCluster,
    world: &'b mut World<'a>,
    until: u64,
}

impl Trial<'_, '_> {
    fn run(&mut self) -> Result<(), String> {
        loop {
            self.until_whole()?;
            if !self.scrub_finds_damage() {
                break;
            }
        }
        self.lead_and_read()
    }

    /// Goes on for so long.
    fn go_on(&mut self, ms: u64) -> Result<(), String> {
        let end = self.world.now().after_ms(ms);
        self.world.queue.push(end, Event::Pause);
        while self.world.now() < end {
            if self.world.step() {
                return Err("nothing happens any more".to_owned());
            }
            if let Some(violation) = &self.world.violation {
                return Err(violation.to_string());
            }
        }
        for (name, what) in
            [("folders emptied by an operator", "the node does not start"), ("processes that gave up", "it gave up")]
        {
            if self.world.coverage.get(name).is_some_and(|count| *count > 0) {
                return Err(what.to_owned());
            }
        }
        if self.world.coverage["processes ended by a failed sync or write"] > 0 {
            return Err("its process ended".to_owned());
        }
        Ok(())
    }

    /// Waits until every replica is where it should be and the node answers for every key; what it answers meanwhile must
    /// have been true once.
    fn until_whole(&mut self) -> Result<(), String> {
        for look in 0.. {
            self.go_on(LOOK_EVERY_MS)?;
            let unfinished = self.world.unfinished().or_else(|| self.world.lags());
            if unfinished.is_none() || look % READ_EVERY_LOOKS == 0 {
                let missing = self.read_all(ReadMode::Stale)?;
                if unfinished.is_none() && missing.is_none() {
                    break;
                }
            }
            if self.world.now().ms() > self.until {
                let why = unfinished.unwrap_or_else(|| "a key can't be read".to_owned());
                return Err(format!("not whole after {} ms: {why}\n{}", self.until, self.world.states()));
            }
        }
        match self.world.invariants.compare(&self.world.nodes) {
            Some((property, detail)) => Err(format!("{property}: {detail}")),
            None => Ok(()),
        }
    }

    /// Reads every key through the node. Returns one that it does not answer for, or not with the newest value.
    ///
    /// # Errors
    /// A value that the key never had; with [`ReadMode::Linearizable`], one that it does not have now.
    fn read_all(&mut self, mode: ReadMode) -> Result<Option<Bytes>, String> {
        let mut missing = None;
        for (key, expected) in &self.cluster.values {
            let Some(process) = &mut self.world.nodes[VICTIM].process else { return Ok(Some(key.clone())) };
            match read(process, key, mode)? {
                Some(found) if found == *expected => {}
                Some(found) if mode == ReadMode::Linearizable => {
                    return Err(format!("wrong data: {key:?} is {expected:?}, and {found:?} was returned"));
                }
                Some(Some(found)) if !self.cluster.ever[key].contains(&found) => {
                    return Err(format!("wrong data: {key:?} never was {found:?}"));
                }
                Some(_) | None => missing = Some(key.clone()),
            }
        }
        Ok(missing)
    }

    /// Checks the node's cold data as the scrubber does.
    fn scrub_finds_damage(&mut self) -> bool {
        let Some(process) = &self.world.nodes[VICTIM].process else { return false };
        let mut found = false;
        for handle in process.router.all_local() {
            for segment in scrub::cold_segments(handle.reader.log()) {
                let checked = scrub::check(&**process.disk(), &handle.reader, &segment, &mut |_| true);
                found |= checked == Checked::Damaged;
            }
        }
        found
    }

    /// Has the node lead every shard, and reads every key under its leases.
    fn lead_and_read(&mut self) -> Result<(), String> {
        let until = self.world.now().after_ms(HAND_OVER_MS_MAX);
        for look in 0.. {
            let led = |world: &World<'_>| {
                let process = world.nodes[VICTIM].process.as_ref();
                process.is_some_and(|process| process.leads_all())
            };
            if led(self.world) && self.read_all(ReadMode::Linearizable)?.is_none() {
                return Ok(());
            }
            if self.world.now() > until {
                return Err(format!("it does not come to lead\n{}", self.world.states()));
            }
            if look % READ_EVERY_LOOKS == 0 {
                for shard in 0..self.world.ring.shards.len() as u16 {
                    self.world.transfer(ShardId(shard), VICTIM);
                }
            }
            self.go_on(LOOK_EVERY_MS)?;
        }
        Ok(())
    }
}

impl World<'_> {
    /// What clients may see of each key now, for those who want to know all that it ever was.
    fn note_values(&self, ever: &mut BTreeMap<Bytes, BTreeSet<Bytes>>) {
        for key in self.recorder.keys() {
            if let Ok(Some(value)) = self.committed(&key) {
                ever.entry(key).or_default().insert(value);
            }
        }
    }

    /// What the replica that has applied most holds for a key.
    fn committed(&self, key: &Bytes) -> Result<Option<Bytes>, String> {
        let shard = self.ring.topology(|_| None).shard_of(key);
        let hosts = self.nodes.iter().filter_map(|node| node.process.as_ref()?.shards.get(&shard)?.host.as_ref());
        let newest = hosts.max_by_key(|host| host.shard().store().applied()).ok_or("no replica is open")?;
        let found = newest.handle().reader.get(key).map_err(|error| error.to_string())?;
        Ok(found.map(|found| found.entry.value))
    }

    /// The shard whose replicas have not all applied the same, or that nobody leads.
    fn lags(&self) -> Option<String> {
        (0..self.ring.shards.len() as u16).map(ShardId).find_map(|shard| {
            let hosts = self.nodes.iter().filter_map(|node| node.process.as_ref()?.shards.get(&shard)?.host.as_ref());
            let snapshots: Vec<_> = hosts.map(|host| host.shard().status()).collect();
            let same = snapshots.windows(2).all(|pair| pair[0].applied == pair[1].applied);
            let led = snapshots.iter().any(|of| of.role == Role::Leader && of.serving);
            (!same || !led).then(|| format!("shard {shard} is not led, or a replica lags"))
        })
    }
}

/// What a node answers at once for a key, if it does.
fn read(process: &mut Process, key: &Bytes, mode: ReadMode) -> Result<Option<Option<Bytes>>, String> {
    process.connect(CONNECTION, ClientId(Uuid::from_u128(1)));
    let mut request = BytesMut::new();
    let body = RequestBody::Get { key: key.clone(), mode };
    Request { id: RequestId(1), deadline_ms: 0, body }.encode(&mut request);
    let mut answer = process.handle_frames(CONNECTION, request)?;
    process.disconnect(CONNECTION);
    let Some(body) = frame::decode(&mut answer, FRAME_BYTES_MAX).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    match Response::decode(body).map_err(|error| error.to_string())?.body {
        ResponseBody::Value(entry) => Ok(Some(entry.map(|entry| entry.value))),
        _ => Ok(None),
    }
}

/// A small cluster in which everything happens that leaves something in a file.
fn plan(seed: u64) -> Plan {
    let network =
        Network { delay_min_us: 100, delay_max_us: 500, lost_permille: 0, duplicated_permille: 0, held_up_permille: 0 };
    let options = Options {
        nodes: 3,
        spares: 0,
        shards: 2,
        fsync: true,
        window: 4,
        safety_ms: 8_000,
        peers: network,
        client_links: network,
        disk: DiskOptions {
            sync_min_us: 100,
            sync_max_us: 500,
            segment_bytes_first: 4_096,
            segment_bytes_max: 8_192,
            journal_files: 2,
            journal_file_bytes: 32_768,
        },
        clock_rate_ppm: vec![0; 3],
        wall_offset_ms: vec![0; 3],
        deadline_ms: 5_000,
        snapshots_lost_permille: 0,
        snapshots_late_ms: 0,
        loses_hints: false,
        sealed: 0,
        queue_requests_max: 0,
        queue_bytes_max: 0,
        sessions_max: 0,
        once_max: 0,
        session_bytes_max: 0,
        late_copies_permille: 0,
        repair_hold_ms: 50_000,
        order_bits: 0,
    };
    let put = |key: u32, bytes: u32| Act::Put { key, bytes, ttl_ms: None, accepted: false, await_ms: 0 };
    let mut acts = Vec::new();
    for turn in 0..12 {
        acts.extend((0..24).map(|key| put(key, 100 + key * 20)));
        acts.extend([Act::Incr(1), Act::Append(2), Act::AtomicPair(turn % 3), Act::Batch { first: 30, count: 4 }]);
        let ttl_ms = Some(1_000_000_000);
        acts.push(Act::Put { key: 40 + turn, bytes: 30, ttl_ms, accepted: false, await_ms: 0 });
        acts.extend([Act::Delete(turn), put(50, 1_800), Act::PutIfAbsent(60 + turn)]);
    }
    let steps = acts.into_iter().map(|act| Step { after_ms: 10, act }).collect();
    Plan { seed, options, clients: vec![steps], faults: Vec::new() }
}
