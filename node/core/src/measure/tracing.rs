//! Which requests are traced, and what is told of them once they are answered.
//!
//! It is decided when a request is taken up, before anything is allocated for it. Spans are made afterwards, out of stamps, by whoever
//! [`Tracer`] is. Numbers of traces and spans come from there, too.

use super::meter::Finished;
use super::slow::About;
use super::{Count, EntryStamps};
use crate::clock::Nanos;
use kvorum_protocol::{NodeId, SpanId, TraceContext, TraceId};
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Most requests per second that are traced since their clients say so, or since they took long. A client must not be able to have
/// all of them traced.
const TRACED_PER_SECOND_MAX: u32 = 100;
/// Most nodes that a trace tells of to which parts of its request were passed on.
const FORWARDS_TRACED_MAX: usize = 32;

/// What became of a traced request's spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceEnd {
    /// A receiver has taken them.
    Sent,
    /// Too many waited.
    Dropped,
    /// The receiver has not taken them.
    Failed,
}

impl TraceEnd {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Dropped, Self::Failed];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// Takes what is known of traced requests.
pub trait Tracer: Send + Sync {
    /// Numbers for a trace and a span that no other one has.
    fn fresh(&self) -> (TraceId, SpanId);
    /// A traced request was answered. Must not block.
    fn finished(&self, request: TracedRequest);
}

/// The trace of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The trace, and the span of the request on this node.
    pub context: TraceContext,
    /// The span of whoever asked, if he said so.
    pub parent: Option<SpanId>,
    /// The nodes to which it, or parts of it, were passed on; at most 32.
    pub forwards: Vec<TracedForward>,
}

/// A request, or a part of one, was passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TracedForward {
    /// The span of what that node does.
    pub span: SpanId,
    /// The node.
    pub node: NodeId,
    /// When it was sent.
    pub at: Nanos,
}

/// What is known of a traced request that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TracedRequest {
    /// Its trace.
    pub trace: Trace,
    /// What was asked, which way, and how it ended.
    pub finished: Finished,
    /// What it is about, if that is one shard.
    pub about: Option<About>,
    /// When this node took it up.
    pub began: Nanos,
    /// When it was answered.
    pub ended: Nanos,
    /// The entry that it waited for, if this node leads. Of one with many parts, that of the part that was answered last.
    pub stamps: Option<EntryStamps>,
}

/// Which requests of a node are traced.
#[derive(Default)]
pub struct Tracing {
    /// A request is traced whose lot is below this; 0 for none.
    below: AtomicU64,
    tracer: OnceLock<Arc<dyn Tracer>>,
    /// A second, and how many were let through in it.
    spent: Mutex<(u64, u32)>,
    /// Traced requests, by [`TraceEnd`]. Several writers.
    ended: [Count; TraceEnd::ALL.len()],
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

impl Tracing {
    /// Has one of so many requests traced, chosen at random, and those whose clients ask for it; with 0 only the latter. Once.
    pub fn begin(&self, tracer: Arc<dyn Tracer>, one_of: u32) {
        assert!(self.tracer.set(tracer).is_ok(), "one tracer is enough");
        let below = if one_of == 0 { 0 } else { u64::MAX / u64::from(one_of) };
        self.below.store(below, Ordering::Relaxed);
    }

    /// Anything is traced.
    pub fn is_on(&self) -> bool {
        self.tracer.get().is_some()
    }

