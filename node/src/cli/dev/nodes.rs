//! Keeps the node processes running, and stops them.

use super::{DevNode, logs};
use crate::cli::exit::Exit;
use crate::runtime::node::NodeError;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a node that ended stays down.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Most restarts of one node within [`RESTART_WINDOW`]; past it, it is given up.
const RESTARTS_MAX: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// How long a node may take to stop gracefully before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Events that nobody has taken yet; the children's keepers wait when there are more.
const EVENTS_MAX: usize = 64;

/// Something that happened to a node.
#[derive(Debug)]
pub(super) enum Event {
    /// It ended and is started again.
    StartsAgain { node: u16, reason: String },
    /// It is not started again.
    GaveUp { node: u16, reason: String },
    /// It ended, because the cluster goes on without it.
    Removed { node: u16 },
}

/// The node processes. Dropping it kills them.
#[derive(Debug)]
pub(super) struct Nodes {
    program: PathBuf,
    keepers: JoinSet<()>,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
}

impl Nodes {
    /// Starts a process of `program` per node. Must be called inside a tokio runtime.
    pub(super) fn start(program: &Path, nodes: &[DevNode]) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (keepers, stop) = (JoinSet::new(), CancellationToken::new());
        let mut started = Self { program: program.to_owned(), keepers, sender, events, stop };
        nodes.iter().for_each(|node| started.add(node));
        started
    }

    /// Starts the process of one more node. Must be called inside a tokio runtime.
    pub(super) fn add(&mut self, node: &DevNode) {
        let keeper = Keeper { program: self.program.clone(), node: node.clone(), events: self.sender.clone() };
        self.keepers.spawn(keeper.run(self.stop.clone()));
    }

    /// The next thing that happens to a node; waits for ever if nothing can happen any more. Cancel safe.
    pub(super) async fn next_event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Stops every node gracefully, all at the same time, and returns when all have ended.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        self.events.close();
        while self.keepers.join_next().await.is_some() {}
    }
}

/// Keeps one node running.
struct Keeper {
    program: PathBuf,
    node: DevNode,
    events: mpsc::Sender<Event>,
}

impl Keeper {
    async fn run(self, stop: CancellationToken) {
        let mut budget = RestartBudget::default();
        loop {
            let ended = match self.spawn() {
                Err(error) => Ended { reason: error.to_string(), then: Then::GiveUp },
                Ok(mut child) => {
                    // Taken out, because waiting for a child closes the stdin that it still holds.
                    let stdin = child.stdin.take();
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return stop_child(child, stdin, &self.node).await,
                        status = child.wait() => self.ended(status),
                        never = keep_log_short(&self.node.log_path) => match never {},
                    }
                }
            };
            let (node, Ended { reason, then }) = (self.node.number, ended);
            match then {
                Then::Forget => return self.tell(Event::Removed { node }).await,
                Then::Restart if budget.take(Instant::now()) => self.tell(Event::StartsAgain { node, reason }).await,
                Then::Restart | Then::GiveUp => return self.tell(Event::GaveUp { node, reason }).await,
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RESTART_AFTER) => {}
            }
        }
    }

    /// The receiver is gone only when everything stops.
    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    fn spawn(&self) -> io::Result<Child> {
        let (stdout, stderr, log_error) = logs::output(&self.node.log_path);
        if let Some(error) = log_error {
            crate::cli::say(format_args!(
                "{} runs without a log: {}: {error}",
                self.node.name,
                self.node.log_path.display()
            ));
        }
        let mut command = Command::new(&self.program);
        if let Some([certificate, key]) = &self.node.admin {
            command.env("KVORUM_CERT", certificate).env("KVORUM_KEY", key);
        }
        command
            .arg("start")
            .arg("--exit-with-stdin")
            .arg("--config")
            .arg(&self.node.config_path)
            // The child stops when this pipe closes, which the kernel does for us in the worst case.
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            // A ctrl-c at the terminal is meant for the REPL.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Why a child ended, and what follows.
    fn ended(&self, status: io::Result<ExitStatus>) -> Ended {
        let status = match status {
            Ok(status) => status,
            Err(error) => return Ended { reason: error.to_string(), then: Then::GiveUp },
        };
        let Some(code) = status.code() else {
            return Ended { reason: format!("signal {}", status.signal().unwrap_or_default()), then: Then::Restart };
        };
        let reason = match code {
            0 => Some("it was told to stop".to_owned()),
            _ => logs::last_words(&self.node.log_path),
        };
        let reason = reason.unwrap_or_else(|| format!("exit code {code}"));
        let then = match code {
            // The code says that starting again is pointless, and only the words why: it is this program that said them.
            _ if code == i32::from(Exit::Config.code()) && reason == NodeError::Removed.to_string() => Then::Forget,
            _ if Exit::is_permanent(code) => Then::GiveUp,
            _ => Then::Restart,
        };
        Ended { reason, then }
    }
}

/// How a child ended.
struct Ended {
    /// For people.
    reason: String,
    then: Then,
}

/// What follows from it.
#[derive(Clone, Copy)]
enum Then {
    /// It is started again, unless that has happened too often.
    Restart,
    /// Starting it again is pointless.
    GiveUp,
    /// It was removed from the cluster.
    Forget,
}

/// For as long as the node runs.
async fn keep_log_short(path: &Path) -> Infallible {
    loop {
        tokio::time::sleep(logs::LOOK_EVERY).await;
        let path = path.to_owned();
        // A log that can't be put aside grows on: the node comes first.
        let _ = tokio::task::spawn_blocking(move || logs::put_aside_while_written(&path)).await;
    }
}

async fn stop_child(mut child: Child, stdin: Option<ChildStdin>, node: &DevNode) {
    drop(stdin);
    if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err() {
        crate::cli::say(format_args!("{} did not stop within {} s and is killed", node.name, STOP_WITHIN.as_secs()));
        // It can only fail if the child has just ended by itself.
        let _ = child.kill().await;
    }
}

/// Counts restarts in a sliding window.
#[derive(Debug, Default)]
struct RestartBudget {
    taken: VecDeque<Instant>,
}

impl RestartBudget {
    /// Takes one restart; `false` if there were too many of late.
    fn take(&mut self, now: Instant) -> bool {
        while self.taken.front().is_some_and(|&first| now.duration_since(first) >= RESTART_WINDOW) {
            self.taken.pop_front();
        }
        let is_left = self.taken.len() < RESTARTS_MAX;
        if is_left {
            self.taken.push_back(now);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_counted_in_a_sliding_window() {
        let start = Instant::now();
        let mut budget = RestartBudget::default();
        let second = Duration::from_secs(1);
        for restart in 0..5 {
            assert!(budget.take(start + second * restart));
        }
        assert!(!budget.take(start + second * 59));
        assert!(budget.take(start + second * 60), "the first has left the window");
        assert!(!budget.take(start + second * 60));
    }
}
