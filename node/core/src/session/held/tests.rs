//! A session whose router knows leaders on other nodes: what is passed on, in which order, and what is held.

use super::*;
use crate::clock::{Clock, Now};
use crate::limits::FORWARD_GRACE_MS;
use crate::measure::meter::{Door, Finished, Meter};
use crate::measure::tracing::{TracedRequest, Tracer};
use crate::ring::verbs::Verb;
use crate::ring::{RingMap, RingNode};
use crate::routing::network::{PeerNetwork, SendError};
use crate::routing::router::PASSED_ON_BYTES_MAX;
use crate::session::reply::ReplyTo;
use crate::session::{Answered, Inline, NodeAdmin, SessionContext};
use bytes::{Bytes, BytesMut};
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{
    Ack, Action, AtomicRequest, AuthVerb, Authority, AuthorityHash, ClientId, ClusterId, Condition, Durability, Epoch,
    LogLevelAsk, LogLevelView, Mutation, NodeId, Request, RequestId, Response, ResponseBody, ReturnPrevious, SpanId,
    StatusScope, TimeToLive, TraceContext, TraceId, WriteId,
};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

#[derive(Default)]
struct ManualClock(AtomicU64);

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall_ms: 1_700_000_000_000, agreed_ms: None }
    }

    fn monotonic(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Keeps what is sent.
#[derive(Default)]
struct Sent(Mutex<Vec<(NodeId, PeerMessage)>>);

impl PeerNetwork for Sent {
    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendError> {
        self.0.lock().push((to, message.clone()));
        Ok(())
    }

    fn up(&self) -> Vec<NodeId> {
        vec![node(2), node(3)]
    }

    fn is_up(&self, _node: NodeId) -> bool {
        true
    }

    fn cut(&self, _cut: bool) {}
}

struct NoAdmin;

impl NodeAdmin for NoAdmin {
    fn answer_status(self: Arc<Self>, _scope: StatusScope, _wait: Duration, _reply_to: ReplyTo) {}

    fn transfer(self: Arc<Self>, _shard: ShardId, _to: NodeId, _reply_to: ReplyTo) {}

    fn ask(self: Arc<Self>, _verb: Verb, _wait: Duration, _reply_to: ReplyTo) {}

    fn plan(self: Arc<Self>, _verb: Option<Verb>, _wait: Duration, _reply_to: ReplyTo) {}

    fn change_auth(self: Arc<Self>, _verb: AuthVerb, _wait: Duration, _reply_to: ReplyTo) {}

    fn authority(&self) -> Authority {
        Authority { cluster: ClusterId(Uuid::nil()), hash: AuthorityHash([0; 32]) }
    }

    fn log_level(&self, _ask: LogLevelAsk) -> Option<LogLevelView> {
        None
    }

    fn stop_node(&self) {}
}

fn node(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

/// Counts the requests that wait.
#[derive(Default)]
struct Waiting(AtomicI64);

impl Meter for Waiting {
    fn finished(&self, finished: &Finished) {
        self.0.fetch_sub(i64::from(finished.waited), Ordering::Relaxed);
    }

    fn waits(&self, _door: Door) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn abandoned(&self, _door: Door, requests: usize) {
        self.0.fetch_sub(requests as i64, Ordering::Relaxed);
    }
}

/// A session of node 1.
struct Entered {
    router: Arc<Router>,
    clock: Arc<ManualClock>,
    sent: Arc<Sent>,
    waiting: Arc<Waiting>,
    session: Session<u32>,
    next: u32,
    answers: Vec<(u32, ResponseBody)>,
}

impl Entered {
    fn new() -> Self {
        Self::through(Door::Binary)
    }

    fn through(door: Door) -> Self {
        let waiting = Arc::<Waiting>::default();
        let nodes = (1..=3).map(|number| RingNode::new(node(number).0, format!("node-{number}")));
        let cluster = ClusterId(Uuid::from_u128(9));
        let ring = RingMap::initial(cluster, Durability::Fsync, nodes.collect(), 1, 3).unwrap();
        let (clock, sent) = (Arc::<ManualClock>::default(), Arc::<Sent>::default());
        let router = Router::new(node(1), ring, Arc::clone(&clock) as _, 1);
        router.set_peers(Arc::clone(&sent) as _);
        let context = SessionContext {
            router: Arc::clone(&router),
            admin: Arc::new(NoAdmin),
            offload: Arc::new(Inline),
            fault_hooks: false,
            meter: Arc::clone(&waiting) as _,
        };
        let session = Session::new(Arc::new(context), door);
        Self { router, clock, sent, waiting, session, next: 0, answers: Vec::new() }
    }

    fn leads(&self, number: u128, term: u64) {
        self.router.peer_leads(node(number), &[(ShardId(0), Term(term))]);
    }

    fn ask(&mut self, body: RequestBody) -> u32 {
        self.next += 1;
        let now = self.clock.monotonic();
        let answers = &mut self.answers;
        let request = Request { id: RequestId(self.next), deadline_ms: 5_000, body };
        self.session.handle(ClientId(Uuid::from_u128(7)), self.next, now, request, &mut |answered| {
            let Answered { origin, body, .. } = answered;
            answers.push((origin, body));
        });
        self.next
    }

    fn put(&mut self, key: &str, value: &str) -> u32 {
        let id = WriteId { sequence: u64::from(self.next) + 1, first_unanswered: 1, retry: false, once: None };
        self.ask(RequestBody::Write { id, ack: Ack::Committed, mutation: mutation(key, value) })
    }

    fn get(&mut self, key: &str) -> u32 {
        self.ask(RequestBody::Get { key: Bytes::copy_from_slice(key.as_bytes()), mode: ReadMode::Linearizable })
    }

    fn collect(&mut self) {
        let answers = &mut self.answers;
        self.session.collect(&mut |answered| answers.push((answered.origin, answered.body)));
    }

    /// What was passed on since this was last called: to which node, in which term, the forward's id, and the request.
    fn passed_on(&self) -> Vec<(NodeId, Term, u64, Bytes)> {
        let sent = std::mem::take(&mut *self.sent.0.lock());
        let forwards = sent.into_iter().map(|(to, message)| match message {
            PeerMessage::Forward { id, term, request, .. } => (to, term, id, request),
            other => panic!("{other:?}"),
        });
        forwards.collect()
    }

    fn returned(&mut self, from: u128, id: u64, request: &Bytes) {
        self.router.forward_returned(node(from), id, request.clone());
        self.collect();
    }

    fn passes(&self, ms: u64) {
        let now = self.clock.monotonic().after_ms(ms);
        self.clock.0.store(now.0, Ordering::Relaxed);
        self.router.give_up_late(now);
    }
}

fn mutation(key: &str, value: &str) -> Mutation {
    Mutation {
        key: Bytes::copy_from_slice(key.as_bytes()),
        condition: Condition::Always,
        return_previous: ReturnPrevious::Nothing,
        action: Action::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: TimeToLive::Forever },
    }
}

/// The key and value, or the key alone, of each request.
fn asked(passed_on: &[(NodeId, Term, u64, Bytes)]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let of_mutation = |mutation: &Mutation| match &mutation.action {
        Action::Put { value, .. } => format!("{}={}", text(&mutation.key), text(value)),
        other => panic!("{other:?}"),
    };
    let of = |request: &Bytes| match Request::decode(request.clone()).unwrap().body {
        RequestBody::Write { mutation, .. } => of_mutation(&mutation),
        RequestBody::Get { key, .. } => text(&key),
        RequestBody::Atomic(request) => request.mutations.iter().map(of_mutation).collect::<Vec<_>>().join("+"),
        other => panic!("{other:?}"),
    };
    passed_on.iter().map(|(.., request)| of(request)).collect()
}

#[test]
fn who_waits_is_counted_until_it_is_answered_goes_back_or_is_gone() {
    let waiting = |entered: &Entered| entered.waiting.0.load(Ordering::Relaxed);
    let mut entered = Entered::new();
    entered.leads(2, 5);
    entered.put("k", "1");
    entered.get("k");
    let passed_on = entered.passed_on();
    assert_eq!((waiting(&entered), passed_on.len()), (2, 2));
    let refused = ServerError::new(ErrorCode::Overloaded, "");
    let response = Response { id: RequestId(1), epoch: Epoch(1), forwarded: false, body: ResponseBody::Error(refused) };
    let mut bytes = BytesMut::new();
    response.encode_body(&mut bytes);
    entered.router.forward_answered(node(2), passed_on[0].2, bytes.freeze());
    entered.collect();
    assert_eq!((waiting(&entered), entered.answers.len()), (1, 1));
    let counted = Arc::clone(&entered.waiting);
    drop(entered);
    assert_eq!(counted.0.load(Ordering::Relaxed), 0);

    // What was passed on to a node that does not lead goes back.
    let mut entered = Entered::through(Door::Peer);
    entered.put("k", "1");
    assert_eq!((waiting(&entered), entered.session.take_returned().len()), (0, 1));
}

#[test]
fn what_comes_back_goes_to_the_next_leader_in_the_order_in_which_it_came() {
    let mut entered = Entered::new();
    entered.leads(2, 5);
    entered.put("k", "1");
    entered.put("k", "2");
    let first = entered.passed_on();
    assert_eq!(asked(&first), ["k=1", "k=2"]);
    assert!(first.iter().all(|(to, term, ..)| (*to, *term) == (node(2), Term(5))));
    // The second comes back first.
    entered.returned(2, first[1].2, &first[1].3);
    entered.leads(3, 6);
    entered.put("k", "3");
    entered.get("k");
    entered.put("other", "4");
    assert_eq!(asked(&entered.passed_on()), ["other=4"], "a write to the key is on its way to another leader");
    entered.returned(2, first[0].2, &first[0].3);
    let second = entered.passed_on();
    assert_eq!(asked(&second), ["k=1", "k=2", "k=3", "k"]);
    assert!(second.iter().all(|(to, term, ..)| (*to, *term) == (node(3), Term(6))));
    assert!(entered.answers.is_empty());
}

#[test]
fn what_a_leader_returns_waits_for_a_later_term() {
    let mut entered = Entered::new();
    entered.leads(2, 5);
    entered.put("k", "1");
    let first = entered.passed_on();
    entered.returned(2, first[0].2, &first[0].3);
    assert!(entered.passed_on().is_empty(), "it would come back again");
    entered.leads(2, 7);
    assert!(entered.session.sink().has_replies(), "its owner is to look");
    entered.collect();
    let second = entered.passed_on();
    assert_eq!((asked(&second), second[0].1), (vec!["k=1".to_owned()], Term(7)));
}

#[test]
fn nothing_is_passed_on_that_may_have_been_proposed() {
    let mut entered = Entered::new();
    entered.leads(2, 5);
    let lost = entered.put("k", "1");
    entered.passed_on();
    let behind = entered.get("k");
    entered.router.peer_lost(node(2));
    entered.leads(3, 6);
    entered.collect();
    assert!(entered.passed_on().iter().all(|(to, ..)| *to == node(2)));
    let outcome = |asked: u32| entered.answers.iter().find(|(of, _)| *of == asked).map(|(_, body)| body.clone());
    let Some(ResponseBody::Error(error)) = outcome(lost) else { panic!("{:?}", outcome(lost)) };
    assert_eq!((error.code, error.outcome), (ErrorCode::Unavailable, Outcome::Unknown));
    assert!(matches!(outcome(behind), Some(ResponseBody::Error(error)) if error.outcome == Outcome::NotApplied));
}

#[test]
fn what_is_too_large_to_be_passed_on_is_refused_for_good() {
    let mut entered = Entered::new();
    entered.leads(2, 5);
    let put = |entered: &mut Entered, condition_bytes: usize, retry| {
        let id = WriteId { sequence: u64::from(entered.next) + 1, first_unanswered: 1, retry, once: None };
        let condition = Condition::IfEquals(vec![b'x'; condition_bytes].into());
        let mutation = Mutation { condition, ..mutation("k", "1") };
        let asked = entered.ask(RequestBody::Write { id, ack: Ack::Committed, mutation });
        entered.collect();
        asked
    };
    put(&mut entered, 1_000, false);
    let around = entered.passed_on()[0].3.len() - 1_000;
    put(&mut entered, PASSED_ON_BYTES_MAX - around, false);
    assert_eq!(entered.passed_on()[0].3.len(), PASSED_ON_BYTES_MAX, "the largest one goes");
    assert!(entered.answers.is_empty());

    let one_more = PASSED_ON_BYTES_MAX - around + 1;
    for (retry, outcome) in [(false, Outcome::NotApplied), (true, Outcome::Unknown)] {
        let asked = put(&mut entered, one_more, retry);
        assert!(entered.passed_on().is_empty());
        let Some((of, ResponseBody::Error(error))) = entered.answers.pop() else { panic!("it was not answered") };
        assert_eq!((of, error.code, error.outcome), (asked, ErrorCode::TooLarge, outcome));
        assert_eq!(error.retry, kvorum_protocol::Retry::No);
        let limit = PASSED_ON_BYTES_MAX.to_string();
        assert!(
            error.detail.contains(&limit) && error.detail.contains(&(PASSED_ON_BYTES_MAX + 1).to_string()),
            "{error}"
        );
    }
    assert_eq!(entered.router.forwards_open(), 2, "nothing waits for what was not passed on");
}

#[test]
fn what_nobody_takes_in_time_is_certainly_not_applied() {
    let mut entered = Entered::new();
    let (write, read) = (entered.put("k", "1"), entered.get("k"));
    assert!(entered.passed_on().is_empty() && entered.answers.is_empty());
    assert_eq!(entered.session.unanswered(), 2);
    assert!(!entered.session.remembers_nothing());
    entered.passes(HELD_MS_MAX - 1);
    assert!(!entered.session.sink().has_replies());
    entered.passes(1);
    entered.collect();
    entered.collect();
    let codes = entered.answers.iter().map(|(asked, body)| match body {
        ResponseBody::Error(error) => (*asked, error.code, error.outcome),
        other => panic!("{other:?}"),
    });
    let refused = |asked| (asked, ErrorCode::Unavailable, Outcome::NotApplied);
    assert_eq!(codes.collect::<Vec<_>>(), [refused(write), refused(read)]);
    assert_eq!((entered.session.unanswered(), entered.router.held_bytes().load(Ordering::Relaxed)), (0, 0));
    assert!(entered.session.remembers_nothing());
    // Nothing of it is left to hold up what comes later.
    entered.leads(2, 5);
    entered.put("k", "2");
    assert_eq!(asked(&entered.passed_on()), ["k=2"]);
}

#[test]
fn a_batch_is_held_part_by_part_and_an_atomic_as_a_whole() {
    let mut entered = Entered::new();
    entered.leads(2, 5);
    let id = |sequence| WriteId { sequence, first_unanswered: 1, retry: false, once: None };
    let mutations = vec![mutation("a", "1"), mutation("b", "1"), mutation("a", "2")];
    entered.ask(RequestBody::Batch { id: id(10), ack: Ack::Committed, mutations });
    let first = entered.passed_on();
    assert_eq!(asked(&first), ["a=1", "b=1", "a=2"]);
    entered.leads(3, 6);
    let mutations = vec![mutation("b", "3"), mutation("c", "3")];
    let request = AtomicRequest { id: id(20), ack: Ack::Committed, checks: Vec::new(), mutations };
    entered.ask(RequestBody::Atomic(request));
    entered.put("c", "4");
    assert!(entered.passed_on().is_empty(), "b is on its way, and c behind it");
    entered.returned(2, first[1].2, &first[1].3);
    assert_eq!(asked(&entered.passed_on()), ["b=1", "b=3+c=3", "c=4"]);
    entered.returned(2, first[2].2, &first[2].3);
    assert!(entered.passed_on().is_empty(), "the part before it is on its way");
    entered.returned(2, first[0].2, &first[0].3);
    assert_eq!(asked(&entered.passed_on()), ["a=1", "a=2"]);
}

#[test]
fn requests_that_are_held_have_a_bound_in_bytes() {
    let mut entered = Entered::new();
    let large = "x".repeat(HELD_BYTES_MAX / 4);
    (0..4).for_each(|number| _ = entered.put(&format!("k{number}"), &large));
    entered.collect();
    let [(asked, ResponseBody::Error(error))] = &entered.answers[..] else {
        panic!("{} answers", entered.answers.len())
    };
    assert_eq!((*asked, error.code, error.outcome), (4, ErrorCode::Overloaded, Outcome::NotApplied));
    entered.passes(FORWARD_GRACE_MS);
    drop(entered.session);
    assert_eq!(entered.router.held_bytes().load(Ordering::Relaxed), 0);
}

/// Numbers that grow.
#[derive(Default)]
struct Tells(AtomicU64, Mutex<Vec<TracedRequest>>);

impl Tracer for Tells {
    fn fresh(&self) -> (TraceId, SpanId) {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        (TraceId(u128::from(number).to_be_bytes()), SpanId(number.to_be_bytes()))
    }

    fn finished(&self, request: TracedRequest) {
        self.1.lock().push(request);
    }
}

#[test]
fn a_trace_goes_with_what_is_passed_on_and_what_was_slow_is_kept_with_it() {
    let mut entered = Entered::new();
    entered.leads(2, 5);
    let told = Arc::<Tells>::default();
    entered.router.tracing().begin(Arc::clone(&told) as _, 0);
    entered.router.slow().set_slow_ms(100);
    let client = TraceContext::sampled(TraceId([9; 16]), SpanId([8; 8]));
    entered.session.follows(TraceContext { flags: 0, ..client });
    entered.put("k", "0");
    entered.session.follows(client);
    entered.put("k", "1");
    let sent = std::mem::take(&mut *entered.sent.0.lock());
    let [(_, PeerMessage::Forward { id: first, .. }), (_, announced), (_, PeerMessage::Forward { id, .. })] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    let PeerMessage::Trace { id: of, context } = announced else { panic!("{announced:?}") };
    assert_eq!((of, context.trace), (id, client.trace), "the client asked for the second only");

    entered.passes(150);
    let response = Response { id: RequestId(1), epoch: Epoch(1), forwarded: false, body: ResponseBody::Done };
    let mut bytes = BytesMut::new();
    response.encode_body(&mut bytes);
    let bytes = bytes.freeze();
    entered.router.forward_answered(node(2), *id, bytes.clone());
    entered.collect();
    let request = told.1.lock().pop().expect("it was answered");
    assert!(told.1.lock().is_empty());
    assert_eq!((request.trace.context.trace, request.trace.parent), (client.trace, Some(client.span)));
    assert_eq!(request.trace.forwards.iter().map(|forward| forward.span).collect::<Vec<_>>(), [context.span]);
    let kept = entered.router.slow().view(node(1), 9);
    let [slow] = &kept.operations[..] else { panic!("{kept:?}") };
    assert_eq!((slow.took_us, slow.stages.remote_us, slow.trace), (150_000, 150_000, Some(client.trace)));
    assert_eq!((slow.shard, slow.key_hash), (Some(ShardId(0)), Some(hash64(b"k"))));
    entered.router.forward_answered(node(2), *first, bytes);
    entered.collect();
    let traced = told.1.lock().pop().expect("what was slow is told of, whoever asked");
    assert!(traced.trace.parent.is_none() && traced.trace.context.trace != client.trace);

    // What a peer has announced is for that request and no other.
    let mut peer = Entered::through(Door::Peer);
    peer.router.tracing().begin(Arc::clone(&told) as _, 1);
    peer.session.foretell(7, client);
    peer.session.follow_foretold(8);
    peer.ask(RequestBody::Ping(Bytes::new()));
    peer.session.foretell(9, client);
    peer.session.follow_foretold(9);
    peer.ask(RequestBody::Ping(Bytes::new()));
    peer.ask(RequestBody::Ping(Bytes::new()));
    let parents: Vec<_> = told.1.lock().drain(..).map(|request| request.trace.parent).collect();
    assert_eq!(parents, [Some(client.span)]);
}
