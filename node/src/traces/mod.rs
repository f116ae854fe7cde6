//! Traces: what sessions tell of traced requests becomes spans, which are sent to a receiver by OTLP.
//!
//! A request costs nothing here until it is answered, and then an entry of a bounded queue. A task makes spans of what waits, and sends
//! them in batches. What finds no room, or is not taken, is counted and forgotten: no request waits for a trace.

mod spans;

use kvorum_core::clock::Nanos;
use kvorum_core::measure::tracing::{TraceEnd, TracedRequest, Tracer};
use kvorum_core::routing::router::Router;
use kvorum_protocol::{LogIndex, NodeId, ShardId, SpanId, Term, TraceContext, TraceId};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use rand::Rng as _;
use spans::{Narrator, Sample};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Most requests that wait for the task, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise. About 400 bytes each.
const QUEUE_MAX: usize = 2_048;
/// Most requests whose spans leave together, unless `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says otherwise.
const BATCH_MAX: usize = 512;
/// How long the first of a batch waits for others, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise.
const DELAY: Duration = Duration::from_secs(1);
/// How long a batch may take, whatever the exporter's own timeout (`OTEL_EXPORTER_OTLP_TIMEOUT`) is.
const EXPORT_WITHIN: Duration = Duration::from_secs(30);
/// How long a node that stops waits for the last batch.
pub const LAST_WITHIN: Duration = Duration::from_secs(2);
/// The largest of these numbers that a variable may say.
const VARIABLE_MAX: u64 = 1 << 20;

/// Where traces go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TraceReceiver {
    /// Where the variables of OpenTelemetry say, such as `OTEL_EXPORTER_OTLP_ENDPOINT`; by default `http://localhost:4317`.
    OfEnvironment,
    /// A receiver of OTLP by gRPC: `http://host:port`, or `https://host:port`.
    At(String),
}

impl TraceReceiver {
    /// Reads `env`, or an address.
    pub fn read(text: &str) -> Option<Self> {
        if text == "env" {
            return Some(Self::OfEnvironment);
        }
        let uri: http::Uri = text.parse().ok()?;
        let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
        (is_known && uri.host().is_some() && uri.path().len() <= 1).then(|| Self::At(text.to_owned()))
    }
}

/// How a node traces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TracesConfig {
    /// Where traces go; nothing is traced without.
    pub receiver: Option<TraceReceiver>,
    /// One of so many requests is traced of which clients say nothing; 0 for none.
    pub one_of: u32,
}

/// Takes what sessions tell.
#[derive(Debug)]
struct Desk {
    queue: mpsc::Sender<Told>,
    router: std::sync::Weak<Router>,
}

/// A traced request, and when that was told, by both clocks.
#[derive(Debug)]
struct Told {
    request: TracedRequest,
    at: SystemTime,
    monotonic: Nanos,
}

impl Tracer for Desk {
    fn fresh(&self) -> (TraceId, SpanId) {
        let mut rng = rand::rng();
        // All zeros would mean nothing; the lowest bit is no loss.
        (TraceId((rng.random::<u128>() | 1).to_be_bytes()), SpanId((rng.random::<u64>() | 1).to_be_bytes()))
    }

    fn finished(&self, request: TracedRequest) {
        let told = Told { request, at: SystemTime::now(), monotonic: crate::runtime::system_clock::monotonic() };
        if self.queue.try_send(told).is_err()
            && let Some(router) = self.router.upgrade()
        {
            router.tracing().note_end(TraceEnd::Dropped, 1);
        }
    }
}

/// The task that sends traces.
pub struct TraceExport {
    router: Arc<Router>,
    exporter: SpanExporter,
    queue: mpsc::Receiver<Told>,
    narrator: Narrator,
    batch_max: usize,
    delay: Duration,
}

