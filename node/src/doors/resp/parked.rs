//! What a connection has as long as its client stays: the stream, and what the client has said of itself. All else is built when the
//! client asks for something, and let go when it has been idle for a while. Most connections of a large pool are idle.

use super::RespDoor;
use super::clients::Client;
use super::connection::{Connection, RespConnectionError, Served};
use super::introspect::Manners;
use crate::auth::user_cert::UserCertificate;
use crate::doors::accepting::linger;
use crate::doors::parking::{Woken, woken};
use crate::doors::stream::{DoorStream, keep_alive};
use crate::doors::tls::Arrived;
use kvorum_core::limits::{HELLO_TIMEOUT, LINGER_TIMEOUT};
use kvorum_protocol::ErrorCode;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// A connection, also while nothing else of it is there.
pub(super) struct Parked<'a> {
    door: &'a RespDoor,
    stream: DoorStream,
    manners: Manners,
    /// The certificate that the client has shown is not taken: what it is told.
    refused: Option<Vec<u8>>,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.door.node.clients.leave(&self.manners.client);
    }
}

impl<'a> Parked<'a> {
    /// A new connection, which others see from here on.
    ///
    /// # Errors
    /// The socket is gone already.
    pub(super) fn new(door: &'a RespDoor, arrived: Arrived, from: SocketAddr) -> Result<Self, RespConnectionError> {
        let Arrived { stream, certificate } = arrived;
        stream.socket().set_nodelay(true)?;
        keep_alive(stream.socket())?;
        let to = stream.socket().local_addr()?;
        let client = door.node.clients.enter(from, to, door.mode, certificate.clone());
        let refused = certificate.and_then(|certificate| log_in(door, &client, certificate).err());
        Ok(Self { door, stream, manners: Manners::new(client), refused })
    }

    /// Serves the client until one of the two closes.
    pub(super) async fn serve(&mut self) -> Result<(), RespConnectionError> {
        if let Some(why) = self.refused.take() {
            return self.refuse(&why).await;
        }
        let mut hello_by = Some(Instant::now() + HELLO_TIMEOUT);
        loop {
            hello_by = hello_by.filter(|_| is_unknown(self.door, &self.manners.client));
            // What came with the end of the handshake was read from the socket already.
            if !self.stream.holds_input() {
                let counted = self.door.node.clients.park();
                let socket = self.stream.socket();
                let killed = self.manners.client.killed.cancelled();
                let closed = async {
                    match hello_by {
                        None => killed.await,
                        // In a box: the others need no timer.
                        Some(by) => drop(Box::pin(timeout_at(by, killed)).await),
                    }
                };
                let woken = woken(socket, &self.door.node.drain, closed).await;
                drop(counted);
                if woken == Woken::ToClose {
                    return Ok(());
                }
            }
            // In a box, so that it is gone with all its memory once it has ended.
            let client = Arc::clone(&self.manners.client);
            let mut serving = Box::pin(Connection::new(self.door, &mut self.stream, &mut self.manners).run());
            let served = tokio::select! {
                served = &mut serving => served?,
                () = until(hello_by) => {
                    if is_unknown(self.door, &client) {
                        return Ok(());
                    }
                    serving.await?
                }
            };
            if served == Served::Closed {
                return Ok(());
            }
        }
    }

    async fn refuse(&mut self, why: &[u8]) -> Result<(), RespConnectionError> {
        if matches!(timeout(LINGER_TIMEOUT, self.stream.write_all(why)).await, Ok(Ok(()))) {
            Box::pin(linger(&mut self.stream)).await;
        }
        Ok(())
    }
}

/// Waits until then; for ever without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => Box::pin(sleep_until(time)).await,
        None => pending().await,
    }
}

/// Whether the client has never said who it is, and has to.
fn is_unknown(door: &RespDoor, client: &Client) -> bool {
    door.node.context.router.auth().is_required() && !client.about(|about| about.has_logged_in)
}

/// The client is who its certificate says.
///
/// # Errors
/// What it is told. Who shows a certificate that is not taken is not taken for nobody.
fn log_in(door: &RespDoor, client: &Client, certificate: UserCertificate) -> Result<(), Vec<u8>> {
    let UserCertificate { user, serial } = certificate;
    let logins = &door.node.logins;
    let known = logins.by_certificate(&user, &serial);
    let placed = known.and_then(|principal| {
        client.take_place(|held| logins.place(&principal, held))?;
        Ok(principal)
    });
    match placed {
        Ok(principal) => {
            client.about(|about| {
                (about.principal, about.has_logged_in, about.user) = (principal, true, user);
            });
            Ok(())
        }
        Err(failure) => {
            let kind = match failure.error().code {
                ErrorCode::Unauthenticated => "WRONGPASS",
                ErrorCode::TooManyConnections => "ERR",
                _ => "TRYAGAIN",
            };
            Err(format!("-{kind} {failure}\r\n").into_bytes())
        }
    }
}
