//! The leader's side: the snapshots that a node holds ready, and the pulls that it answers.

use super::bucket::TokenBucket;
use super::limits::{
    BURST_MS, CHUNK_BYTES_MAX, OFFER_FORGET_MS, OFFER_IDLE_MS, OFFER_REPEAT_MS, OFFERS_HELD_MAX, OFFERS_MAX,
    PULLS_WAITING_MAX,
};
use super::{Run, SnapshotError, SnapshotSource};
use crate::clock::Nanos;
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotId, SnapshotMessage, SnapshotPart};
use kvorum_protocol::{ReplicaId, ShardId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tracing::{info, warn};

/// The snapshots of all shards that a node offers, at most one per receiving replica. Pure: it is told the time and the
/// messages that came, and says what to send and what to read.
#[derive(Debug)]
pub struct SnapshotOffers {
    offers: BTreeMap<(ShardId, ReplicaId), Offer>,
    budget: TokenBucket,
    next_nonce: u64,
    /// Whose pull was answered last: the others come first next time.
    served_last: Option<(ShardId, ReplicaId)>,
    messages: Vec<(ShardId, SnapshotMessage)>,
    ended: Vec<EndedOffer>,
    sent_bytes: u64,
}

#[derive(Debug)]
struct Offer {
    /// The replica here.
    from: ReplicaId,
    id: SnapshotId,
    source: Arc<dyn SnapshotSource>,
    pulls: VecDeque<Pull>,
    /// The pull that is being answered.
    reading: Option<Pull>,
    /// The peer has no room for more at the moment; the next tick tries again.
    held_back: bool,
    offered_at: Option<Nanos>,
    pulled_at: Nanos,
    /// Nobody has pulled it for [`OFFER_IDLE_MS`].
    is_idle: bool,
}

/// What a follower asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pull {
    part: SnapshotPart,
    at: u64,
    count_max: u32,
    bytes_max: u32,
}

/// Too many snapshots are offered already. To be tried again later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{OFFERS_MAX} snapshots are under way already")]
pub struct OffersFull;

/// What the offers ask for.
#[derive(Debug, Default)]
pub struct OfferEffects {
    /// To be sent to the nodes that hold the receiving replicas. A chunk that there is no room for comes back through
    /// [`SnapshotOffers::handle_no_room`].
    pub messages: Vec<(ShardId, SnapshotMessage)>,
    /// To be run, and their answers to be given to [`SnapshotOffers::handle_read`]. At most one per offer is out.
    pub reads: Vec<SnapshotRead>,
    /// Offers that are over, for the shards that made them.
    pub ended: Vec<EndedOffer>,
}

impl OfferEffects {
    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.reads.is_empty() && self.ended.is_empty()
    }
}

/// An offer that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndedOffer {
    /// The shard.
    pub shard: ShardId,
    /// The replica that was to get it.
    pub to: ReplicaId,
    /// It has it.
    pub installed: bool,
    /// For the log.
    pub reason: String,
}

/// A read that is due, of one offer. It may wait for the disk.
#[derive(Debug)]
pub struct SnapshotRead {
    key: (ShardId, ReplicaId),
    id: SnapshotId,
    pull: Pull,
    source: Arc<dyn SnapshotSource>,
}

/// What a read has found.
#[derive(Debug)]
pub struct SnapshotAnswer {
    key: (ShardId, ReplicaId),
    id: SnapshotId,
    pull: Pull,
    result: Result<Run, SnapshotError>,
}

impl SnapshotRead {
    /// Does it.
    pub fn run(self) -> SnapshotAnswer {
        let Self { key, id, pull, source } = self;
        let Pull { part, at, count_max, bytes_max } = pull;
        let result = match part {
            SnapshotPart::Header => {
                let bytes = source.read_header(at as u32, count_max.min(bytes_max));
                Ok(Run { count: bytes.len() as u32, bytes })
            }
            SnapshotPart::Records => source.read(at, count_max, bytes_max),
        };
        SnapshotAnswer { key, id, pull, result }
    }
}

impl SnapshotOffers {
    /// No offers. `first_nonce` must be above all that this node has used before, also before its restart
    /// ([`crate::disk::Disk::fresh_number`] is). All chunks together take `bytes_per_second`.
    pub fn new(first_nonce: u64, bytes_per_second: u64) -> Self {
        Self {
            offers: BTreeMap::new(),
            budget: TokenBucket::new(bytes_per_second, BURST_MS),
            next_nonce: first_nonce,
            served_last: None,
            messages: Vec::new(),
            ended: Vec::new(),
            sent_bytes: 0,
        }
    }

    /// Bytes of headers and records that were sent so far, again and again included.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Whether a snapshot of the shard could be offered to that replica now. To be asked before one is made.
    pub fn has_room(&self, shard: ShardId, to: ReplicaId) -> bool {
        let busy = self.offers.values().filter(|offer| !offer.is_idle).count();
        busy < OFFERS_MAX && self.offers.len() < OFFERS_HELD_MAX || self.offers.contains_key(&(shard, to))
    }

