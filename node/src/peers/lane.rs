//! A lane: one stream of frames to a peer, and one from it, each with a bound on what it may hold.
//!
//! Whoever sends encodes its message straight into the lane's buffer and goes on. The writer takes the whole buffer
//! whenever QUIC has taken what it took before, so batches grow with the load and nobody waits for a timer.
//!
//! Large messages go by a lane of their own, of the lowest priority, and in parts, so that neither the network nor a
//! thread is busy with one of them for long while heartbeats and small entries wait.

use super::limits::{
    BULK_LINGER, BULK_OUTBOUND_BYTES_MAX, BULK_PARTS_AT_ONCE, CONSENSUS_OUTBOUND_BYTES_MAX, FORWARD_FRAME_BYTES_MAX,
    FORWARD_OUTBOUND_BYTES_MAX, READ_CHUNKS_MAX, SNAPSHOT_FRAME_BYTES_MAX,
};
use bytes::{Bytes, BytesMut};
use kvorum_core::ring::MapPrefix;
use kvorum_core::routing::network::{BULK_MESSAGE_BYTES, SNAPSHOT_OUTBOUND_BYTES_MAX, SendError};
use kvorum_protocol::limits::{FRAME_HEADER_BYTES, PEER_FRAME_BYTES_MAX};
use kvorum_protocol::part::{Assembler, PART_FRAME_BYTES_MAX, Parts};
use kvorum_protocol::peer::{PeerMessage, RaftMessageKind};
use kvorum_protocol::{DecodeError, ShardId, frame};
use parking_lot::Mutex;
use quinn::{ReadError, RecvStream};
use std::array;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

/// From this feature level of the cluster on large ring maps go by the bulk lane.
const BULK_MAP_LEVEL: u16 = 2;

/// What a stream carries. Its number is the stream's index among those its sender has opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Consensus messages; goes first when both have something to send.
    Consensus = 0,
    /// Forwarded requests and their replies.
    Forward = 1,
    /// Snapshots; gives way to the others.
    Snapshot = 2,
    /// Large consensus messages, large replies and large ring maps; gives way to all but snapshots.
    Bulk = 3,
}

impl Lane {
    pub(super) const ALL: [Self; 4] = [Self::Consensus, Self::Forward, Self::Snapshot, Self::Bulk];

