//! What doors that speak over a stream of bytes do the same way, whether it is encrypted or not.

use bytes::{Buf, BufMut, BytesMut};
use kvorum_core::limits::{
    INFLOW_STEP_BYTES, KEEP_ALIVE_AFTER, KEEP_ALIVE_EVERY, KEEP_ALIVE_PROBES, SESSION_READ_BYTES,
};
use rustix::net::sockopt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

/// Pieces of output that one call writes.
const WRITE_PIECES: usize = 16;

/// A socket from which no more than this can be read before a handshake is over.
pub(super) struct Bounded {
    socket: TcpStream,
    left: usize,
}

impl Bounded {
    /// So many bytes can be read.
    pub(super) fn new(socket: TcpStream, left: usize) -> Self {
        Self { socket, left }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, "the handshake is too long")));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, into))?;
        if this.left != usize::MAX {
            this.left = this.left.saturating_sub(into.filled().len() - before);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// What a client's bytes come by.
pub(super) enum DoorStream {
    /// As they are.
    Plain(TcpStream),
    /// Encrypted. What TLS keeps for a connection is large: it lies apart.
    Tls(Box<TlsStream<Bounded>>),
}

/// What [`DoorStream::exchange`] has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moved {
    /// So many bytes have come in; none at the end.
    Read(usize),
    /// So many bytes were taken. It may be none: what was taken before has left.
    Written(usize),
}

impl DoorStream {
    /// An encrypted stream whose handshake is over.
    pub(super) fn encrypted(mut stream: TlsStream<Bounded>) -> Self {
        stream.get_mut().0.left = usize::MAX;
        Self::Tls(Box::new(stream))
    }

    /// The socket below whatever encrypts.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.get_ref().0.socket,
        }
    }

    /// Whether bytes that were taken have still to leave.
    pub(super) fn holds_output(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.wants_write(),
        }
    }

    /// Whether bytes that have come in can be read without the socket.
    pub(super) fn holds_input(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => !stream.get_ref().1.wants_read(),
        }
    }

    /// What both ends of an encrypted connection alone have in common (RFC 9266).
    pub(super) fn binding(&self) -> Option<[u8; 32]> {
        let Self::Tls(stream) = self else { return None };
        stream.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
    }

    /// Reads what there is into `input`, and writes of `output`, whichever is there and can go on first. Reads no more at once than
    /// what a connection's share of memory grows by.
    pub(super) async fn exchange(
        &mut self,
        mut input: Option<&mut BytesMut>,
        mut output: Option<&mut impl Buf>,
    ) -> io::Result<Moved> {
        poll_fn(|context| {
            if let Some(output) = &mut output
                && let Poll::Ready(written) = self.poll_write_some(context, *output)
            {
                return Poll::Ready(written.map(Moved::Written));
            }
            match &mut input {
                Some(input) => self.poll_read_some(context, input).map_ok(Moved::Read),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_read_some(&mut self, context: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
        // Whoever sends nothing needs no memory to read it into.
        if !self.holds_input() {
            ready!(self.socket().poll_read_ready(context))?;
        }
        input.reserve(SESSION_READ_BYTES / 4);
        let mut step = input.limit(INFLOW_STEP_BYTES);
        pin!(self.read_buf(&mut step)).poll(context)
    }

    fn poll_write_some(&mut self, context: &mut Context<'_>, output: &mut impl Buf) -> Poll<io::Result<usize>> {
        if !output.has_remaining() {
            ready!(Pin::new(self).poll_flush(context))?;
            return Poll::Ready(Ok(0));
        }
        let mut pieces = [IoSlice::new(&[]); WRITE_PIECES];
        let used = output.chunks_vectored(&mut pieces);
        let written = ready!(Pin::new(self).poll_write_vectored(context, &pieces[..used]))?;
        output.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Writes what is taken at once.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(stream) => at_once(|context| Pin::new(stream).poll_write(context, bytes)),
        }
    }

    /// The same of several pieces.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is.
    pub(super) fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(pieces),
            Self::Tls(stream) => at_once(|context| Pin::new(stream).poll_write_vectored(context, pieces)),
        }
    }
}

/// Does what can be done without waiting. Whoever waits then has to ask again.
fn at_once<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Drop for DoorStream {
    /// Tells the other end, if it can be told at once: else it could not know that nobody has cut the stream off.
    fn drop(&mut self) {
        if let Self::Tls(stream) = self {
            stream.get_mut().1.send_close_notify();
            let _ = at_once(|context| Pin::new(stream).poll_flush(context));
        }
    }
}

impl AsyncRead for DoorStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, into),
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(context, into)) {
                // Many clients close without a word. What they have sent has ends of its own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
        }
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
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