    /// Whether a request is traced of which its client says nothing: the `nth` of its session, taken up at `now`. A load and a
    /// multiplication, about a nanosecond.
    pub fn samples(&self, now: Nanos, nth: u64) -> bool {
        // Knuth's multiplicative hash: neighbours fall far apart.
        let lot = now.0.wrapping_add(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        lot < self.below.load(Ordering::Relaxed)
    }

    /// Whether one more may be traced that nobody has drawn a lot for.
    pub fn admits(&self, now: Nanos) -> bool {
        if !self.is_on() {
            return false;
        }
        let second = now.0 / 1_000_000_000;
        let mut spent = self.spent.lock();
        if spent.0 != second {
            *spent = (second, 0);
        }
        spent.1 += 1;
        spent.1 <= TRACED_PER_SECOND_MAX
    }

    /// The trace of a request, a part of its client's if there is one. `None` if nothing is traced here.
    pub fn trace(&self, parent: Option<TraceContext>) -> Option<Box<Trace>> {
        let (trace, span) = self.tracer.get()?.fresh();
        let trace = parent.map_or(trace, |parent| parent.trace);
        let context = TraceContext::sampled(trace, span);
        Some(Box::new(Trace { context, parent: parent.map(|parent| parent.span), forwards: Vec::new() }))
    }

    /// A traced request, or a part of it, goes to another node. Returns what is to go with it.
    pub fn forward(&self, trace: &mut Trace, node: NodeId, at: Nanos) -> Option<TraceContext> {
        let (_, span) = self.tracer.get()?.fresh();
        if trace.forwards.len() == FORWARDS_TRACED_MAX {
            return None;
        }
        trace.forwards.push(TracedForward { span, node, at });
        Some(TraceContext { span, ..trace.context })
    }

    /// It is known what became of so many traced requests' spans.
    pub fn note_end(&self, end: TraceEnd, requests: u64) {
        self.ended[end as usize].add_shared(requests);
    }

    /// Of how many that became.
    pub fn ended(&self, end: TraceEnd) -> u64 {
        self.ended[end as usize].get()
    }

    /// A traced request was answered.
    pub fn finished(&self, request: TracedRequest) {
        if let Some(tracer) = self.tracer.get() {
            tracer.finished(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(AtomicU64);

    impl Tracer for Numbers {
        fn fresh(&self) -> (TraceId, SpanId) {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            (TraceId(u128::from(number).to_be_bytes()), SpanId(number.to_be_bytes()))
        }

        fn finished(&self, _request: TracedRequest) {}
    }

    #[test]
    fn one_of_so_many_is_traced_whenever_they_come() {
        let tracing = Tracing::default();
        let traced = |tracing: &Tracing, requests: &dyn Fn(u64) -> (u64, u64)| {
            (0..1_000_000).map(requests).filter(|(now, nth)| tracing.samples(Nanos(*now), *nth)).count()
        };
        assert_eq!(traced(&tracing, &|nth| (5, nth)), 0, "nothing is traced yet");
        assert!(!tracing.admits(Nanos(0)) && tracing.trace(None).is_none());
        tracing.begin(Arc::new(Numbers(AtomicU64::new(1))), 1_000);
        let batches = traced(&tracing, &|nth| (nth / 16 * 21_517, nth));
        let alone = traced(&tracing, &|nth| (nth * 8_391, 1));
        for count in [batches, alone] {
            assert!((800..1_200).contains(&count), "{count} of a million");
        }
    }

    #[test]
    fn what_clients_ask_for_is_capped() {
        let tracing = Tracing::default();
        tracing.begin(Arc::new(Numbers(AtomicU64::new(1))), 0);
        let admitted = |second: u64| (0..1_000).filter(|ns| tracing.admits(Nanos(second * 1_000_000_000 + ns))).count();
        assert_eq!((admitted(1), admitted(1), admitted(2)), (100, 0, 100));
    }

    #[test]
    fn what_is_passed_on_is_the_same_trace_and_another_span() {
        let tracing = Tracing::default();
        tracing.begin(Arc::new(Numbers(AtomicU64::new(1))), 0);
        let parent = TraceContext::sampled(TraceId([7; 16]), SpanId([8; 8]));
        let mut trace = tracing.trace(Some(parent)).unwrap();
        assert_eq!((trace.context.trace, trace.parent), (parent.trace, Some(parent.span)));
        let node = NodeId(uuid::Uuid::from_u128(1));
        let passed = tracing.forward(&mut trace, node, Nanos(3)).unwrap();
        assert_eq!((passed.trace, passed.span), (parent.trace, trace.forwards[0].span));
        assert_ne!(passed.span, trace.context.span);
        (1..FORWARDS_TRACED_MAX).for_each(|_| assert!(tracing.forward(&mut trace, node, Nanos(3)).is_some()));
        assert_eq!(tracing.forward(&mut trace, node, Nanos(3)), None, "it is bounded");
        assert!(tracing.trace(None).unwrap().parent.is_none());
    }
}
