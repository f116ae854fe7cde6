//! The control session of a connection: a bidirectional stream that is handed to [`SessionHost`], and another one
//! whenever the session on it has ended while the connection stands.

use super::link::Link;
use kvorum_protocol::NodeId;
use quinn::{ConnectionError, RecvStream, SendStream};
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// The pause before the dialling end opens another session after one has ended. It bounds the rate of a session that
/// fails at once, and lets both ends forget the old one: two of one peer would compete.
const SESSION_DELAY: Duration = Duration::from_millis(200);

/// Whoever runs the control sessions.
pub trait SessionHost: Send + Sync + 'static {
    /// Takes the stream of a new session with `peer`. The host drops it when the session is over, and gets another one
    /// as long as the connection stands. `dialled` says which end this is. Must not block.
    fn attach(&self, peer: NodeId, stream: Box<dyn ClusterBidiStream>, dialled: bool);
}

/// Keeps one session attached until the connection ends. A link that is cut has none.
pub(super) async fn keep_attached(link: &Link) -> Result<Infallible, ConnectionError> {
    let Some(host) = link.shared.sessions.clone() else { return Err(link.connection.closed().await) };
    let mut cut = link.shared.watch_cut();
    loop {
        let (send, recv) = match link.dialled {
            true => {
                // The sender lives in `shared`: the wait can't fail.
                let _ = cut.wait_for(|cut| !cut).await;
                link.connection.open_bi().await?
            }
            false => link.connection.accept_bi().await?,
        };
        if *cut.borrow_and_update() {
            continue;
        }
        let (end, ended) = (CancellationToken::new(), CancellationToken::new());
        host.attach(link.slot.node, Box::new(SessionStream::new(send, recv, &end, &ended)), link.dialled);
        tokio::select! {
            () = ended.cancelled() => {}
            _ = cut.wait_for(|cut| *cut) => {}
            error = link.connection.closed() => return Err(error),
        }
        end.cancel();
        ended.cancelled().await;
        if link.dialled {
            tokio::time::sleep(SESSION_DELAY).await;
        }
    }
}

/// One session's stream. It reads as ended once `end` is cancelled, and cancels `ended` when its reader lets it go.
struct SessionStream {
    send: SendStream,
    read: SessionRead,
}

struct SessionRead {
    recv: RecvStream,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    _ended: DropGuard,
}

impl SessionStream {
    fn new(send: SendStream, recv: RecvStream, end: &CancellationToken, ended: &CancellationToken) -> Self {
        let end = Box::pin(end.clone().cancelled_owned());
        Self { send, read: SessionRead { recv, end, _ended: ended.clone().drop_guard() } }
    }
}

impl ClusterBidiStream for SessionStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        (Box::new(self.read), Box::new(self.send))
    }
}

impl AsyncRead for SessionRead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf)
    }
}