    /// Offers a snapshot. It takes the place of the one that was offered to the same replica before, of which nothing
    /// more is heard. How it ends is told by [`OfferEffects::ended`].
    ///
    /// # Errors
    /// `OffersFull`; nothing is offered then.
    pub fn offer(
        &mut self,
        now: Nanos,
        shard: ShardId,
        from: ReplicaId,
        to: ReplicaId,
        source: Arc<dyn SnapshotSource>,
    ) -> Result<SnapshotId, OffersFull> {
        if !self.has_room(shard, to) {
            return Err(OffersFull);
        }
        let (term, index) = source.last();
        let id = SnapshotId { term, index, nonce: self.next_nonce };
        self.next_nonce += 1;
        info!(%shard, %to, %term, %index, records = source.records(), "offers a snapshot");
        let offer = Offer {
            from,
            id,
            source,
            pulls: VecDeque::new(),
            reading: None,
            held_back: false,
            offered_at: None,
            pulled_at: now,
            is_idle: false,
        };
        if let Some(replaced) = self.offers.insert((shard, to), offer) {
            self.give_back(&replaced);
        }
        self.repeat(now);
        Ok(id)
    }

    /// The replica of the shard is closed: what it offered is not offered any more, and nobody is told.
    pub fn withdraw(&mut self, shard: ShardId) {
        let of_shard: Vec<_> = self.offers.keys().filter(|key| key.0 == shard).copied().collect();
        for key in of_shard {
            if let Some(offer) = self.offers.remove(&key) {
                self.give_back(&offer);
            }
        }
    }

    /// A pull, or a follower's word on how it ended, has come; other messages are not for this side.
    pub fn handle_message(&mut self, now: Nanos, shard: ShardId, message: SnapshotMessage) {
        let SnapshotMessage { from: follower, to: me, id, body } = message;
        let key = (shard, follower);
        let known = self.offers.get_mut(&key).filter(|offer| offer.id == id && offer.from == me);
        match (body, known) {
            (SnapshotBody::Pull { part, at, count_max, bytes_max }, Some(offer)) => {
                offer.handle_pull(now, Pull { part, at, count_max, bytes_max: bytes_max.min(CHUNK_BYTES_MAX) });
            }
            (SnapshotBody::Pull { .. }, None) => {
                // It may have been forgotten, or offered before a restart: the follower need not wait for it.
                let body = SnapshotBody::End { installed: false, reason: "no such snapshot".to_owned() };
                self.messages.push((shard, SnapshotMessage { from: me, to: follower, id, body }));
            }
            (SnapshotBody::End { installed, reason }, Some(_)) => self.end(key, installed, reason),
            _ => {}
        }
    }

    /// Time has passed: repeats offers and forgets those that nobody wants.
    pub fn handle_tick(&mut self, now: Nanos) {
        let silent = |offer: &Offer| now.ms_since(offer.pulled_at) >= OFFER_FORGET_MS;
        let forgotten: Vec<_> = self.offers.iter().filter(|(_, offer)| silent(offer)).map(|(key, _)| *key).collect();
        for key in forgotten {
            self.end(key, false, "nobody pulls it".to_owned());
        }
        for offer in self.offers.values_mut() {
            offer.held_back = false;
            offer.is_idle = now.ms_since(offer.pulled_at) >= OFFER_IDLE_MS;
        }
        self.repeat(now);
    }

    /// A read is done.
    pub fn handle_read(&mut self, answer: SnapshotAnswer) {
        let SnapshotAnswer { key, id, pull, result } = answer;
        let Some(offer) = self.offers.get_mut(&key) else { return };
        if offer.id != id || offer.reading != Some(pull) {
            return;
        }
        offer.reading = None;
        let from = offer.from;
        self.budget.give_back(pull.bytes_max.into());
        let message = |body| (key.0, SnapshotMessage { from, to: key.1, id, body });
        match result {
            Ok(Run { bytes, count }) => {
                assert!(count > 0 && count <= pull.count_max, "a source reads what it is asked for");
                self.budget.take(bytes.len() as u64);
                self.sent_bytes += bytes.len() as u64;
                self.messages.push(message(SnapshotBody::Chunk { part: pull.part, at: pull.at, count, bytes }));
            }
            Err(error) => {
                warn!(shard = %key.0, to = %key.1, %error, "a snapshot can't be read");
                let reason = "the leader can't read it".to_owned();
                self.messages.push(message(SnapshotBody::End { installed: false, reason }));
                self.end(key, false, error.to_string());
            }
        }
    }

