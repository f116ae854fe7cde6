//! What doors have in common: taking connections in, and turning away those that are too many.

use super::tls::{CameIn, DoorTls, arrive};
use crate::runtime::system_clock;
use kvorum_core::limits::{ACCEPT_ERROR_LOG_INTERVAL, LINGER_BYTES_MAX, LINGER_READ_BYTES, LINGER_TIMEOUT};
use kvorum_core::rare::Rare;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Accepts connections until `drain` is cancelled, and gives each to `admit`, which must not block. Those that the system has taken in
/// by then are admitted as well: it would reset them, with the requests that were sent on them.
pub(super) async fn accept(
    listener: TcpListener,
    drain: &CancellationToken,
    admit: impl Fn(TcpStream, SocketAddr) + Send,
) {
    let mut errors = Rare::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => break,
        };
        match accepted {
            Ok((stream, from)) => admit(stream, from),
            Err(error) => {
                // Out of descriptors, most likely: existing connections go on; a pause lets some of them end.
                if let Some(times) = errors.note(system_clock::monotonic(), ACCEPT_ERROR_LOG_INTERVAL) {
                    warn!(%error, times, "can't accept connections");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // The executor's own way would wait until it hears of them.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, from)) = listener.accept() {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            admit(stream, from);
        }
    }
}

/// Says why, and closes. The client has sent its first request, most likely: closing outright would reset the connection, and what is said
/// with it. That happens to those who find no place to linger, so that they can't pile up; over TLS they hear nothing.
pub(super) async fn turn_away(
    tls: Option<&DoorTls>,
    socket: TcpStream,
    came_in: CameIn<'_>,
    why: &[u8],
    places: &Semaphore,
) {
    if tls.is_some() {
        let Ok(_place) = places.try_acquire() else { return };
        if let Ok(Some(arrived)) = timeout(LINGER_TIMEOUT, arrive(tls, socket, came_in)).await {
            let mut stream = arrived.stream;
            if matches!(timeout(LINGER_TIMEOUT, stream.write_all(why)).await, Ok(Ok(()))) {
                linger(&mut stream).await;
            }
        }
        return;
    }
    let mut stream = socket;
    // It is short: a new socket takes it at once.
    if matches!(timeout(LINGER_TIMEOUT, stream.write_all(why)).await, Ok(Ok(())))
        && let Ok(_place) = places.try_acquire()
    {
        linger(&mut stream).await;
    }
}

/// Closes so that the client sees the reason: half a close first, since closing outright with bytes unread would reset the
/// connection. Reads and drops what the client has sent before it could know: a bounded number of bytes, for a bounded time.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    // What is encrypted has to be taken first.
    if !matches!(timeout(LINGER_TIMEOUT, stream.shutdown()).await, Ok(Ok(()))) {
        return;
    }
    // Not an array: it would be part of every future that may come to here, and move with each of them.
    let mut rest = vec![0; LINGER_READ_BYTES];
    let drained = async {
        let mut left = LINGER_BYTES_MAX;
        while let Ok(read @ 1..) = stream.read(&mut rest).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    // A client that goes on sending past that has the reset that it asked for.
    let _ = timeout(LINGER_TIMEOUT, drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn came_in() -> CameIn<'static> {
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        CameIn { door: kvorum_core::measure::meter::Door::Binary, from, to_plain: b"" }
    }

    /// A client that has sent something that nobody has read, and the other end.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(b"HELLO").await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        (client, stream)
    }

    #[tokio::test]
    async fn who_has_connected_before_the_end_is_admitted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let drain = CancellationToken::new();
        drain.cancel();
        let admitted = parking_lot::Mutex::new(Vec::new());
        accept(listener, &drain, |stream, _| admitted.lock().push(stream)).await;
        assert_eq!(admitted.lock().len(), clients.len());
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
        for (mut stream, client) in admitted.into_inner().into_iter().zip(clients) {
            stream.write_all(b"welcome").await.unwrap();
            client.readable().await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_is_turned_away_learns_why() {
        let (mut client, stream) = connected().await;
        client.shutdown().await.unwrap();
        turn_away(None, stream, came_in(), b"too many", &Semaphore::new(1)).await;
        let mut why = Vec::new();
        client.read_to_end(&mut why).await.expect("the connection is not reset");
        assert_eq!(why, b"too many");
    }

    #[tokio::test]
    async fn who_finds_no_place_to_linger_is_gone_at_once() {
        let (_silent, stream) = connected().await;
        let places = Semaphore::new(0);
        timeout(LINGER_TIMEOUT / 2, turn_away(None, stream, came_in(), b"too many", &places))
            .await
            .expect("nobody waits");
        let (_silent, stream) = connected().await;
        let places = Semaphore::new(1);
        let begun = Instant::now();
        turn_away(None, stream, came_in(), b"too many", &places).await;
        assert!(begun.elapsed() >= LINGER_TIMEOUT, "there the client has time to read");
        assert_eq!(places.available_permits(), 1, "and its place is free again");
    }
}
