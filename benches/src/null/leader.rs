//! Replicates what its sessions hand in: one thread for its own file, and per follower one that sends and one that listens.

use super::Ring;
use super::session::Session;
use bytes::Bytes;
use kvorum_protocol::RequestId;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// See the module. Positions count the bytes that were ever handed in.
pub(super) struct Leader {
    state: Mutex<State>,
    /// One per destination: its own file, then the followers.
    come: Vec<Condvar>,
}

struct State {
    /// What each destination has not taken yet.
    outgoing: Vec<Vec<u8>>,
    /// What each destination is known to have.
    persisted: Vec<u64>,
    end: u64,
    /// In the order of their positions.
    waiting: VecDeque<Waiting>,
}

/// Requests of a session that are answered when the bytes up to `end` are on a majority.
struct Waiting {
    end: u64,
    session: Arc<Session>,
    ids: Vec<RequestId>,
    answer: Bytes,
}

impl Leader {
    /// Connects to the followers and starts the threads.
    pub(super) fn start(followers: &[String], file: Option<Ring>) -> io::Result<Arc<Self>> {
        let destinations = 1 + followers.len();
        let leader = Arc::new(Self {
            state: Mutex::new(State {
                outgoing: vec![Vec::new(); destinations],
                persisted: vec![0; destinations],
                end: 0,
                waiting: VecDeque::new(),
            }),
            come: (0..destinations).map(|_| Condvar::new()).collect(),
        });
        for (follower, address) in (1..).zip(followers) {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            let mut acks = stream.try_clone()?;
            let sender = Arc::clone(&leader);
            run(move || sender.drain(follower, |batch| stream.write_all(batch)));
            let listener = Arc::clone(&leader);
            run(move || {
                let mut position = [0; 8];
                loop {
                    acks.read_exact(&mut position)?;
                    listener.advance(follower, u64::from_le_bytes(position));
                }
            });
        }
        let writer = Arc::clone(&leader);
        let mut file = file;
        let mut position = 0;
        run(move || {
            let again = Arc::clone(&writer);
            writer.drain(0, |batch| {
                if let Some(file) = &mut file {
                    file.append(batch)?;
                }
                position += batch.len() as u64;
                again.advance(0, position);
                Ok(())
            })
        });
        Ok(leader)
    }

    /// Replicates `writes`, and then answers the requests `ids` of `session` with `answer`.
    pub(super) fn hand_in(&self, writes: &[u8], session: &Arc<Session>, ids: Vec<RequestId>, answer: &Bytes) {
        let mut state = self.lock();
        state.outgoing.iter_mut().for_each(|outgoing| outgoing.extend_from_slice(writes));
        state.end += writes.len() as u64;
        let end = state.end;
        state.waiting.push_back(Waiting { end, session: Arc::clone(session), ids, answer: answer.clone() });
        drop(state);
        self.come.iter().for_each(Condvar::notify_one);
    }

    /// Gives `take` all that has come for a destination, again and again.
    fn drain(&self, destination: usize, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            while state.outgoing[destination].is_empty() {
                state = self.come[destination].wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut batch, &mut state.outgoing[destination]);
            drop(state);
            take(&batch)?;
            batch.clear();
        }
    }

    /// A destination has everything up to `position`: answers what is on a majority now.
    fn advance(&self, destination: usize, position: u64) {
        let mut state = self.lock();
        state.persisted[destination] = position;
        let others = state.persisted[1..].iter().copied().max().unwrap_or(u64::MAX);
        let committed = state.persisted[0].min(others);
        let count = state.waiting.partition_point(|waiting| waiting.end <= committed);
        let answered: Vec<_> = state.waiting.drain(..count).collect();
        drop(state);
        for Waiting { session, ids, answer, .. } in answered {
            session.answer_writes(&ids, &answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leader without one of its threads would measure nothing.
fn run(body: impl FnOnce() -> io::Result<()> + Send + 'static) {
    std::thread::spawn(|| {
        let Err(error) = body() else { return };
        eprintln!("null leader: {error}");
        std::process::exit(1);
    });
}
