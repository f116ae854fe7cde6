//! Where the time of requests went: those that take long are kept, and those that are traced are told of.
//!
//! All of this is looked at once a request is answered. Before that a request costs a draw of lots, and allocates only if it is traced.

use super::{Job, Session};
use crate::clock::Nanos;
use crate::measure::EntryStamps;
use crate::measure::meter::{Door, Finished, OperationKind};
use crate::measure::slow::{About, SlowEntry, stages_of};
use crate::measure::tracing::{Trace, TracedRequest};
use kvorum_protocol::{NodeId, TraceContext};

/// What a session knows of traces.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// That of the request that is being taken up, until it waits.
    begun: Option<Box<Trace>>,
    /// What the next request is part of.
    parent: Option<TraceContext>,
    /// The same of the request with this number, which a peer has announced.
    foretold: Option<(u64, TraceContext)>,
    /// Requests so far, which tells those of one moment apart.
    requests: u64,
}

impl Traces {
    /// The trace of the request that is being taken up. It goes where the request goes.
    pub(super) fn take(&mut self) -> Option<Box<Trace>> {
        self.begun.take()
    }
}

/// What is known of a request that was answered, besides the answer.
#[derive(Default)]
pub(super) struct Told {
    pub(super) about: Option<About>,
    pub(super) stamps: Option<Box<EntryStamps>>,
    pub(super) is_forwarded: bool,
    pub(super) trace: Option<Box<Trace>>,
}

impl<Origin: Copy> Session<Origin> {
    /// The next request is part of this trace, as its client says. It is recorded if the client says so, within what a node records per
    /// second; if not, it is not.
    pub fn follows(&mut self, context: TraceContext) {
        self.traces.parent = Some(context);
    }

    /// A peer has announced that the request with this number is part of a trace.
    pub(crate) fn foretell(&mut self, number: u64, context: TraceContext) {
        self.traces.foretold = Some((number, context));
    }

    /// The next request has this number.
    pub(crate) fn follow_foretold(&mut self, number: u64) {
        let foretold = self.traces.foretold.take().filter(|(of, _)| *of == number);
        self.traces.parent = foretold.map(|(_, context)| context);
    }

    /// Decides whether the request that is taken up now is traced.
    pub(super) fn begin_trace(&mut self, now: Nanos) -> bool {
        self.traces.requests = self.traces.requests.wrapping_add(1);
        let tracing = self.context.router.tracing();
        let draws = self.traces.parent.is_none() && self.door != Door::Peer;
        if self.traces.parent.is_none() && !(draws && tracing.samples(now, self.traces.requests)) {
            return false;
        }
        let parent = self.traces.parent.take();
        // What a peer has passed on was let through where it came in.
        let is_let_through =
            |parent: TraceContext| parent.is_sampled() && (self.door == Door::Peer || tracing.admits(now));
        if parent.is_some_and(|parent| !is_let_through(parent)) {
            return false;
        }
        self.traces.begun = tracing.trace(parent);
        self.traces.begun.is_some()
    }

    /// A traced request goes to another node. Returns what goes with it.
    pub(super) fn trace_forward(&mut self, slot: usize, node: NodeId) -> Option<TraceContext> {
        let router = &self.context.router;
        let at = router.clock().monotonic();
        let trace = self.pending[slot].trace.as_mut()?;
        router.tracing().forward(trace, node, at)
    }

    /// Whether somebody wants to know where the time of a request went.
    pub(super) fn is_of_interest(&self, job: &Job<Origin>, finished: &Finished) -> bool {
        job.traced || finished.took.0 >= self.context.router.slow().slower_than_ns()
    }

    /// Keeps a request that took long, and tells of one that is traced. What took long is traced from its end, if it was not before.
    #[cold]
    pub(super) fn note_times(&self, job: &Job<Origin>, finished: Finished, ended: Nanos, told: Told) {
        let Told { about, stamps, is_forwarded, mut trace } = told;
        let router = &self.context.router;
        // Who awaits something waits on purpose, and what is no operation on keys asks other nodes.
        let counts = !matches!(finished.operation, OperationKind::Await | OperationKind::Other);
        let is_slow = counts && finished.took.0 >= router.slow().slower_than_ns();
        if trace.is_none() && is_slow && router.tracing().admits(ended) {
            trace = router.tracing().trace(None);
        }
        if is_slow {
            let stages = stages_of(job.began, ended, stamps.as_deref(), is_forwarded);
            let trace = trace.as_ref().map(|trace| trace.context.trace);
            let entry = SlowEntry::new(&finished, router.clock().now().wall_ms, stages);
            router.slow().keep(SlowEntry { about, trace, ..entry });
        }
        if let Some(trace) = trace {
            let stamps = stamps.map(|stamps| *stamps);
            let began = job.began;
            router.tracing().finished(TracedRequest { trace: *trace, finished, about, began, ended, stamps });
        }
    }
}
