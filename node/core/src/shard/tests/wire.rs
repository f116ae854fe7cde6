//! What a sealed shard gives to the network, before nodes encrypt it on its way: no key and no value in the clear.

use super::offering::Offers;
use super::*;
use crate::sealing::testing::sealed;
use crate::shard::offering::Offering;
use crate::snapshot::SnapshotOffers;
use crate::store::CaptureSlice;
use bytes::BytesMut;
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotMessage, SnapshotPart};

/// How many keys and values are planted.
const PLANTED: usize = 1_000;
/// What keys and values begin with, those that others replace among them.
const MARKS: [&str; 3] = ["planted-key-", "planted-value-", "planted-before-"];

fn encoded(message: &PeerMessage) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.into()
}

/// Plants keys and values. One in ten is long, and one in four replaces another, which its answer remembers.
fn plant(group: &mut Group) {
    for number in 0..PLANTED {
        let key = format!("planted-key-{number}");
        if number.is_multiple_of(4) {
            group.written(0, &key, put(&format!("planted-before-{number}")));
        }
        let long = if number.is_multiple_of(10) { 30 } else { 1 };
        let action = put(&format!("planted-value-{number};").repeat(long));
        let mutation = Mutation { return_previous: ReturnPrevious::Entry, ..mutation(&key, action) };
        let id = group.fresh_id();
        let ticket = group.request(0, Operation::Write { client: client(), id, ack: Ack::Committed, mutation });
        group.settle();
        assert!(matches!(group.replies.get(&ticket), Some(ShardReply::Written(_))), "{key}");
    }
}

/// The messages of consensus: entries as they are proposed, and again from the log for a follower that was away.
fn entries_sent(group: &mut Group) -> Vec<Vec<u8>> {
    group.sent = Some(Vec::new());
    group.cut.insert(2);
    plant(group);
    group.cut.clear();
    group.advance(30 * TICK_MS);
    assert!(group.value(2, &format!("planted-key-{}", PLANTED - 1)).is_some(), "who was away has caught up");
    let sent = group.sent.take().expect("it was asked for");
    sent.into_iter().map(|message| encoded(&PeerMessage::Raft(ShardId(3), message))).collect()
}

/// A snapshot, as a follower pulls it.
fn snapshot_sent(group: &mut Group) -> Vec<Vec<u8>> {
    let kept = Offers::default();
    let mut offering = Offering::new(CaptureSlice { pairs: 100, session_bytes: 1 << 20 });
    offering.want(vec![id(1)]);
    while offering.is_at_work() {
        offering.go_on(group.shard(0), &kept);
    }
    let (to, source) = kept.offered.lock().pop().expect("there is room");
    let (parts, now) = ([u64::from(source.header_bytes()), source.records()], group.now.monotonic);
    let mut offers = SnapshotOffers::new(1, 1 << 40);
    let snapshot = offers.offer(now, ShardId(3), id(0), to, source).expect("there is room");
    let (mut sent, mut at) = (Vec::new(), [0, 0]);
    while at != parts {
        let part = if at[0] < parts[0] { SnapshotPart::Header } else { SnapshotPart::Records };
        let place = &mut at[usize::from(part == SnapshotPart::Records)];
        let body = SnapshotBody::Pull { part, at: *place, count_max: 100, bytes_max: 10_000 };
        offers.handle_message(now, ShardId(3), SnapshotMessage { from: to, to: id(0), id: snapshot, body });
        let due = offers.poll(now);
        due.reads.into_iter().for_each(|read| offers.handle_read(read.run()));
        for (shard, message) in due.messages.into_iter().chain(offers.poll(now).messages) {
            if let SnapshotBody::Chunk { count, .. } = &message.body {
                *place += u64::from(*count);
            }
            sent.push(encoded(&PeerMessage::Snapshot(shard, message)));
        }
    }
    sent
}

/// How many messages hold a mark.
fn found(messages: &[Vec<u8>], mark: &str) -> usize {
    let holds = |bytes: &&Vec<u8>| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    messages.iter().filter(holds).count()
}

#[test]
fn nothing_in_the_clear_is_given_to_the_network() {
    sealed(|| {
        let mut group = Group::led();
        for (what, messages) in [("entries", entries_sent(&mut group)), ("a snapshot", snapshot_sent(&mut group))] {
            assert!(messages.iter().map(Vec::len).sum::<usize>() > PLANTED * 50, "{what} holds all of it");
            for mark in MARKS {
                assert_eq!(found(&messages, mark), 0, "{mark} in {what}");
            }
        }
    });
}

#[test]
fn what_is_plain_is_found_on_the_network() {
    let mut group = Group::led();
    let (entries, snapshot) = (entries_sent(&mut group), snapshot_sent(&mut group));
    for mark in MARKS {
        assert!(found(&entries, mark) >= PLANTED / 4, "{mark} in entries");
        assert!(found(&snapshot, mark) > 0, "{mark} in a snapshot");
    }
}
