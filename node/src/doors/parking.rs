//! Connections with nothing to do. What serves a busy one is large: a future of many branches with its timers, buffers, a session.
//! A connection that has been idle for [`PARK_AFTER`](kvorum_core::limits::PARK_AFTER), and has nothing under way, lets go of all
//! that. It keeps its socket and what its client has said of itself, and waits here. Once something comes, its door builds the rest
//! again.

use std::future::{Future, poll_fn};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Why a parked connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There is something to do: bytes or the end have come, or the node asks its clients to leave.
    ToServe,
    /// Somebody wants it closed.
    ToClose,
}

/// Waits until a connection has something to do. `socket` is the one below whatever encrypts: a stream must have given out all that
/// it has decrypted before it waits here. `closed`: whatever else may close the connection.
pub(super) async fn woken(socket: &TcpStream, drain: &CancellationToken, closed: impl Future<Output = ()>) -> Woken {
    tokio::select! {
        biased;
        () = closed => Woken::ToClose,
        // A new socket counts as readable until somebody has looked.
        () = poll_fn(|context| socket.poll_peek(context, &mut ReadBuf::new(&mut [0])).map(drop)) => Woken::ToServe,
        () = drain.cancelled() => Woken::ToServe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::limits::LINGER_TIMEOUT;
    use std::future::pending;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// A client, and the other end.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_wake_and_silence_does_not() {
        let (mut client, socket) = connected().await;
        let drain = CancellationToken::new();
        let mut waiting = std::pin::pin!(woken(&socket, &drain, pending()));
        assert!(timeout(LINGER_TIMEOUT / 10, &mut waiting).await.is_err(), "nothing has come");
        client.write_all(b"*").await.unwrap();
        assert_eq!(waiting.await, Woken::ToServe);
        let mut byte = [0; 2];
        assert_eq!(socket.try_read(&mut byte).unwrap(), 1, "the byte is still to be read");
    }

    #[tokio::test]
    async fn the_end_wakes_and_so_does_a_node_that_stops() {
        let (client, socket) = connected().await;
        let drain = CancellationToken::new();
        let (woke, ()) = tokio::join!(woken(&socket, &drain, pending()), async { drop(client) });
        assert_eq!(woke, Woken::ToServe);
        let (_client, socket) = connected().await;
        let (woke, ()) = tokio::join!(woken(&socket, &drain, pending()), async { drain.cancel() });
        assert_eq!(woke, Woken::ToServe);
    }

    #[tokio::test]
    async fn who_is_to_be_closed_is_not_served_first() {
        let (mut client, socket) = connected().await;
        client.write_all(b"PING\r\n").await.unwrap();
        socket.readable().await.unwrap();
        let (drain, killed) = (CancellationToken::new(), CancellationToken::new());
        killed.cancel();
        assert_eq!(woken(&socket, &drain, killed.cancelled()).await, Woken::ToClose);
    }

    #[tokio::test]
    async fn to_wait_costs_little() {
        let (_client, socket) = connected().await;
        let (drain, killed) = (CancellationToken::new(), CancellationToken::new());
        let bytes = size_of_val(&woken(&socket, &drain, killed.cancelled()));
        assert!(bytes <= 320, "{bytes} bytes");
    }
}
