//! What ends a node: a child of the root that failed for good, or a task without which the node would only seem to live.

use super::NodeError;
use kvorum_core::roster::ProcessEnd;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The root of the actor tree: notes which child failed, and ends the node.
pub(super) struct Root;

impl Actor for Root {
    type Msg = ();
    type State = mpsc::Sender<NodeError>;
    type Arguments = mpsc::Sender<NodeError>;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        fatal: mpsc::Sender<NodeError>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(fatal)
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        fatal: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, reason) = event {
            let end = reason.downcast::<ProcessEnd>();
            let failure = end.map_or_else(NodeError::RestartIntensity, |end| NodeError::from(*end));
            // A full channel holds a reason already.
            let _ = fatal.try_send(failure);
        }
        Ok(())
    }
}

/// Runs a task without which the node would only seem to live. If it ends before `stop`, the node does.
pub(super) fn spawn_essential(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
    stop: CancellationToken,
    fatal: mpsc::Sender<NodeError>,
) {
    let task = tokio::spawn(task);
    tokio::spawn(async move {
        let ended = task.await;
        if ended.is_err() || !stop.is_cancelled() {
            // A full channel holds a reason already.
            let _ = fatal.try_send(NodeError::Task(name));
        }
    });
}

/// Ends the node if a thread panics without which it would only seem to live.
pub(super) fn if_panics(name: &'static str, fatal: &mpsc::Sender<NodeError>) -> impl FnOnce() + Send + 'static + use<> {
    let fatal = fatal.clone();
    // A full channel holds a reason already.
    move || drop(fatal.try_send(NodeError::Task(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Fails as it stops.
    struct Fails;

    impl Actor for Fails {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn post_stop(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
            Err("a test of what a failure does".into())
        }
    }

    #[tokio::test]
    async fn what_fails_as_it_stops_is_told_before_the_root_has_drained() {
        const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
        let (fatal, mut failed) = mpsc::channel(4);
        let (root, _) = Actor::spawn(None, Root, fatal).await.unwrap();
        let (child, _) = Actor::spawn_linked(None, Fails, (), root.get_cell()).await.unwrap();
        child.stop_and_wait(None, PATIENCE).await.unwrap();
        root.drain_and_wait(PATIENCE).await.unwrap();
        assert!(matches!(failed.try_recv(), Ok(NodeError::RestartIntensity(_))));
    }

    #[tokio::test]
    async fn an_essential_task_that_panics_ends_the_node_and_one_that_is_stopped_does_not() {
        let (fatal, mut failed) = mpsc::channel(4);
        let stop = CancellationToken::new();
        spawn_essential("this", async { panic!("a test of what a panic does") }, stop.clone(), fatal.clone());
        assert!(matches!(failed.recv().await, Some(NodeError::Task("this"))));
        stop.cancel();
        spawn_essential("that", async {}, stop, fatal);
        assert!(failed.recv().await.is_none(), "the watcher has gone without a word");
    }
}
