//! One connection of the fleet: an [`Engine`] and the socket under it, opened again when it is lost.

use crate::engine::{ConnectionError, Engine, Schedule, Seat};
use crate::limits::{DRAIN, READ_BYTES, RECONNECT_PAUSE_MAX, RECONNECT_PAUSE_MIN, RECONNECTS_MAX};
use crate::pacer::due;
use crate::recorder::Recorder;
use crate::routes::{Router, Routes};
use crate::secure::Stream;
use crate::socket::Socket;
use crate::wire::Protocol;
use bytes::{Buf, BytesMut};
use kvorum_protocol::{ClientId, NodeInfo};
use rand::Rng;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, watch};

/// A thread's recorder. Its counters are sound even if a task died while it held the lock.
pub(crate) fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection<P> {
    /// Its number in the fleet; it begins with node `number` modulo the nodes that lead.
    number: usize,
    /// New in each run, whatever the seed: the servers remember the writes of the last one.
    client: ClientId,
    router: Arc<Router>,
    recorder: Arc<Mutex<Recorder>>,
    /// Told when a request is due, in an open loop.
    due: Option<Arc<Notify>>,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Connection<P> {
    pub(crate) fn new(
        number: usize,
        router: Arc<Router>,
        recorder: Arc<Mutex<Recorder>>,
        due: Option<Arc<Notify>>,
    ) -> Self {
        let client = ClientId(uuid::Uuid::new_v4());
        Self { number, client, router, recorder, due, protocol: PhantomData }
    }

    /// Connects, says in `ready` whether that worked, waits for the schedule and works until it ends. The sender is
    /// dropped at the very end, which is how the fleet knows.
    pub(crate) async fn run(
        self,
        seat: Seat,
        ready: mpsc::Sender<bool>,
        mut schedule: watch::Receiver<Option<Schedule>>,
    ) {
        let far = Instant::now() + Duration::from_secs(3600);
        let mut socket = self.open(0, far).await;
        if ready.send(socket.is_ok()).await.is_err() {
            return;
        }
        let Ok(Some(schedule)) = schedule.wait_for(Option::is_some).await.map(|schedule| *schedule) else { return };
        let mut engine = Engine::<P>::new(seat, schedule);
        self.work(&mut engine, &mut socket, schedule).await;
        engine.handle_end(&mut lock(&self.recorder));
    }

    /// Serves, and opens the socket again when it is lost, until the phase is over or it was lost too often.
    async fn work(&self, engine: &mut Engine<P>, socket: &mut Result<Socket, ConnectionError>, schedule: Schedule) {
        let end = schedule.stop_at + DRAIN;
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let outcome = match socket {
                Ok(open) => self.serve(engine, open).await,
                Err(_) => std::mem::replace(socket, Err(ConnectionError::Closed)).map(|_| ()),
            };
            let now = Instant::now();
            engine.handle_disconnected(now, &mut lock(&self.recorder));
            let Err(error) = outcome else { return };
            lock(&self.recorder).count_lost(error.to_string());
            // A server that accepts and closes at once is not asked faster than one that refuses.
            failures = if began.elapsed() > RECONNECT_PAUSE_MAX { 1 } else { failures + 1 };
            if failures > RECONNECTS_MAX {
                return;
            }
            tokio::time::sleep_until((now + pause_after(failures)).min(end).into()).await;
            if engine.is_finished(Instant::now()) {
                return;
            }
            *socket = self.open(failures as usize, end).await;
            lock(&self.recorder).reconnected += u64::from(socket.is_ok());
        }
    }

    /// Opens a socket to this connection's node, or after failures to another one.
    async fn open(&self, failures: usize, deadline: Instant) -> Result<Socket, ConnectionError> {
        let node = node_for(&self.router.current(), self.number + failures);
        P::open(&node, self.client, deadline).await
    }

    /// Drives the engine until it is finished or the socket fails.
    async fn serve(&self, engine: &mut Engine<P>, socket: &mut Socket) -> Result<(), ConnectionError> {
        engine.handle_connected(socket.node);
        let Socket { stream, input, output, .. } = socket;
        match stream {
            Stream::Plain(stream) => {
                let (reader, writer) = stream.split();
                self.drive(engine, reader, writer, input, output).await
            }
            Stream::Tls(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                self.drive(engine, reader, writer, input, output).await
            }
        }
    }

    async fn drive(
        &self,
        engine: &mut Engine<P>,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<(), ConnectionError> {
        let io_error = |error: std::io::Error| ConnectionError::Io(error.kind());
        let mut now = Instant::now();
        let wake = tokio::time::sleep_until(engine.next_wake(now).into());
        tokio::pin!(wake);
        loop {
            engine.send(now, output);
            if engine.is_finished(now) {
                return Ok(());
            }
            // The timer is moved only when it must fire earlier, or has fired: moving it costs more than a request.
            let next_wake = engine.next_wake(now);
            if wake.is_elapsed() || next_wake < wake.deadline().into_std() {
                wake.as_mut().reset(next_wake.into());
            }
            input.reserve(READ_BYTES);
            tokio::select! {
                biased;
                // `write_buf` would make a vector of one buffer, which takes the kernel longer.
                written = writer.write(output), if !output.is_empty() => {
                    let written = written.map_err(io_error)?;
                    output.advance(written);
                    // TLS may have kept some of it; else it costs nothing.
                    writer.flush().await.map_err(io_error)?;
                    now = Instant::now();
                }
                read = reader.read_buf(input) => {
                    if read.map_err(io_error)? == 0 {
                        return Err(ConnectionError::Closed);
                    }
                    now = Instant::now();
                    engine.receive(input, now, &mut lock(&self.recorder))?;
                }
                () = due(self.due.as_deref()) => now = Instant::now(),
                () = &mut wake => {
                    now = Instant::now();
                    engine.check(now)?;
                }
            }
        }
    }
}

/// A node: of those that lead shards, or of all if none is known to.
fn node_for(routes: &Routes, number: usize) -> NodeInfo {
    let nodes = &routes.topology.nodes;
    let leading: Vec<usize> = (0..nodes.len()).filter(|&node| routes.leads(node)).collect();
    let node = if leading.is_empty() { number % nodes.len() } else { leading[number % leading.len()] };
    nodes[node].clone()
}

/// Doubles with each failure in a row; drawn, so that a fleet does not come back all at once.
fn pause_after(failures: u32) -> Duration {
    let pause = RECONNECT_PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(RECONNECT_PAUSE_MAX);
    rand::rng().random_range(pause / 2..=pause)
}