    /// What it is called where it is shown.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Forward => "forward",
            Self::Snapshot => "snapshot",
            Self::Bulk => "bulk",
        }
    }

    /// The lane of a peer's stream, by its index among those that the peer has opened.
    pub(super) fn of_stream(index: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u64 == index)
    }

    /// The lane of a message by itself; `None` for a hello, which only the handshake sends.
    ///
    /// Forwarded requests are never bulk, however large: those of one client for one key must stay in their order.
    pub(super) fn of(message: &PeerMessage) -> Option<Self> {
        let is_large = || message.bytes_about() > BULK_MESSAGE_BYTES;
        match message {
            PeerMessage::Raft(..) | PeerMessage::ForwardReply { .. } if is_large() => Some(Self::Bulk),
            PeerMessage::Ring(map) if is_large() && may_be_bulk(map) => Some(Self::Bulk),
            PeerMessage::AuthTable(_) => Some(Self::Bulk),
            PeerMessage::Raft(..)
            | PeerMessage::Leading(_)
            | PeerMessage::Ring(_)
            | PeerMessage::AuthNews { .. }
            | PeerMessage::AuthWanted
            | PeerMessage::DataKeys { .. }
            | PeerMessage::MapAsked { .. }
            | PeerMessage::MapIs { .. }
            | PeerMessage::Report(_)
            | PeerMessage::Unfit(_)
            | PeerMessage::Clock(_) => Some(Self::Consensus),
            PeerMessage::Forward { .. }
            | PeerMessage::Trace { .. }
            | PeerMessage::ForwardReply { .. }
            | PeerMessage::Returned { .. } => Some(Self::Forward),
            PeerMessage::Snapshot(..) => Some(Self::Snapshot),
            PeerMessage::Hello(_) | PeerMessage::Unknown { .. } => None,
        }
    }

    /// Whether the message may come by this lane.
    pub(super) fn carries(self, message: &PeerMessage) -> bool {
        match message {
            PeerMessage::Raft(..) | PeerMessage::Ring(_) => matches!(self, Self::Consensus | Self::Bulk),
            PeerMessage::AuthTable(_) => self == Self::Bulk,
            PeerMessage::Leading(_)
            | PeerMessage::AuthNews { .. }
            | PeerMessage::AuthWanted
            | PeerMessage::DataKeys { .. }
            | PeerMessage::MapAsked { .. }
            | PeerMessage::MapIs { .. }
            | PeerMessage::Report(_)
            | PeerMessage::Unfit(_)
            | PeerMessage::Clock(_) => self == Self::Consensus,
            PeerMessage::Forward { .. } | PeerMessage::Trace { .. } | PeerMessage::Returned { .. } => {
                self == Self::Forward
            }
            PeerMessage::ForwardReply { .. } => matches!(self, Self::Forward | Self::Bulk),
            PeerMessage::Snapshot(..) => self == Self::Snapshot,
            // What a newer version sends by which lane is not known here.
            PeerMessage::Unknown { .. } => true,
            PeerMessage::Hello(_) => false,
        }
    }

    /// The stream's priority within its connection.
    pub(super) fn priority(self) -> i32 {
        match self {
            Self::Consensus => 1,
            Self::Forward => 0,
            Self::Bulk => -1,
            Self::Snapshot => -2,
        }
    }

    /// Largest message, in bytes.
    pub(super) fn message_bytes_max(self) -> usize {
        match self {
            Self::Consensus | Self::Bulk => PEER_FRAME_BYTES_MAX,
            Self::Forward => FORWARD_FRAME_BYTES_MAX,
            Self::Snapshot => SNAPSHOT_FRAME_BYTES_MAX,
        }
    }

    /// Largest frame body, in bytes.
    pub(super) fn frame_bytes_max(self) -> usize {
        match self {
            Self::Consensus | Self::Forward | Self::Snapshot => self.message_bytes_max(),
            Self::Bulk => PART_FRAME_BYTES_MAX - FRAME_HEADER_BYTES,
        }
    }

    fn outbound_bytes_max(self) -> usize {
        match self {
            Self::Consensus => CONSENSUS_OUTBOUND_BYTES_MAX,
            Self::Forward => FORWARD_OUTBOUND_BYTES_MAX,
            Self::Snapshot => SNAPSHOT_OUTBOUND_BYTES_MAX,
            Self::Bulk => BULK_OUTBOUND_BYTES_MAX,
        }
    }
}

/// Whether every node of the cluster takes this ring map on the bulk lane. A node of 0.1.0, which has no part in a cluster of that level,
/// would end the connection.
fn may_be_bulk(map: &[u8]) -> bool {
    MapPrefix::read(map).and_then(|first| first.level).is_some_and(|level| level >= BULK_MAP_LEVEL)
}

/// Which shards' appends go by the bulk lane because a large one did a moment ago.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    any: AtomicBool,
    until: Mutex<HashMap<ShardId, Instant>>,
}

impl Lingering {
    /// The lane that a message takes: its own, or that of the large ones that it follows.
    pub(super) fn lane(&self, message: &PeerMessage) -> Option<Lane> {
        let lane = Lane::of(message);
        let PeerMessage::Raft(shard, raft) = message else { return lane };
        if raft.kind != RaftMessageKind::Append {
            return lane;
        }
        if lane == Some(Lane::Bulk) {
            self.until.lock().insert(*shard, Instant::now() + BULK_LINGER);
            self.any.store(true, Ordering::Release);
        } else if self.any.load(Ordering::Acquire) && self.lingers(*shard) {
            return Some(Lane::Bulk);
        }
        lane
    }

