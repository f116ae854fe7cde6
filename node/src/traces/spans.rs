//! From the stamps of a request to its spans, with OpenTelemetry's names for databases. They hold no key and no value.

use kvorum_core::clock::Nanos;
use kvorum_core::measure::EntryStamps;
use kvorum_core::measure::meter::Door;
use kvorum_core::measure::tracing::TracedRequest;
use kvorum_protocol::{NodeId, SpanId as Number, TraceContext};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use rand::Rng as _;
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// The span of an entry's way to its followers.
const QUORUM: &str = "quorum";
/// Most other requests of its entry that a span is linked to.
const LINKS_MAX: usize = 32;

/// A traced request, and one moment by both clocks.
pub(super) struct Sample<'a> {
    pub(super) request: &'a TracedRequest,
    /// Traced requests that waited for the same entry, this one maybe among them.
    pub(super) of_entry: &'a [TraceContext],
    pub(super) at: SystemTime,
    pub(super) monotonic: Nanos,
}

impl Sample<'_> {
    /// What the wall clock shows, or showed, at a moment of the monotonic clock.
    fn wall(&self, at: Nanos) -> SystemTime {
        let ago = Duration::from_nanos(self.monotonic.0.saturating_sub(at.0));
        self.at.checked_sub(ago).unwrap_or(self.at)
    }
}

/// Makes spans.
pub(super) struct Narrator {
    /// This node.
    node: String,
    scope: InstrumentationScope,
}

impl Narrator {
    pub(super) fn new(node: String) -> Self {
        let scope = InstrumentationScope::builder("kvorum").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { node, scope }
    }

    /// The spans of a request: its own, one for each node to which it was passed on, and those of its entry's way. `address` tells the
    /// name and the address of a node.
    pub(super) fn spans(
        &self,
        sample: &Sample<'_>,
        address: &impl Fn(NodeId) -> Option<(String, String)>,
    ) -> Vec<SpanData> {
        let TracedRequest { trace, began, ended, stamps, .. } = sample.request;
        let context = trace.context;
        let mut spans = vec![self.of_request(sample)];
        for forward in &trace.forwards {
            let mut attributes = Vec::new();
            if let Some((name, address)) = address(forward.node) {
                let (host, port) = address.rsplit_once(':').unwrap_or((address.as_str(), ""));
                attributes.push(KeyValue::new("kvorum.peer", name));
                attributes.push(KeyValue::new("server.address", host.to_owned()));
                attributes.extend(port.parse::<i64>().ok().map(|port| KeyValue::new("server.port", port)));
            }
            let span = TraceContext { span: forward.span, ..context };
            let made =
                Made { kind: SpanKind::Client, name: "forward".into(), attributes, begins: forward.at, ends: *ended };
            spans.push(self.span(sample, span, Some(context.span), false, made));
        }
        if let Some(stamps) = stamps {
            spans.extend(self.of_entry(sample, stamps, *began, *ended));
        }
        spans
    }

    fn of_request(&self, sample: &Sample<'_>) -> SpanData {
        let TracedRequest { trace, finished, about, began, ended, .. } = sample.request;
        let name = finished.operation.name().to_uppercase();
        let mut attributes = vec![
            KeyValue::new("db.system.name", "kvorum"),
            KeyValue::new("db.operation.name", name.clone()),
            KeyValue::new("kvorum.node", self.node.clone()),
            KeyValue::new("kvorum.door", finished.door.name()),
            KeyValue::new("kvorum.outcome", finished.ending.name()),
        ];
        if let Some(about) = about {
            attributes.push(KeyValue::new("kvorum.shard", i64::from(about.shard.0)));
            attributes.extend(about.key_hash.map(|hash| KeyValue::new("kvorum.key_hash", format!("{hash:016x}"))));
        }
        if let Some(error) = finished.error {
            attributes.push(KeyValue::new("db.response.status_code", error.to_string()));
            attributes.push(KeyValue::new("error.type", error.to_string()));
        }
        // What a peer passes on is served, too: its caller is that node.
        let is_remote = trace.parent.is_some() || finished.door == Door::Peer;
        let made = Made { kind: SpanKind::Server, name: name.into(), attributes, begins: *began, ends: *ended };
        let span = self.span(sample, trace.context, trace.parent, is_remote, made);
        let status = finished.error.map_or(Status::Unset, |error| Status::error(error.to_string()));
        SpanData { status, ..span }
    }