    /// A message of [`OfferEffects::messages`] could not be sent, because too much waits for the peer. A chunk is read
    /// again after the next tick; of others the follower or the next repetition takes care.
    pub fn handle_no_room(&mut self, shard: ShardId, message: &SnapshotMessage) {
        let SnapshotBody::Chunk { part, at, count, ref bytes } = message.body else { return };
        self.budget.give_back(bytes.len() as u64);
        self.sent_bytes = self.sent_bytes.saturating_sub(bytes.len() as u64);
        let Some(offer) = self.offers.get_mut(&(shard, message.to)).filter(|offer| offer.id == message.id) else {
            return;
        };
        offer.held_back = true;
        let pull = Pull { part, at, count_max: count, bytes_max: (bytes.len() as u32).min(CHUNK_BYTES_MAX) };
        if !offer.pulls.iter().any(|waiting| (waiting.part, waiting.at) == (part, at)) {
            offer.pulls.push_front(pull);
        }
    }

    /// An ending that the shard could not be told of: it is told again after the next tick.
    pub fn handle_untold(&mut self, ended: EndedOffer) {
        // A later offer's end says all there is to say.
        if !self.ended.iter().any(|known| (known.shard, known.to) == (ended.shard, ended.to)) {
            self.ended.push(ended);
        }
    }

    /// All chunks together take so many bytes per second from now on.
    pub fn set_rate(&mut self, bytes_per_second: u64) {
        self.budget.set_rate(bytes_per_second.max(1), BURST_MS);
    }

    /// What is to be done.
    pub fn poll(&mut self, now: Nanos) -> OfferEffects {
        let mut reads = Vec::new();
        while self.budget.has_any(now)
            && let Some(read) = self.next_read()
        {
            reads.push(read);
        }
        OfferEffects { messages: std::mem::take(&mut self.messages), reads, ended: std::mem::take(&mut self.ended) }
    }

    /// The next pull to be answered, of the offers in turn.
    fn next_read(&mut self) -> Option<SnapshotRead> {
        let is_ready = |offer: &Offer| offer.reading.is_none() && !offer.held_back && !offer.pulls.is_empty();
        let mut ready = self.offers.iter().filter(|(_, offer)| is_ready(offer)).map(|(key, _)| *key);
        let first = ready.next()?;
        let key = match self.served_last {
            Some(last) if first <= last => ready.find(|key| *key > last).unwrap_or(first),
            _ => first,
        };
        let offer = self.offers.get_mut(&key)?;
        let pull = offer.pulls.pop_front()?;
        offer.reading = Some(pull);
        self.served_last = Some(key);
        self.budget.take(pull.bytes_max.into());
        Some(SnapshotRead { key, id: offer.id, pull, source: Arc::clone(&offer.source) })
    }

    fn repeat(&mut self, now: Nanos) {
        for (&(shard, to), offer) in &mut self.offers {
            if offer.is_silent(now) {
                offer.offered_at = Some(now);
                let (header_bytes, records) = (offer.source.header_bytes(), offer.source.records());
                let body = SnapshotBody::Offer { header_bytes, records };
                self.messages.push((shard, SnapshotMessage { from: offer.from, to, id: offer.id, body }));
            }
        }
    }

    fn end(&mut self, key: (ShardId, ReplicaId), installed: bool, reason: String) {
        if let Some(offer) = self.offers.remove(&key) {
            self.give_back(&offer);
            info!(shard = %key.0, to = %key.1, installed, reason, "a snapshot's offer is over");
            self.ended.push(EndedOffer { shard: key.0, to: key.1, installed, reason });
        }
    }

    /// What an offer that is over had set aside for a read whose answer is not sent any more.
    fn give_back(&mut self, offer: &Offer) {
        self.budget.give_back(offer.reading.map_or(0, |pull| pull.bytes_max.into()));
    }
}

impl Offer {
    fn handle_pull(&mut self, now: Nanos, pull: Pull) {
        (self.pulled_at, self.is_idle) = (now, false);
        let units = match pull.part {
            SnapshotPart::Header => self.source.header_bytes().into(),
            SnapshotPart::Records => self.source.records(),
        };
        // At the end it is a sign of life, and nothing to be answered.
        if pull.at >= units || pull.count_max == 0 || pull.bytes_max == 0 {
            return;
        }
        // A follower that became impatient asks again for what is about to be answered.
        let same = |known: &Pull| (known.part, known.at) == (pull.part, pull.at);
        let is_known = self.reading.as_ref().is_some_and(same) || self.pulls.iter().any(same);
        if !is_known && self.pulls.len() < PULLS_WAITING_MAX {
            self.pulls.push_back(pull);
        }
    }

    /// Nobody has pulled or been told of it for a while, and no answer is due.
    fn is_silent(&self, now: Nanos) -> bool {
        let quiet = |at: Nanos| now.ms_since(at) >= OFFER_REPEAT_MS;
        let is_idle = self.pulls.is_empty() && self.reading.is_none();
        match self.offered_at {
            None => true,
            Some(offered_at) => is_idle && quiet(offered_at) && quiet(self.pulled_at),
        }
    }
}
