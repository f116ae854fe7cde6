//! One process of the `kvorum` binary, with its log.

use super::wait::eventually;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Log lines kept per node.
const LOG_LINES_MAX: usize = 2_000;

/// What a node wrote to stderr, over all its starts; the oldest lines are dropped past a bound.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    pub(crate) fn push(&self, line: String) {
        let mut lines = self.0.lock().expect("no thread panics with the log locked");
        if lines.len() == LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no thread panics with the log locked").iter().cloned().collect()
    }

    pub(crate) fn last_line(&self) -> String {
        self.lines().into_iter().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
    }
}

/// What a process is given besides its arguments and environment.
pub(crate) struct Surroundings {
    /// How many file descriptors it may have; `None` for as many as the test has.
    pub(crate) descriptors: Option<u64>,
    /// Where its stderr goes.
    pub(crate) stderr: Stdio,
    /// What runs in place of the binary with its arguments.
    pub(crate) instead: Option<(PathBuf, Vec<String>)>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { descriptors: None, stderr: Stdio::piped(), instead: None }
    }
}

/// A running process. It is killed when this is dropped, and stops by itself when the test process dies, because its stdin
/// ends then.
pub(crate) struct NodeProcess {
    child: Child,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl NodeProcess {
    /// Starts the binary with `arguments` and `environment`; its output goes to `log`.
    ///
    /// # Panics
    /// If it can't be started.
    pub(crate) fn spawn(arguments: &[&str], environment: &[(&str, String)], log: &Log) -> Self {
        Self::spawn_with(arguments, environment, log, Surroundings::default())
    }

    /// [`NodeProcess::spawn`] in other surroundings; what goes to a pipe that is made here is in `log`.
    ///
    /// # Panics
    /// If it can't be started.
    pub(crate) fn spawn_with(
        arguments: &[&str],
        environment: &[(&str, String)],
        log: &Log,
        surroundings: Surroundings,
    ) -> Self {
        let Surroundings { descriptors, stderr, instead } = surroundings;
        let (binary, arguments) = instead.unwrap_or_else(|| {
            (env!("CARGO_BIN_EXE_kvorum").into(), arguments.iter().map(|argument| (*argument).to_owned()).collect())
        });
        let mut command = match descriptors {
            None => Command::new(binary),
            Some(descriptors) => {
                let mut shell = Command::new("sh");
                // The hard limit and the soft one.
                shell.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]).arg(binary);
                shell
            }
        };
        let mut child = command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary under test can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut readers = vec![copy_lines(stdout, log.clone())];
        readers.extend(child.stderr.take().map(|stderr| copy_lines(stderr, log.clone())));
        Self { child, readers }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`. When this returns the process is gone, and its ports and locks with it.
    pub(crate) fn kill(mut self) {
        self.kill_now();
    }

    /// Waits until the process ends by itself and all it wrote is in the log.
    ///
    /// # Panics
    /// If it does not within the deadline.
    pub(crate) async fn wait(mut self, what: &str, deadline: Duration) -> ExitStatus {
        let status = eventually(what, deadline, async || {
            self.child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it still runs".to_owned())
        })
        .await;
        self.readers.drain(..).for_each(|reader| reader.join().expect("a log reader does not panic"));
        status
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Memory of the process that no file backs, in bytes: what its queues and buffers take, without the mapped log.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    fn kill_now(&mut self) {
        // It may have ended already; either way `wait` collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// Runs the binary to its end, with nothing on stdin; returns its status and what it wrote to stdout and stderr.
///
/// # Panics
/// If it can't be started.
pub(crate) fn run(arguments: &[&str]) -> (ExitStatus, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kvorum"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary under test can be started");
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// [`run`], which must succeed.
///
/// # Panics
/// If it does not.
pub(crate) fn run_well(arguments: &[&str]) -> String {
    let (status, text) = run(arguments);
    assert!(status.success(), "kvorum {arguments:?} ended with {status}:\n{text}");
    text
}

fn copy_lines(from: impl std::io::Read + Send + 'static, log: Log) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
        lines.for_each(|line| log.push(String::from_utf8_lossy(&line).into_owned()));
    })
}