    fn lingers(&self, shard: ShardId) -> bool {
        let mut until = self.until.lock();
        let now = Instant::now();
        until.retain(|_, until| *until > now);
        self.any.store(!until.is_empty(), Ordering::Release);
        until.contains_key(&shard)
    }
}

/// What waits to be written to one peer on one lane. It outlives connections, and is closed and empty between them.
pub(super) struct Outbound {
    lane: Lane,
    bytes_max: usize,
    state: Mutex<OutboundState>,
    filled: Notify,
}

#[derive(Default)]
struct OutboundState {
    open: bool,
    /// Whole frames that nobody writes yet.
    waiting: BytesMut,
    /// Of the bulk lane: messages that have not all become parts. What they carry is not copied.
    bulk: VecDeque<Parts>,
    /// Bytes of those.
    bulk_bytes: usize,
    /// Bytes that the writer has taken and QUIC has not.
    writing: usize,
}

impl OutboundState {
    fn waiting_bytes(&self) -> usize {
        self.waiting.len() + self.bulk_bytes
    }

    /// The next few parts of the bulk messages.
    fn take_parts(&mut self) -> Bytes {
        let mut out = BytesMut::with_capacity(BULK_PARTS_AT_ONCE * PART_FRAME_BYTES_MAX);
        for _ in 0..BULK_PARTS_AT_ONCE {
            let Some(first) = self.bulk.front_mut() else { break };
            let before = first.left();
            first.encode_next(&mut out);
            self.bulk_bytes -= before - first.left();
            if first.left() == 0 {
                self.bulk.pop_front();
            }
        }
        out.freeze()
    }
}

impl Outbound {
    /// Bytes that wait to be sent, or are being written.
    pub(super) fn bytes(&self) -> usize {
        let state = self.state.lock();
        state.waiting_bytes() + state.writing
    }

    pub(super) fn new(lane: Lane) -> Self {
        Self::with_limit(lane, lane.outbound_bytes_max())
    }

    fn with_limit(lane: Lane, bytes_max: usize) -> Self {
        Self { lane, bytes_max, state: Mutex::default(), filled: Notify::new() }
    }

    /// Encodes messages of this lane under one lock and wakes the writer once. It stops at the first that doesn't fit;
    /// those before it are sent. An empty lane takes a message of any size that a frame may have.
    pub(super) fn push<'a>(&self, messages: impl IntoIterator<Item = &'a PeerMessage>) -> Result<(), SendError> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(SendError::Disconnected);
        }
        let before = state.waiting_bytes();
        let result = messages.into_iter().try_for_each(|message| match self.lane {
            Lane::Bulk => self.append_bulk(&mut state, message),
            Lane::Consensus | Lane::Forward | Lane::Snapshot => self.append(&mut state, message),
        });
        let wake = before == 0 && state.waiting_bytes() > 0;
        drop(state);
        // While anything waited before, a wake-up for it is still to be taken, and that one takes this as well.
        if wake {
            self.filled.notify_one();
        }
        result
    }

    fn append(&self, state: &mut OutboundState, message: &PeerMessage) -> Result<(), SendError> {
        let start = state.waiting.len();
        if start + state.writing >= self.bytes_max {
            return Err(SendError::Full);
        }
        let bytes = frame::encode(&mut state.waiting, |out| message.encode(out));
        let verdict = if bytes > self.lane.message_bytes_max() + FRAME_HEADER_BYTES {
            Err(SendError::TooLarge)
        } else if start + state.writing > 0 && start + bytes + state.writing > self.bytes_max {
            Err(SendError::Full)
        } else {
            return Ok(());
        };
        state.waiting.truncate(start);
        verdict
    }

    fn append_bulk(&self, state: &mut OutboundState, message: &PeerMessage) -> Result<(), SendError> {
        let parts = Parts::new(message.encode_pieces());
        let bytes = parts.left();
        if bytes > self.lane.message_bytes_max() {
            return Err(SendError::TooLarge);
        }
        // Answers to what was passed on may be asked for without end. Replication goes by this lane, too, and must find room.
        let is_answer = matches!(message, PeerMessage::ForwardReply { .. });
        let bytes_max = if is_answer { self.bytes_max / 2 } else { self.bytes_max };
        if state.bulk_bytes + bytes + state.writing > bytes_max {
            return Err(SendError::Full);
        }
        state.bulk_bytes += bytes;
        state.bulk.push_back(parts);
        Ok(())
    }

    /// Lets messages in, for a connection that begins.
    pub(super) fn open(&self) {
        let mut state = self.state.lock();
        assert!(!state.open && state.waiting_bytes() == 0 && state.writing == 0, "one connection at a time");
        state.open = true;
    }

    /// Lets no more messages in and drops those that wait, at the end of a connection. All memory goes with them.
    pub(super) fn close(&self) {
        *self.state.lock() = OutboundState::default();
    }

    /// Waits until something waits. What was taken before counts as written now. There must be only one who waits and takes.
    pub(super) async fn filled(&self) {
        self.state.lock().writing = 0;
        while self.state.lock().waiting_bytes() == 0 {
            self.filled.notified().await;
        }
    }

    /// Takes all that waits, or a few parts of it: whole frames.
    pub(super) fn take(&self) -> Bytes {
        let mut state = self.state.lock();
        let taken = if state.bulk.is_empty() { state.waiting.split().freeze() } else { state.take_parts() };
        state.writing = taken.len();
        taken
    }

    /// Puts bytes in that are no frames.
    #[cfg(test)]
    pub(super) fn push_bytes(&self, bytes: &[u8]) {
        self.state.lock().waiting.extend_from_slice(bytes);
        self.filled.notify_one();
    }
}

