//! One connection with one peer, from the hellos to its end.

use super::close::{CloseCode, LinkError};
use super::hello::{self, Greeted};
use super::incoming::denied;
use super::lane::{Inbound, Lane, LaneError};
use super::limits::{BULK_PARTS_AT_ONCE, BULK_PAUSE};
use super::session;
use super::{Shared, Slot};
use crate::auth::cert::Identity;
use kvorum_core::disk::lost_pages;
use kvorum_protocol::limits::PART_BYTES_MAX;
use quinn::{Connection, SendStream};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the tasks of one connection share.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: Arc<Slot>,
    pub(super) connection: Connection,
    /// This node dialled; else the peer did.
    pub(super) dialled: bool,
}

impl Link {
    /// Says hello on the connection.
    async fn greet(&self) -> Result<Greeted, LinkError> {
        let expected = Identity { cluster: self.shared.hello.cluster, node: self.slot.node };
        hello::exchange(&self.connection, &self.shared.hello, expected, &self.shared.handler).await
    }
}

/// Says hello on a connection that the peer has made, and runs nothing on it. If that fails the connection is closed.
pub(super) async fn greet(link: &Link) -> Result<Greeted, LinkError> {
    let greeted = link.greet().await;
    if let Err(error) = &greeted {
        error.close_code().close(&link.connection, &detail(error));
    }
    greeted
}

/// How a connection ended, and how long it had been up; zero if it never was.
pub(super) struct LinkEnd {
    pub(super) error: LinkError,
    pub(super) lived: Duration,
}

/// Runs the connection until it ends or `cancel` is cancelled. Unless it is `greeted`, the ends say hello first. When this returns, no task of it is left, and the handler
/// has heard `disconnected` if it had heard `connected`.
pub(super) async fn run(link: Link, greeted: Option<Greeted>, cancel: CancellationToken) -> LinkEnd {
    let connection = link.connection.clone();
    let mut since = None;
    let error = tokio::select! {
        // The handler hears that a connection is over only when nothing of it runs any more, so a cancelled connection
        // is closed and ends by itself.
        error = serve(Arc::new(link), greeted, &mut since) => error,
        never = close_when(&cancel, &connection) => match never {},
    };
    let error = if cancel.is_cancelled() { LinkError::Cancelled } else { error };
    error.close_code().close(&connection, &detail(&error));
    LinkEnd { error, lived: since.map_or(Duration::ZERO, |since: Instant| since.elapsed()) }
}

async fn close_when(cancel: &CancellationToken, connection: &Connection) -> Infallible {
    cancel.cancelled().await;
    LinkError::Cancelled.close_code().close(connection, "");
    std::future::pending().await
}

/// What the other end may know about an error of this one: what it did wrong, not how this node is made.
fn detail(error: &LinkError) -> String {
    match error {
        LinkError::Refused { detail, .. } => detail.clone(),
        LinkError::Lane(LaneError::Garbage(_) | LaneError::WrongLane | LaneError::Finished) => error.to_string(),
        _ => String::new(),
    }
}

async fn serve(link: Arc<Link>, greeted: Option<Greeted>, since: &mut Option<Instant>) -> LinkError {
    // One connection per pair of nodes, and its callbacks in order: a newer one waits here until the older one's last
    // task is gone.
    let _turn = link.slot.turn.lock().await;
    let greeted = match greeted {
        Some(greeted) => Ok(greeted),
        None => link.greet().await,
    };
    let Greeted { send, inbound, program, process } = match greeted {
        Ok(greeted) => greeted,
        Err(error) => return error,
    };
    // Opened in the order of the lanes: a stream's index tells the peer what it carries.
    let mut streams = vec![(Lane::Consensus, send)];
    for lane in Lane::ALL.into_iter().skip(1) {
        match link.connection.open_uni().await {
            Ok(stream) => streams.push((lane, stream)),
            Err(error) => return LinkError::Connection(error),
        }
    }
    let up = Up::announce(link.clone(), process);
    *since = Some(Instant::now());
    tracing::info!(peer = %link.slot.node, address = %link.connection.remote_address(), program, "peer connected");

    let mut tasks = JoinSet::new();
    for (lane, stream) in streams {
        tasks.spawn(write_lane(link.clone(), lane, stream));
    }
    tasks.spawn(read_lane(link.clone(), Lane::Consensus, inbound));
    // A stream is there once something is sent on it, or on one that was opened later.
    for _ in Lane::ALL.into_iter().skip(1) {
        tasks.spawn(read_another_lane(link.clone()));
    }
    tasks.spawn({
        let link = link.clone();
        async move { Ok(session::keep_attached(&link).await?) }
    });
    tasks.spawn({
        let link = link.clone();
        async move {
            denied(&link.shared, &link.connection).await;
            let detail = format!("the certificate of node {} is denied", link.slot.node);
            Err(LinkError::Refused { code: CloseCode::UnknownNode, detail })
        }
    });
    let error = match tasks.join_next().await.expect("tasks were spawned") {
        Ok(Err(error)) => error,
        Err(join) => LinkError::Panicked(panic_text(join)),
    };
    tasks.shutdown().await;
    drop(up);
    error
}

