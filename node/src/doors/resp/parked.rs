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
use kvorum_core::limits::LINGER_TIMEOUT;
use kvorum_protocol::ErrorCode;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

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
        let serial = certificate.as_ref().map(|certificate| certificate.serial.clone());
        let client = door.node.clients.enter(from, to, door.mode, serial);
        let refused = certificate.and_then(|certificate| log_in(door, &client, certificate).err());
        Ok(Self { door, stream, manners: Manners::new(client), refused })
    }

    /// Serves the client until one of the two closes.
    pub(super) async fn serve(&mut self) -> Result<(), RespConnectionError> {
        if let Some(why) = self.refused.take() {
            return self.refuse(&why).await;
        }
        loop {
            // What came with the end of the handshake was read from the socket already.
            if !self.stream.holds_input() {
                let counted = self.door.node.clients.park();
                let socket = self.stream.socket();
                let woken = woken(socket, &self.door.node.drain, self.manners.client.killed.cancelled()).await;
                drop(counted);
                if woken == Woken::ToClose {
                    return Ok(());
                }
            }
            // In a box, so that it is gone with all its memory once it has ended.
            let serving = Box::pin(Connection::new(self.door, &mut self.stream, &mut self.manners).run());
            if serving.await? == Served::Closed {
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
            client.about(|about| (about.principal, about.user) = (principal, user));
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
