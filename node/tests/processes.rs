//! `kvorum start` and `kvorum dev` as real processes: how they begin, how they end, and what they leave behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use crate::common::ports::free_base_port;
use kvorum_core::folder::mirrored::copy_of;
use kvorum_core::map_keeper::RING_COPY;
use kvorum_core::ring::RingMap;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, without what the environment of the tests would tell it.
fn kvorum<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvorum"));
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("KVORUM_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder for a cluster that no test shares.
struct Place {
    folder: TempDir,
    base_port: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), base_port: free_base_port().to_string() }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir().join(path)
    }

    fn init(&self) -> &Self {
        let dir = self.dir();
        let output = kvorum(["init", "--base-port", &self.base_port, "--dir"]).arg(dir).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        self
    }

    /// `kvorum start` of a node, ended by the end of its stdin.
    fn start(&self, node: &str) -> Command {
        let mut command = kvorum(["start", "--exit-with-stdin", "--config"]);
        command.arg(self.path(node).join("kvorum.toml"));
        command
    }

    fn dev(&self) -> Command {
        let mut command = kvorum(["dev", "--no-repl", "--base-port", &self.base_port, "--dir"]);
        command.arg(self.dir());
        command
    }

    /// The process that holds a node's data folder; `None` while it writes its id there.
    fn process_of(&self, node: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.path(node).join("data/LOCK")).unwrap();
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    }

    /// Waits until no process holds the data folder of a node.
    fn wait_until_free(&self, node: &str) {
        let lock = File::open(self.path(node).join("data/LOCK")).unwrap();
        let (sender, freed) = mpsc::channel();
        std::thread::spawn(move || sender.send(lock.lock().is_ok()));
        assert_eq!(freed.recv_timeout(PATIENCE), Ok(true), "{node} still runs");
    }

    fn run_state(&self, node: &str) -> String {
        fs::read_to_string(self.path(node).join("data/run-state")).unwrap()
    }
}

/// A running process whose lines are read as they come; killed when the test ends.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines }
    }

    /// Reads lines up to the first that holds a text.
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{text:?} did not come ({error}); seen:\n{}", seen.join("\n")),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if the process has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_wrong_configuration_ends_the_start_with_78() {
    let place = Place::new();
    let output = place.init().start("node-1").args(["--shards", "12"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        stderr(&output),
        "kvorum: configuration: shards: \"12\" is not allowed; expected a power of two from 1 to 4096 \
         (flag --shards) (exit code 78)\n"
    );
}