/// A peer that is up: lanes open, handler told. Dropping it undoes both, also when a task panics.
struct Up(Arc<Link>);

impl Up {
    fn announce(link: Arc<Link>, process: u64) -> Self {
        let up = Self(link);
        Lane::ALL.iter().for_each(|lane| up.0.slot.outbound(*lane).open());
        up.0.slot.traffic.began(&up.0.connection);
        up.0.slot.process.store(process, Ordering::Release);
        up.0.slot.up.store(true, Ordering::Release);
        up.0.shared.handler.connected(up.0.slot.node);
        up
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.slot.up.store(false, Ordering::Release);
        self.0.slot.traffic.ended();
        Lane::ALL.iter().for_each(|lane| self.0.slot.outbound(*lane).close());
        self.0.shared.handler.disconnected(self.0.slot.node);
    }
}

/// Writes whatever waits, all of it at a time, or a few parts of it. The consensus lane's stream is the one that carried the hello.
async fn write_lane(link: Arc<Link>, lane: Lane, mut stream: SendStream) -> Result<Infallible, LinkError> {
    stream.set_priority(lane.priority()).ok();
    let lost_before = lost_pages();
    loop {
        link.slot.outbound(lane).filled().await;
        // Whoever else is ready goes first, and adds to what is sent: packets of many messages cost little more than one's.
        tokio::task::yield_now().await;
        let frames = link.slot.outbound(lane).take();
        if lost_pages() != lost_before {
            // Entries and values are copied here out of what was verified before.
            return Err(LinkError::LostPages);
        }
        if !link.shared.is_cut() && !frames.is_empty() {
            let is_long = frames.len() >= BULK_PARTS_AT_ONCE * PART_BYTES_MAX;
            stream.write_chunk(frames).await?;
            if lane == Lane::Bulk && is_long {
                tokio::time::sleep(BULK_PAUSE).await;
            }
        }
    }
}

/// Reads a stream of the peer, whichever comes next.
async fn read_another_lane(link: Arc<Link>) -> Result<Infallible, LinkError> {
    let stream = link.connection.accept_uni().await?;
    let lane = Lane::of_stream(stream.id().index()).ok_or(LaneError::WrongLane)?;
    let inbound = if lane == Lane::Bulk { Inbound::in_parts(stream) } else { Inbound::new(stream) };
    read_lane(link, lane, inbound).await
}

/// Hands every message to the handler as soon as it is whole. What the handler can't take in time stays in QUIC's
/// windows, at the peer, and so does everything behind it.
async fn read_lane(link: Arc<Link>, lane: Lane, mut inbound: Inbound) -> Result<Infallible, LinkError> {
    loop {
        while let Some(message) = inbound.next_arrived(lane.frame_bytes_max())? {
            if !lane.carries(&message) {
                return Err(LaneError::WrongLane.into());
            }
            if link.shared.is_cut() {
                link.shared.lost_to_cut.fetch_add(1, Ordering::Relaxed);
            } else {
                link.shared.handler.message(link.slot.node, message);
            }
        }
        // A stream that always has more must not keep its thread from the others.
        tokio::task::consume_budget().await;
        inbound.fill().await?;
    }
}

pub(super) fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => match payload.downcast_ref::<&str>() {
            Some(text) => (*text).to_owned(),
            None => payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "no message".to_owned()),
        },
        Err(_) => "the runtime is shutting down".to_owned(),
    }
}
