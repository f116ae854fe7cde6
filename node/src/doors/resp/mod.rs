//! The RESP door: Redis' protocol over TCP, for one client library after the other that speaks nothing else (docs/RESP.md).
//!
//! To its clients the cluster is one server: it redirects nobody, and what another node leads is passed on.

mod answers;
mod connection;
mod execute;
mod introspect;
mod replies;
mod walk;

use super::accepting::{accept, turn_away};
use super::inflow::Inflow;
use super::places::Places;
use super::writers::Writers;
use crate::runtime::door_counts::DoorCounts;
use crate::runtime::system_clock;
use connection::Connection;
use introspect::Settings;
use kvorum_core::clock::Nanos;
use kvorum_core::measure::meter::Door;
use kvorum_core::session::SessionContext;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

/// What the connections of the door share.
pub struct RespDoor {
    context: Arc<SessionContext>,
    places: Arc<Places>,
    inflow: Arc<Inflow>,
    counts: Arc<DoorCounts>,
    writers: Writers,
    settings: Mutex<Settings>,
    /// Where it listens.
    address: SocketAddr,
    /// Another one after each start, of 40 hexadecimal digits.
    run_id: String,
    started: Nanos,
    connections: AtomicU64,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl RespDoor {
    /// A door at `address` for connections that find one of the `places`. It takes no more of them when `drain` is cancelled, and
    /// closes those that are idle; it closes when `stop` is.
    pub fn new(
        context: Arc<SessionContext>,
        address: SocketAddr,
        places: Arc<Places>,
        inflow: Arc<Inflow>,
        counts: Arc<DoorCounts>,
        drain: CancellationToken,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let digits = [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.simple().to_string()).concat();
        Arc::new(Self {
            context,
            places,
            inflow,
            counts,
            writers: Writers::new(),
            settings: Mutex::default(),
            address,
            run_id: digits[..40].to_owned(),
            started: system_clock::monotonic(),
            connections: AtomicU64::new(0),
            drain,
            stop,
        })
    }

    /// Accepts connections until the door is told to stop.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        accept(listener, &self.drain, |stream, from| self.admit(stream, from)).await;
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let door = Arc::clone(self);
        let Some(place) = self.places.take(Door::Resp) else {
            tokio::spawn(async move {
                turn_away(stream, b"-ERR max number of clients reached\r\n", door.places.to_linger()).await;
            });
            return;
        };
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::spawn(async move {
            if let Err(error) = Connection::new(&door, number, stream, from).run().await {
                debug!(%from, %error, "closed a connection");
            }
            drop(place);
        });
    }
}
