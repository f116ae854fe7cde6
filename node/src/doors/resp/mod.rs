//! The RESP doors: Redis' protocol over TCP, for one client library after the other that speaks nothing else (docs/RESP.md).
//!
//! There are two of them. To the clients of the standalone door the cluster is one server: it redirects nobody, and what another
//! node leads is passed on. To those of the cluster door each node is a master of the slots that it leads, and they are sent to
//! the others.

mod acl;
mod answers;
mod asking;
mod clients;
mod cluster;
mod command_counts;
mod commands;
mod connection;
mod execute;
mod info;
mod introspect;
mod multi;
mod parked;
mod quick;
mod replies;
mod rights;
mod settings;
mod slots;
mod slowlog;
mod transact;
mod values;
mod waits;
mod walk;

use super::accepting::{accept, turn_away};
use super::commons::DoorCommons;
use super::inflow::Inflow;
use super::places::Places;
use super::tls::{CameIn, DoorTls, arrive};
use super::writers::Writers;
use crate::auth::login::Logins;
use crate::runtime::door_counts::DoorCounts;
use crate::runtime::system_clock;
use clients::Clients;
use command_counts::CommandCounts;
use kvorum_core::clock::Nanos;
use kvorum_core::measure::meter::Door;
use kvorum_core::routing::topology_news::TopologyNews;
use kvorum_core::session::SessionContext;
use parked::Parked;
use parking_lot::Mutex;
use settings::Settings;
use slots::Slots;
use slowlog::Slowlog;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

/// What the RESP doors of a node share.
pub struct RespNode {
    context: Arc<SessionContext>,
    places: Arc<Places>,
    inflow: Arc<Inflow>,
    counts: Arc<DoorCounts>,
    logins: Arc<Logins>,
    writers: Writers,
    settings: Mutex<Settings>,
    clients: Clients,
    slowlog: Slowlog,
    command_counts: CommandCounts,
    slots: Slots,
    /// Bytes of values and replies that connections hold which hold many.
    held_bytes: AtomicUsize,
    /// EXEC may do its part in each of several shards.
    splits_exec: bool,
    /// Another one after each start, of 40 hexadecimal digits.
    run_id: String,
    started: Nanos,
    drain: CancellationToken,
    stop: CancellationToken,
}

/// What an operator has said of the doors.
#[derive(Clone, Debug, Default)]
pub struct RespOptions {
    /// `host:port` where clients reach the cluster door.
    pub announce: Option<String>,
    /// EXEC may do its part in each of several shards.
    pub splits_exec: bool,
}

impl RespNode {
    /// What doors share whose connections find one of the places. They take no more of them when `drain` is cancelled, and close
    /// those that are idle; they close when `stop` is.
    pub fn new(context: Arc<SessionContext>, options: RespOptions, commons: DoorCommons) -> Arc<Self> {
        let DoorCommons { places, inflow, counts, logins, drain, stop } = commons;
        let digits = [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.simple().to_string()).concat();
        let slots = Slots::new(Arc::clone(&context.router), options.announce);
        Arc::new(Self {
            context,
            places,
            inflow,
            counts,
            logins,
            writers: Writers::new(),
            settings: Mutex::default(),
            clients: Clients::default(),
            slowlog: Slowlog::default(),
            command_counts: CommandCounts::default(),
            slots,
            held_bytes: AtomicUsize::new(0),
            splits_exec: options.splits_exec,
            run_id: digits[..40].to_owned(),
            started: system_clock::monotonic(),
            drain,
            stop,
        })
    }

    /// Ends the connections of clients that are nobody any more, until the doors are told to stop.
    pub async fn follow_rights(self: Arc<Self>) {
        let mut changes = self.logins.changes();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = self.drain.cancelled() => return,
            }
            let (gate, wall_ms) = (self.context.router.auth(), self.context.router.clock().now().wall_ms);
            self.clients.end_those_of(|principal, serial| {
                gate.access(principal, wall_ms).is_err() || serial.is_some_and(|serial| gate.denies(serial))
            });
        }
    }

    /// Notes who leads which slots, until the doors are told to stop.
    pub async fn follow(self: Arc<Self>, mut topology: watch::Receiver<Arc<TopologyNews>>) {
        loop {
            let news = Arc::clone(&topology.borrow_and_update());
            self.slots.note(news.topology(), system_clock::monotonic());
            tokio::select! {
                changed = topology.changed() => if changed.is_err() { return },
                () = self.drain.cancelled() => return,
            }
        }
    }
}

fn came_in(from: SocketAddr) -> CameIn<'static> {
    CameIn { door: Door::Resp, from, to_plain: b"-ERR this door speaks TLS only: rediss:// instead of redis://\r\n" }
}

/// Whose clients a door serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespMode {
    /// Those that know one server.
    Standalone,
    /// Those that follow slots.
    Cluster,
}

/// A RESP door of a node.
pub struct RespDoor {
    node: Arc<RespNode>,
    mode: RespMode,
    /// Where it listens.
    address: SocketAddr,
    /// Unless it is plain.
    tls: Option<DoorTls>,
}

impl RespDoor {
    /// A door at `address`.
    pub fn new(node: Arc<RespNode>, mode: RespMode, address: SocketAddr, tls: Option<DoorTls>) -> Arc<Self> {
        if mode == RespMode::Cluster {
            node.slots.open(address.port());
        }
        Arc::new(Self { node, mode, address, tls })
    }

    /// Accepts connections until the door is told to stop.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        accept(listener, &self.node.drain, |stream, from| self.admit(stream, from)).await;
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let door = Arc::clone(self);
        let Some(place) = self.node.places.take(Door::Resp, from.ip()) else {
            tokio::spawn(async move {
                let why = b"-ERR max number of clients reached\r\n";
                turn_away(door.tls.as_ref(), stream, came_in(from), why, door.node.places.to_linger()).await;
            });
            return;
        };
        tokio::spawn(async move {
            // Nothing that is large lies in here: this is there as long as the client is.
            if let Some(arrived) = arrive(door.tls.as_ref(), stream, came_in(from)).await {
                let ended = match Parked::new(&door, arrived, from) {
                    Ok(mut parked) => parked.serve().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = ended {
                    debug!(%from, %error, "closed a connection");
                }
            }
            drop(place);
        });
    }

    /// The time, in milliseconds since 1970.
    fn wall_ms(&self) -> u64 {
        self.node.context.router.clock().now().wall_ms
    }

    /// Replicas beside the leader's that certainly hold an answered write.
    fn acked_replicas(&self) -> i64 {
        (self.node.context.router.ring().replication_factor / 2).into()
    }

    /// Whether its clients follow slots.
    fn is_cluster(&self) -> bool {
        self.mode == RespMode::Cluster
    }
}