    /// The way of the entry that the request waited for.
    fn of_entry(&self, sample: &Sample<'_>, stamps: &EntryStamps, began: Nanos, ended: Nanos) -> Vec<SpanData> {
        let EntryStamps { term, index, requests, begun, appended, synced, committed, applied } = *stamps;
        let entry = vec![
            KeyValue::new("kvorum.term", term.0.cast_signed()),
            KeyValue::new("kvorum.index", index.0.cast_signed()),
            KeyValue::new("kvorum.batch", i64::from(requests)),
        ];
        let ways = [
            Some(("queue", began, begun.max(began), Vec::new())),
            Some(("propose", begun, appended, entry)),
            // Beside the way to the followers, and maybe later than they.
            synced.map(|synced| ("sync", appended, synced, Vec::new())),
            Some((QUORUM, appended, committed, Vec::new())),
            Some(("apply", committed, applied, Vec::new())),
            Some(("answer", applied, ended, Vec::new())),
        ];
        let parent = sample.request.trace.context;
        let span = |(name, begins, ends, attributes): (&'static str, Nanos, Nanos, Vec<KeyValue>)| {
            let number = Number((rand::rng().random::<u64>() | 1).to_be_bytes());
            let made = Made { kind: SpanKind::Internal, name: name.into(), attributes, begins, ends };
            let made = self.span(sample, TraceContext { span: number, ..parent }, Some(parent.span), false, made);
            // It goes to the followers once, for all of its requests.
            if name == QUORUM { SpanData { links: links(sample), ..made } } else { made }
        };
        ways.into_iter().flatten().map(span).collect()
    }

    fn span(
        &self,
        sample: &Sample<'_>,
        context: TraceContext,
        parent: Option<Number>,
        is_remote: bool,
        made: Made,
    ) -> SpanData {
        let Made { kind, name, attributes, begins, ends } = made;
        SpanData {
            span_context: span_context(context, false),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.0)),
            parent_span_is_remote: is_remote,
            span_kind: kind,
            name,
            start_time: sample.wall(begins),
            end_time: sample.wall(ends.max(begins)),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn span_context(context: TraceContext, is_remote: bool) -> SpanContext {
    let (trace, number) = (TraceId::from_bytes(context.trace.0), SpanId::from_bytes(context.span.0));
    SpanContext::new(trace, number, TraceFlags::new(context.flags), is_remote, TraceState::default())
}

/// To the other traced requests of its entry.
fn links(sample: &Sample<'_>) -> SpanLinks {
    let own = sample.request.trace.context;
    let others = sample.of_entry.iter().filter(|other| other.span != own.span).take(LINKS_MAX);
    let mut links = SpanLinks::default();
    links.links.extend(others.map(|other| Link::with_context(span_context(*other, true))));
    links
}

/// What tells spans apart.
struct Made {
    kind: SpanKind,
    name: Cow<'static, str>,
    attributes: Vec<KeyValue>,
    begins: Nanos,
    ends: Nanos,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::measure::meter::{Finished, OperationKind};
    use kvorum_core::measure::tracing::Trace;
    use kvorum_protocol::{ResponseBody, TraceId as TraceNumber};

    fn context(number: u8) -> TraceContext {
        TraceContext { trace: TraceNumber([number; 16]), span: Number([number; 8]), flags: 1 }
    }

    #[test]
    fn the_way_to_the_followers_is_linked_to_the_other_requests_of_its_entry() {
        let request = TracedRequest {
            trace: Trace { context: context(1), parent: None, forwards: Vec::new() },
            finished: Finished::new(Door::Binary, OperationKind::Put, &ResponseBody::Done, Nanos(9)),
            about: None,
            began: Nanos(0),
            ended: Nanos(9),
            stamps: Some(EntryStamps::default()),
        };
        let of_entry = [context(1), context(2), context(3)];
        let sample = Sample { request: &request, of_entry: &of_entry, at: SystemTime::now(), monotonic: Nanos(9) };
        let spans = Narrator::new("node-1".to_owned()).spans(&sample, &|_| None);
        let linked = |span: &SpanData| -> Vec<[u8; 8]> {
            span.links.links.iter().map(|link| link.span_context.span_id().to_bytes()).collect()
        };
        for span in &spans {
            let expected = if span.name == "quorum" { vec![[2; 8], [3; 8]] } else { Vec::new() };
            assert_eq!(linked(span), expected, "{}", span.name);
        }
        assert!(spans.iter().any(|span| span.name == "quorum"));
    }
}