/// Why no further message can be read from a lane. Each ends the connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    /// The bytes are not what the protocol says.
    #[error("the peer sent what is no message: {0}")]
    Garbage(#[from] DecodeError),
    /// A message where it does not belong.
    #[error("the peer sent a message on the wrong stream")]
    WrongLane,
    /// The stream is over, with its connection or before it.
    #[error("the stream ended: {0}")]
    Ended(#[from] ReadError),
    /// The peer finished the stream.
    #[error("the peer finished the stream")]
    Finished,
}

/// Frames that come from a peer on one lane. It holds at most one incomplete frame, and what QUIC hands over at once.
pub(super) struct Inbound {
    stream: RecvStream,
    buffer: BytesMut,
    /// Of the bulk lane: its messages come in parts.
    assembler: Option<Assembler>,
    chunks: [Bytes; READ_CHUNKS_MAX],
}

impl Inbound {
    pub(super) fn new(stream: RecvStream) -> Self {
        let chunks = array::from_fn(|_| Bytes::new());
        Self { stream, buffer: BytesMut::new(), assembler: None, chunks }
    }

    /// Of the bulk lane.
    pub(super) fn in_parts(stream: RecvStream) -> Self {
        Self { assembler: Some(Assembler::new(PEER_FRAME_BYTES_MAX)), ..Self::new(stream) }
    }

    /// The next whole message that has arrived already.
    pub(super) fn next_arrived(&mut self, frame_bytes_max: usize) -> Result<Option<PeerMessage>, LaneError> {
        while let Some(body) = frame::decode(&mut self.buffer, frame_bytes_max)? {
            let whole = match &mut self.assembler {
                Some(assembler) => assembler.handle(body)?,
                None => Some(body),
            };
            if let Some(body) = whole {
                return Ok(Some(PeerMessage::decode(body)?));
            }
        }
        Ok(None)
    }

    /// Waits for more bytes. A frame that announces much gets memory as its bytes come, not before.
    pub(super) async fn fill(&mut self) -> Result<(), LaneError> {
        let count = self.stream.read_chunks(&mut self.chunks).await?.ok_or(LaneError::Finished)?;
        let arrived = &mut self.chunks[..count];
        self.buffer.reserve(arrived.iter().map(Bytes::len).sum());
        for chunk in arrived {
            self.buffer.extend_from_slice(chunk);
            *chunk = Bytes::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::peer::{RaftEntry, RaftEntryKind, RaftMessage};
    use kvorum_protocol::{LogIndex, ReplicaId, Term};

    fn message(shards: u16) -> PeerMessage {
        PeerMessage::Leading((0..shards).map(|shard| (ShardId(shard), Term(1))).collect())
    }

    fn framed_length(message: &PeerMessage) -> usize {
        frame::encode(&mut BytesMut::new(), |out| message.encode(out))
    }

    fn lane(bytes_max: usize) -> Outbound {
        Outbound::with_limit(Lane::Consensus, bytes_max)
    }

    async fn take(lane: &Outbound) -> Bytes {
        lane.filled().await;
        lane.take()
    }

    #[tokio::test]
    async fn what_was_pushed_is_taken_whole_and_in_order() {
        let lane = lane(1 << 20);
        lane.open();
        lane.push([&message(1), &message(2)]).unwrap();
        lane.push([&message(3)]).unwrap();
        let mut taken = BytesMut::from(&take(&lane).await[..]);
        for shards in 1..=3 {
            let body = frame::decode(&mut taken, 1 << 20).unwrap().unwrap();
            assert_eq!(PeerMessage::decode(body).unwrap(), message(shards));
        }
        assert!(taken.is_empty());
    }

    #[tokio::test]
    async fn the_bound_counts_what_waits_and_what_is_being_written() {
        let one = framed_length(&message(4));
        let lane = lane(2 * one);
        lane.open();
        lane.push([&message(4)]).unwrap();
        assert_eq!(take(&lane).await.len(), one);
        lane.push([&message(4)]).unwrap();
        assert_eq!(lane.push([&message(4)]), Err(SendError::Full), "one waits, one is being written");
        assert_eq!(take(&lane).await.len(), one, "the refused message left nothing behind");
        lane.push([&message(4)]).unwrap();
    }

    #[tokio::test]
    async fn a_batch_stops_where_it_no_longer_fits() {
        let one = framed_length(&message(4));
        let lane = lane(2 * one + one / 2);
        lane.open();
        assert_eq!(lane.push([&message(4), &message(4), &message(4)]), Err(SendError::Full));
        assert_eq!(take(&lane).await.len(), 2 * one);
    }

    #[test]
    fn a_closed_lane_takes_nothing_and_forgets_what_waited() {
        let lane = lane(1 << 20);
        assert_eq!(lane.push([&message(1)]), Err(SendError::Disconnected));
        lane.open();
        lane.push([&message(1)]).unwrap();
        lane.close();
        assert_eq!(lane.push([&message(1)]), Err(SendError::Disconnected));
        lane.open();
        assert!(lane.state.lock().waiting.is_empty());
    }

    #[test]
    fn a_message_over_the_frame_limit_is_refused_for_good() {
        let lane = Outbound::new(Lane::Forward);
        lane.open();
        let huge = PeerMessage::ForwardReply { id: 1, response: Bytes::from(vec![0; FORWARD_FRAME_BYTES_MAX]) };
        assert_eq!(lane.push([&huge]), Err(SendError::TooLarge));
        assert!(lane.state.lock().waiting.is_empty());
    }

    fn append(shard: u16, bytes: usize) -> PeerMessage {
        let entry = RaftEntry {
            term: Term(1),
            index: LogIndex(1),
            kind: RaftEntryKind::Operations,
            payload: Bytes::from(vec![7; bytes]),
        };
        let message = RaftMessage {
            kind: RaftMessageKind::Append,
            from: ReplicaId(1),
            to: ReplicaId(2),
            term: Term(1),
            log_term: Term(1),
            index: LogIndex(0),
            commit: LogIndex(0),
            commit_term: Term(0),
            reject: false,
            reject_hint: LogIndex(0),
            priority: 0,
            lease_stamp: 0,
            log_time_ms: 0,
            context: Bytes::new(),
            entries: vec![entry],
        };
        PeerMessage::Raft(ShardId(shard), message)
    }

    #[test]
    fn appends_stay_behind_a_large_one_of_their_shard() {
        let lingering = Lingering::default();
        assert_eq!(lingering.lane(&append(1, 10)), Some(Lane::Consensus));
        assert_eq!(lingering.lane(&append(1, BULK_MESSAGE_BYTES + 1)), Some(Lane::Bulk));
        assert_eq!(lingering.lane(&append(1, 10)), Some(Lane::Bulk));
        assert_eq!(lingering.lane(&append(2, 10)), Some(Lane::Consensus));
        let PeerMessage::Raft(shard, mut heartbeat) = append(1, 0) else { panic!("it is one") };
        heartbeat.kind = RaftMessageKind::Heartbeat;
        assert_eq!(lingering.lane(&PeerMessage::Raft(shard, heartbeat)), Some(Lane::Consensus));
    }

    #[test]
    fn a_large_ring_map_holds_up_no_heartbeat_unless_a_node_may_not_take_it_elsewhere() {
        let map = |level: u16, bytes: usize| {
            let text = format!("{{\"epoch\":7,\"level\":{level},\"more\":\"{}\"}}", "x".repeat(bytes));
            PeerMessage::Ring(text.into())
        };
        assert_eq!(Lane::of(&map(2, BULK_MESSAGE_BYTES)), Some(Lane::Bulk));
        assert_eq!(Lane::of(&map(2, 100)), Some(Lane::Consensus));
        assert_eq!(Lane::of(&map(1, BULK_MESSAGE_BYTES)), Some(Lane::Consensus));
        let other = PeerMessage::Ring(vec![b' '; 2 * BULK_MESSAGE_BYTES].into());
        assert_eq!(Lane::of(&other), Some(Lane::Consensus));
        assert!([Lane::Consensus, Lane::Bulk].into_iter().all(|lane| lane.carries(&other)));
        assert!([Lane::Forward, Lane::Snapshot].into_iter().all(|lane| !lane.carries(&other)));
    }

    #[tokio::test]
    async fn bulk_messages_leave_a_few_parts_at_a_time_and_in_order() {
        let (first, second) = (append(1, 2 << 20), append(1, 10));
        let lane = Outbound::with_limit(Lane::Bulk, 3 << 20);
        lane.open();
        lane.push([&first, &second]).unwrap();
        assert_eq!(lane.push([&first]), Err(SendError::Full));
        let mut assembler = Assembler::new(PEER_FRAME_BYTES_MAX);
        let mut arrived = Vec::new();
        while arrived.len() < 2 {
            let mut taken = BytesMut::from(&take(&lane).await[..]);
            assert!(taken.len() <= BULK_PARTS_AT_ONCE * PART_FRAME_BYTES_MAX);
            while let Some(body) = frame::decode(&mut taken, Lane::Bulk.frame_bytes_max()).unwrap() {
                arrived.extend(assembler.handle(body).unwrap().map(|body| PeerMessage::decode(body).unwrap()));
            }
        }
        assert_eq!(arrived, [first.clone(), second]);
        assert_eq!(lane.state.lock().bulk_bytes, 0);
        lane.push([&first]).unwrap();
    }

    #[tokio::test]
    async fn an_empty_lane_takes_a_frame_over_its_bound_and_nothing_behind_it() {
        let lane = lane(framed_length(&message(4)) - 1);
        lane.open();
        lane.push([&message(4)]).unwrap();
        assert_eq!(lane.push([&message(0)]), Err(SendError::Full), "it waits");
        take(&lane).await;
        assert_eq!(lane.push([&message(0)]), Err(SendError::Full), "it is being written");
    }

    #[tokio::test]
    async fn a_waiting_writer_is_woken() {
        let lane = std::sync::Arc::new(lane(1 << 20));
        lane.open();
        let writer = tokio::spawn({
            let lane = lane.clone();
            async move { take(&lane).await.len() }
        });
        tokio::task::yield_now().await;
        lane.push([&message(1)]).unwrap();
        assert_eq!(writer.await.unwrap(), framed_length(&message(1)));
    }
}
