//! Where a shard meets the actor library: the only place.
//!
//! The actor opens a [`ShardHost`] and gives it its turns. If it fails, its state is gone; the supervisor starts a new one,
//! which rebuilds everything from the log and gets an inbox of its own, so that nothing meant for the old one reaches it.

use kvorum_core::shard::ShardError;
use kvorum_core::shard::host::{ShardArguments, ShardHost, TurnEnd};
use kvorum_core::shard::inbox::Waker;
use kvorum_protocol::LogIndex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// What a shard's actor is told. Everything else comes through the inbox.
#[derive(Debug)]
pub enum ShardMessage {
    /// The inbox holds something.
    Wake,
    /// Another replica takes its place, or none does, and its files are erased: end, and write nothing more.
    Leave,
}

impl ractor::Message for ShardMessage {}

/// Why an actor ends whose replica has received a snapshot. The library ends an actor without its last words only for an
/// error, so this is one here, and nowhere else.
#[derive(Debug, thiserror::Error)]
#[error("a snapshot up to entry {index} was installed")]
pub(super) struct SnapshotInstalled {
    /// The last entry whose effects it holds.
    pub(super) index: LogIndex,
}

/// Ends the actor if its replica can't go on, or is to be opened again.
fn go_on(turned: Result<TurnEnd, ShardError>) -> Result<(), ActorProcessingErr> {
    match turned? {
        TurnEnd::Done => Ok(()),
        TurnEnd::Reopen { index } => Err(SnapshotInstalled { index }.into()),
    }
}

/// Takes a turn, and notes how long it kept its thread.
fn timed(host: &mut ShardHost) -> Result<TurnEnd, ShardError> {
    let began = Instant::now();
    let turned = host.turn();
    host.handle().counts.turn.note(began.elapsed().as_nanos() as u64);
    turned
}

/// The host; elsewhere while it takes a long turn, and gone if it panicked there. Boxed: it moves at every turn.
pub struct Hosted(Option<Box<ShardHost>>);

/// How many replicas write their last checkpoint at a time. Each has it in memory.
const LAST_CHECKPOINTS_MAX: usize = 4;
static LAST_CHECKPOINTS: Semaphore = Semaphore::const_new(LAST_CHECKPOINTS_MAX);

/// Does what may take milliseconds off the threads that answer small requests.
async fn aside<T: Send + 'static>(
    mut host: Box<ShardHost>,
    work: impl FnOnce(&mut ShardHost) -> T + Send + 'static,
) -> Result<(Box<ShardHost>, T), ActorProcessingErr> {
    let working = tokio::task::spawn_blocking(move || {
        let done = work(&mut host);
        (host, done)
    });
    match working.await {
        Ok(done) => Ok(done),
        // The host went with its panic, as it would have with the actor's own.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(error.into()),
        },
    }
}

const LOST: &str = "the shard's host was lost in a long turn";

/// The actor.
pub struct ShardActor;

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = Hosted;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMessage>,
        arguments: ShardArguments,
    ) -> Result<Hosted, ActorProcessingErr> {
        let outlet = Arc::clone(&arguments.outlet);
        // It only fails when the actor has stopped; what is queued is then answered as the host is dropped.
        let waker = Waker::new(move || drop(myself.cast(ShardMessage::Wake)));
        // Recovery reads and syncs files, so it stays off the async workers.
        let open = move || ShardHost::open(arguments, waker);
        let host = tokio::task::spawn_blocking(open).await??;
        outlet.opened(Arc::clone(host.handle()));
        host.handle().inbox.tick();
        Ok(Hosted(Some(Box::new(host))))
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        hosted: &mut Hosted,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMessage::Wake => {}
            ShardMessage::Leave => {
                let host = hosted.0.take();
                myself.stop(None);
                // It may wait for a job on its files, and frees much.
                return Ok(tokio::task::spawn_blocking(move || drop(host)).await?);
            }
        }
        // Whoever else is ready goes first, and adds to what this turn takes up: the busier the node, the larger the entry.
        tokio::task::yield_now().await;
        let Some(mut host) = hosted.0.take() else { return Err(ActorProcessingErr::from(LOST)) };
        if !host.is_long_turn() {
            let turned = timed(&mut host);
            hosted.0 = Some(host);
            return go_on(turned);
        }
        // Copies and checksums of large values.
        let (host, turned) = aside(host, timed).await?;
        hosted.0 = Some(host);
        go_on(turned)
    }

    async fn post_stop(&self, _myself: ActorRef<ShardMessage>, hosted: &mut Hosted) -> Result<(), ActorProcessingErr> {
        let Some(mut host) = hosted.0.take() else { return Ok(()) };
        host.write_last_record()?;
        // Never closed.
        let one_of_few = LAST_CHECKPOINTS.acquire().await;
        let (host, written) = aside(host, move |host| {
            let written = host.last_checkpoint();
            drop(one_of_few);
            written
        })
        .await?;
        hosted.0 = Some(host);
        Ok(written?)
    }
}