impl TraceExport {
    /// Has the node's sessions trace from here on. `None` if nothing is traced.
    ///
    /// # Errors
    /// If an address or a variable of the environment makes no sense.
    pub fn begin(router: &Arc<Router>, config: &TracesConfig, name: &str) -> Result<Option<Self>, ExporterBuildError> {
        let Some(receiver) = &config.receiver else { return Ok(None) };
        let builder = SpanExporter::builder().with_tonic();
        let mut exporter = match receiver {
            TraceReceiver::OfEnvironment => builder,
            TraceReceiver::At(address) => builder.with_endpoint(address),
        }
        .build()?;
        exporter.set_resource(&resource(router.me(), name));
        let number = |name: &str, default: u64| {
            let said = std::env::var(name).ok().and_then(|text| text.parse().ok());
            said.filter(|said| (1..=VARIABLE_MAX).contains(said)).unwrap_or(default)
        };
        let queue_max = number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_MAX as u64) as usize;
        let batch_max = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_MAX as u64) as usize;
        let delay = Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", DELAY.as_millis() as u64));
        let (sender, queue) = mpsc::channel(queue_max);
        router.tracing().begin(Arc::new(Desk { queue: sender, router: Arc::downgrade(router) }), config.one_of);
        info!(one_of = config.one_of, receiver = ?receiver, "traces are sent");
        let narrator = Narrator::new(name.to_owned());
        Ok(Some(Self { router: Arc::clone(router), exporter, queue, narrator, batch_max, delay }))
    }

    /// Sends what comes, until it is stopped; then what is there.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut batch, mut fails) = (Vec::new(), false);
        loop {
            let stopped = stop.is_cancelled();
            if stopped {
                self.queue.close();
            }
            tokio::select! {
                count = self.queue.recv_many(&mut batch, self.batch_max) => if count == 0 { return },
                () = stop.cancelled(), if !stopped => continue,
            }
            if !stopped {
                self.await_others(&mut batch, &stop).await;
            }
            self.send(&mut batch, &mut fails).await;
        }
    }

    /// Waits until the batch is full, or the first of it has waited for long enough.
    async fn await_others(&mut self, batch: &mut Vec<Told>, stop: &CancellationToken) {
        let until = Instant::now() + self.delay;
        while batch.len() < self.batch_max {
            let room = self.batch_max - batch.len();
            tokio::select! {
                received = timeout_at(until, self.queue.recv_many(batch, room)) => {
                    if !matches!(received, Ok(count) if count > 0) {
                        return;
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }

    async fn send(&mut self, batch: &mut Vec<Told>, fails: &mut bool) {
        let (requests, router) = (batch.len() as u64, Arc::clone(&self.router));
        let address = |node: NodeId| {
            let ring = router.ring();
            ring.nodes.iter().find(|known| known.id == node.0).map(|known| (known.name.clone(), known.client.clone()))
        };
        let batch = std::mem::take(batch);
        let mut entries: HashMap<EntryAt, Vec<TraceContext>> = HashMap::new();
        for told in &batch {
            let at = entry_of(&told.request);
            at.into_iter().for_each(|at| entries.entry(at).or_default().push(told.request.trace.context));
        }
        let spans = batch.iter().flat_map(|Told { request, at, monotonic }| {
            let of_entry = entry_of(request).and_then(|at| entries.get(&at)).map_or(&[][..], Vec::as_slice);
            self.narrator.spans(&Sample { request, of_entry, at: *at, monotonic: *monotonic }, &address)
        });
        let spans: Vec<_> = spans.collect();
        let exported = timeout(EXPORT_WITHIN, self.exporter.export(spans)).await;
        let failed = match exported {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the receiver did not answer in time".to_owned()),
        };
        router.tracing().note_end(if failed.is_none() { TraceEnd::Sent } else { TraceEnd::Failed }, requests);
        match &failed {
            Some(error) if !*fails => warn!(%error, "traces can't be sent, and are lost until they can"),
            None if *fails => info!("traces are sent again"),
            _ => {}
        }
        *fails = failed.is_some();
    }
}

/// An entry: its shard, the term of its leader, and where it stands.
type EntryAt = (ShardId, Term, LogIndex);

/// The entry that a request waited for.
fn entry_of(request: &TracedRequest) -> Option<EntryAt> {
    let stamps = request.stamps.as_ref()?;
    Some((request.about?.shard, stamps.term, stamps.index))
}

/// What the receiver is told of this node. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` count.
fn resource(node: NodeId, name: &str) -> Resource {
    let builder = Resource::builder();
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
    let builder = if named { builder } else { builder.with_service_name("kvorum") };
    let attributes = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node.to_string()),
        KeyValue::new("kvorum.node", name.to_owned()),
    ];
    builder.with_attributes(attributes).build()
}