#[test]
fn a_certificate_of_another_node_ends_the_start_with_78() {
    let place = Place::new();
    let other = place.init().path("node-2/node.pem");
    let output = place.start("node-1").arg("--tls-certificate").arg(&other).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let expected = format!("kvorum: tls.certificate: {} is the certificate of node ", other.display());
    assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    let output = place.start("node-1").args(["--tls-key", "/nowhere/node.key"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let expected = "kvorum: tls.key: /nowhere/node.key: No such file or directory (os error 2) (exit code 78)\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    for arguments in [["start", "--sharks"], ["dev", "--nodes=many"], ["init", "--durability=never"]] {
        assert_eq!(kvorum(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_second_process_on_a_data_folder_ends_with_75_and_the_first_goes_on() {
    let place = Place::new();
    let mut first = Running::new(&mut place.init().start("node-1"));
    first.wait_for("starting: the data folder is new");
    let output = place.start("node-1").output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let expected = format!("is in use by process {} (exit code 75)\n", first.child.id());
    assert!(stderr(&output).ends_with(&expected), "{}", stderr(&output));
    assert!(first.child.try_wait().unwrap().is_none());
}

#[test]
fn a_node_stops_cleanly_on_sigterm_and_when_its_stdin_ends() {
    let place = Place::new();
    let mut node = Running::new(&mut place.init().start("node-1"));
    node.wait_for("starting: the data folder is new");
    assert!(place.run_state("node-1").contains("state running\n"));
    drop(node.child.stdin.take());
    node.wait_for("stopped");
    assert_eq!(node.exit_code(), Some(0));
    assert!(place.run_state("node-1").contains("state clean\n"));

    let mut node = Running::new(&mut place.start("node-1"));
    node.wait_for("starting: after a clean stop");
    // The probe: whoever answers has installed its signal handlers.
    let address = ("127.0.0.1", place.base_port.parse::<u16>().unwrap() + 1);
    wait_until("the node listens", || std::net::TcpStream::connect(address).is_ok());
    node.signal(Signal::TERM);
    node.wait_for("SIGTERM");
    node.wait_for("stopped");
    assert_eq!(node.exit_code(), Some(0));
}

#[test]
fn a_killed_node_comes_back_as_after_a_crash() {
    let place = Place::new();
    let mut node = Running::new(&mut place.init().start("node-1"));
    node.wait_for("starting: the data folder is new");
    node.signal(Signal::KILL);
    assert_eq!(node.exit_code(), None);
    let mut node = Running::new(&mut place.start("node-1"));
    node.wait_for("starting: after a crash");
}

#[test]
fn dev_gets_ready_restarts_a_killed_node_and_leaves_nothing_running() {
    let place = Place::new();
    let mut dev = Running::new(&mut place.dev());
    dev.wait_for("new cluster ");
    dev.wait_for("ready in ");
    let killed = place.process_of("node-2").unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    dev.wait_for("node-2 ended (signal 9); starts again");
    wait_until("node-2 is back", || place.process_of("node-2").is_some_and(|process| process != killed));
    dev.signal(Signal::TERM);
    dev.wait_for("stopping the nodes");
    assert_eq!(dev.exit_code(), Some(0));
    for node in ["node-1", "node-2", "node-3"] {
        place.wait_until_free(node);
        assert!(place.run_state(node).contains("state clean\n"), "{node}");
    }
}

#[test]
fn the_nodes_end_when_dev_is_killed() {
    let place = Place::new();
    let mut dev = Running::new(&mut place.dev());
    dev.wait_for("ready in ");
    dev.signal(Signal::KILL);
    assert_eq!(dev.exit_code(), None);
    for node in ["node-1", "node-2", "node-3"] {
        place.wait_until_free(node);
    }
}

#[test]
fn dev_keeps_its_cluster_and_refuses_other_flags() {
    let place = Place::new();
    let mut dev = Running::new(&mut place.dev());
    let first = dev.wait_for("new cluster ");
    dev.wait_for("ready in ");
    dev.signal(Signal::INT);
    assert_eq!(dev.exit_code(), Some(0));

    let output = place.dev().args(["--shards", "32"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("was created with --shards 16, not 32"), "{}", stderr(&output));

    let mut dev = Running::new(&mut place.dev());
    assert_eq!(format!("new {}", dev.wait_for("cluster ")), first);
    dev.wait_for("ready in ");
}

#[test]
fn dev_names_the_port_that_is_taken() {
    let place = Place::new();
    let port = place.base_port.parse::<u16>().unwrap() + 2;
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = place.dev().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("kvorum: port {port} (binary door of node-2, TCP) is in use");
    assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    assert!(!place.dir().exists(), "what never ran leaves nothing behind");
}

#[test]
fn dev_refuses_what_the_environment_says_to_all_its_nodes() {
    let place = Place::new();
    let output = place.dev().env("KVORUM_CLIENT_LISTEN", "127.0.0.1:7999").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).starts_with("kvorum: KVORUM_CLIENT_LISTEN is set: all 3 nodes"), "{}", stderr(&output));
    assert!(!place.dir().exists());
}

#[test]
fn dev_says_that_the_end_of_stdin_ends_it() {
    let place = Place::new();
    let mut dev = kvorum(["dev", "--base-port", &place.base_port, "--dir"]);
    let mut dev = Running::new(dev.arg(place.dir()));
    dev.wait_for("ready in ");
    drop(dev.child.stdin.take());
    dev.wait_for("stdin has ended, and so does the cluster; with --no-repl it runs until");
    dev.wait_for("stopping the nodes");
    assert_eq!(dev.exit_code(), Some(0));
}

#[test]
fn another_replication_factor_than_the_clusters_is_refused() {
    let place = Place::new();
    let mut dev = Running::new(&mut place.dev());
    dev.wait_for("ready in ");
    dev.signal(Signal::TERM);
    assert_eq!(dev.exit_code(), Some(0));
    let output = place.start("node-1").args(["--replication-factor", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let told = stderr(&output);
    let expected =
        "kvorum: the cluster was created with replication_factor 3, the configuration says 1 (exit code 78)\n";
    assert!(told.ends_with(expected), "{told}");
    assert!(place.run_state("node-1").contains("state clean\n"), "nothing was done since the clean stop");
}

#[test]
fn what_another_program_has_written_is_not_for_another_start() {
    let place = Place::new();
    let mut dev = Running::new(&mut place.dev());
    dev.wait_for("ready in ");
    dev.signal(Signal::TERM);
    assert_eq!(dev.exit_code(), Some(0));
    let assert_refused = |by: &str| {
        let mut node = Running::new(&mut place.start("node-1"));
        node.wait_for(&format!("kvorum: {by} (exit code 78)"));
        assert_eq!(node.exit_code(), Some(78));
    };

    let paths = [RING_COPY.to_owned(), copy_of(RING_COPY)];
    let paths = paths.map(|name| place.path("node-1").join(format!("data/{name}.metadata")));
    let ring = fs::read(&paths[0]).unwrap();
    let next = RingMap::from_copy(&ring).unwrap().with_level(9).to_copy();
    paths.iter().for_each(|path| fs::write(path, &next).unwrap());
    assert_refused("the cluster is at level 9, and this program speaks levels 1 to 2: start a newer one");
    assert!(place.run_state("node-1").contains("state clean\n"), "nothing was done since the clean stop");
    paths.iter().for_each(|path| fs::write(path, &ring).unwrap());

    // The journal has written into it, and looks at it first.
    let path = place.path("node-1/data/shards/00003/0000000001.segment");
    let segment = fs::read(&path).unwrap();
    let mut next = segment.clone();
    next[7] = 9;
    let crc = crc32fast::hash(&next[..60]);
    next[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, next).unwrap();
    assert_refused("the segment has version 9, and this program reads version 3: start a newer program");
    fs::write(&path, segment).unwrap();

    let mut next = b"KVMAN\0\0\x09 and a thing to come".to_vec();
    next.extend(crc32fast::hash(&next).to_le_bytes());
    fs::write(place.path("node-1/data/shards/00003/manifest"), next).unwrap();
    assert_refused("shard 3: the manifest has version 9, and this program reads version 3: start a newer program");
}

#[test]
fn dev_gives_up_a_node_that_can_not_start_and_shows_its_log() {
    let place = Place::new();
    fs::create_dir_all(place.init().path("node-3/data")).unwrap();
    let lock = File::create(place.path("node-3/data/LOCK")).unwrap();
    lock.lock().unwrap();
    let output = place.dev().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("node-3 can't be kept running: data folder "), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("exit code").count(), 1, "{}", stderr(&output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("is in use by another process (exit code 75)"), "{stdout}");
    for node in ["node-1", "node-2"] {
        wait_if_there(&place, node);
    }
}

#[test]
fn certificates_from_the_command_line() {
    let folder = TempDir::new().unwrap();
    let ca = folder.path().join("ca");
    let out = folder.path().join("node");
    assert!(kvorum(["cert", "authority", "--dir"]).arg(&ca).output().unwrap().status.success());
    let ids = ["--cluster", "6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a001", "--node", "6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a012"];
    let issue =
        |out: &Path| kvorum(["cert", "node"]).arg("--ca").arg(&ca).arg("--out").arg(out).args(ids).output().unwrap();
    assert!(issue(&out).status.success());
    assert!(["ca.pem", "node.pem", "node.key"].iter().all(|file| out.join(file).is_file()));
    let again = issue(&out);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("exists already"), "{}", stderr(&again));
}

/// The data folder of a node that may not have got as far as having one.
fn wait_if_there(place: &Place, node: &str) {
    if place.path(node).join("data/LOCK").exists() {
        place.wait_until_free(node);
    }
}

/// Asks again and again until something holds, for what no process announces.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}
