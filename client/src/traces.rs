//! To which trace a request belongs: with the feature `tracing`, that of the span which is active where the operation is polled.

use kvorum_protocol::{HelloReply, TraceContext};

/// What HELLO asks for.
#[cfg(feature = "tracing")]
pub(crate) const FEATURE: u64 = kvorum_protocol::request::feature::TRACE;
/// What HELLO asks for.
#[cfg(not(feature = "tracing"))]
pub(crate) const FEATURE: u64 = 0;

/// The trace that a request belongs to which leaves now, if there is one that is recorded, and the node wants to know.
#[cfg(feature = "tracing")]
pub(crate) fn current(hello: &HelloReply) -> Option<TraceContext> {
    use kvorum_protocol::{SpanId, TraceId};
    use opentelemetry::trace::TraceContextExt as _;

    if hello.features & FEATURE == 0 {
        return None;
    }
    opentelemetry::Context::map_current(|context| {
        let span = context.span().span_context().clone();
        let (trace, number) = (TraceId(span.trace_id().to_bytes()), SpanId(span.span_id().to_bytes()));
        (span.is_valid() && span.is_sampled()).then(|| TraceContext::sampled(trace, number))
    })
}

/// Without the feature there is none.
#[cfg(not(feature = "tracing"))]
pub(crate) fn current(_hello: &HelloReply) -> Option<TraceContext> {
    None
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, NodeId, SpanId, TraceId};
    use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceState};
    use uuid::Uuid;

    fn hello(features: u64) -> HelloReply {
        HelloReply {
            version: 3,
            features,
            cluster: ClusterId(Uuid::nil()),
            node: NodeId(Uuid::nil()),
            durability: Durability::Fsync,
            program: String::new(),
        }
    }

    #[test]
    fn the_current_span_goes_along_where_the_node_wants_to_know_and_it_is_sampled() {
        assert_eq!(current(&hello(FEATURE)), None, "there is no span");
        let trace = opentelemetry::TraceId::from_bytes([7; 16]);
        let span = opentelemetry::SpanId::from_bytes([8; 8]);
        let of = |flags| SpanContext::new(trace, span, flags, true, TraceState::default());
        let sampled = opentelemetry::Context::new().with_remote_span_context(of(TraceFlags::SAMPLED));
        let guard = sampled.attach();
        let expected = TraceContext::sampled(TraceId([7; 16]), SpanId([8; 8]));
        assert_eq!((current(&hello(FEATURE)), current(&hello(0))), (Some(expected), None));
        drop(guard);
        let unsampled = opentelemetry::Context::new().with_remote_span_context(of(TraceFlags::default()));
        let _guard = unsampled.attach();
        assert_eq!(current(&hello(FEATURE)), None);
    }
}
