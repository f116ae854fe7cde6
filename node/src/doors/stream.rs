//! What doors that speak over a stream of bytes do the same way.

use bytes::{BufMut, BytesMut};
use kvorum_core::limits::{
    INFLOW_STEP_BYTES, KEEP_ALIVE_AFTER, KEEP_ALIVE_EVERY, KEEP_ALIVE_PROBES, SESSION_READ_BYTES,
};
use rustix::net::sockopt;
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::time::Instant;

/// Reads no more at once than what a connection's share of memory grows by.
pub(super) async fn read_some(stream: &mut ReadHalf<'_>, input: &mut BytesMut) -> io::Result<usize> {
    // Whoever sends nothing needs no memory to read it into.
    stream.readable().await?;
    input.reserve(SESSION_READ_BYTES / 4);
    stream.read_buf(&mut input.limit(INFLOW_STEP_BYTES)).await
}

/// Has the system ask a silent client whether it is still there: one that vanished without a word would hold its place for
/// ever. A client that is there may be silent as long as it likes.
pub(super) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_PROBES)?)
}

/// Waits until then; returns at once without a deadline.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
