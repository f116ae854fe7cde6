//! A cluster of processes in a temporary folder.

use super::options::Place;
use super::{StorageError, fill, program};
use crate::control::Control;
use crate::limits::HTTP_PORT_ABOVE;
use crate::secure::{self, Certificates};
use crate::stop;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a node may take from its start until all its shards serve.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(300);
/// How long a clean stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// A cluster's doors are at so many ports from its base port on.
const PORTS: u16 = 50;
/// The pause between two looks at a process.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// The exit code of a node that was removed from the cluster.
const REMOVED: i32 = 78;
/// The last bytes of a log that an error shows.
const LOG_TAIL_BYTES: usize = 2_000;

/// What a cluster is made of.
pub(crate) struct Shape<'a> {
    pub(crate) nodes: usize,
    pub(crate) shards: u16,
    /// Added to the base port of the place.
    pub(crate) port_offset: u16,
    /// Settings of every node, as environment variables.
    pub(crate) environment: &'a [(&'static str, String)],
    /// All doors speak TLS, and only users are let in; the load is one by its certificate.
    pub(crate) secure: bool,
}

/// A cluster; its nodes are counted from 1. They are killed when this is dropped, and end by themselves with this process.
pub(crate) struct Nodes {
    program: PathBuf,
    base_port: u16,
    environment: Vec<(&'static str, String)>,
    processes: Vec<Option<Child>>,
    /// Those that are about to end by themselves, since the cluster goes on without them.
    leaving: BTreeSet<usize>,
    // Dropped last.
    folder: TempDir,
}

impl Nodes {
    /// Lays out a cluster, starts every node and waits until all shards have a leader.
    pub(crate) fn start_new(place: &Place, shape: &Shape<'_>) -> Result<Self, StorageError> {
        let mut nodes = Self::lay_out(place, shape)?;
        match shape.secure {
            true => nodes.speak_tls()?,
            false => secure::speak_plain(&nodes.ports()),
        }
        nodes.start_all()?;
        Ok(nodes)
    }

    /// As [`Nodes::start_new`], with every key written once.
    pub(crate) fn start_filled(
        place: &Place,
        shape: &Shape<'_>,
        keys: u32,
        value_bytes: usize,
    ) -> Result<Self, StorageError> {
        let nodes = Self::start_new(place, shape)?;
        fill(&nodes.addresses(), keys, value_bytes)?;
        Ok(nodes)
    }

    /// Lays out a cluster and starts nothing.
    fn lay_out(place: &Place, shape: &Shape<'_>) -> Result<Self, StorageError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("kvorum-bench-");
        let folder = match &place.dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        };
        let nodes = Self {
            program: program(place.kvorum.as_ref()),
            base_port: place.base_port + shape.port_offset,
            environment: shape.environment.to_vec(),
            processes: (0..shape.nodes).map(|_| None).collect(),
            leaving: BTreeSet::new(),
            folder: folder.map_err(StorageError::system("a temporary folder"))?,
        };
        let count = shape.nodes.to_string();
        let factor = if shape.nodes < 3 { "1" } else { "3" };
        let mut command = Command::new(&nodes.program);
        command
            .arg("init")
            .arg("--dir")
            .arg(nodes.cluster_dir())
            .args(["--nodes", &count, "--replication-factor", factor, "--shards", &shape.shards.to_string()])
            .args(["--base-port", &nodes.base_port.to_string()])
            .args(if shape.secure { ["--auth", "required", "--tls", "all"].as_slice() } else { &[] });
        nodes.run("kvorum init", &mut command)?;
        Ok(nodes)
    }

    /// The ports of its doors.
    fn ports(&self) -> Range<u16> {
        self.base_port..self.base_port + PORTS
    }

    /// Connections to this cluster speak TLS, with the certificate of its administrator.
    fn speak_tls(&self) -> Result<(), StorageError> {
        let file = |name: &str| self.cluster_dir().join("admin").join(name);
        let (authority, certificate, key) = (file("ca.pem"), file("admin.pem"), file("admin.key"));
        let certificates = Certificates { authority: &authority, certificate: &certificate, key: &key };
        secure::speak_tls(self.ports(), &certificates).map_err(StorageError::system("the certificates"))
    }

    /// Runs a command that ends soon.
    fn run(&self, name: &str, command: &mut Command) -> Result<(), StorageError> {
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(StorageError::system(self.program.display().to_string()))?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(StorageError::Program { program: name.to_owned(), log });
        }
        Ok(())
    }

    /// Starts every node and waits until all shards have a leader.
    fn start_all(&mut self) -> Result<(), StorageError> {
        (1..=self.processes.len()).try_for_each(|node| self.start(node))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StorageError::system("a runtime"))?;
        let began = Instant::now();
        runtime.block_on(async {
            let mut control = Control::new(self.addresses());
            loop {
                if let Ok(topology) = control.topology().await
                    && topology.shards.iter().all(|shard| shard.leader.is_some())
                {
                    return Ok(());
                }
                self.check(began, "every shard has a leader")?;
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        })
    }

    /// Lays out one more node that joins the cluster, and starts it. Returns its number, and does not wait for it.
    pub(crate) fn add(&mut self) -> Result<usize, StorageError> {
        let mut command = Command::new(&self.program);
        command.arg("add-node").arg("--dir").arg(self.cluster_dir());
        self.run("kvorum add-node", &mut command)?;
        self.processes.push(None);
        self.start(self.processes.len())?;
        Ok(self.processes.len())
    }

    /// A node is to be removed from the cluster: that it ends is no failure from here on.
    pub(crate) fn expect_removed(&mut self, node: usize) {
        self.leaving.insert(node);
    }

    /// Waits until a node that was removed has ended.
    pub(crate) fn await_removed(&mut self, node: usize) -> Result<(), StorageError> {
        let began = Instant::now();
        while self.processes[node - 1].is_some() {
            self.check(began, "a node that was removed ends")?;
            stop::sleep(LOOK_PAUSE)?;
        }
        Ok(())
    }

    /// From now on nodes are started with this program.
    pub(crate) fn use_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Starts a node and does not wait for it.
    pub(crate) fn start(&mut self, node: usize) -> Result<(), StorageError> {
        let log = File::options().create(true).append(true).open(self.log_path(node));
        let log = log.map_err(StorageError::system("a log file"))?;
        let child = Command::new(&self.program)
            .arg("start")
            .arg("--config")
            .arg(self.node_dir(node).join("kvorum.toml"))
            .arg("--exit-with-stdin")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(StorageError::system(self.program.display().to_string()))?;
        self.processes[node - 1] = Some(child);
        Ok(())
    }

    /// Stops a node by SIGTERM, as a supervisor does; returns how long that took.
    pub(crate) fn stop(&mut self, node: usize) -> Result<Duration, StorageError> {
        let process = rustix::process::Pid::from_child(self.processes[node - 1].as_ref().expect("the node runs"));
        let began = Instant::now();
        let told = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        told.map_err(|error| StorageError::system("SIGTERM")(error.into()))?;
        let mut child = self.processes[node - 1].take().expect("the node runs");
        loop {
            let ended = child.try_wait().map_err(StorageError::system("waiting for a node"))?;
            let problem = match ended {
                Some(status) if status.success() => return Ok(began.elapsed()),
                Some(_) => return Err(self.failed(node)),
                None if began.elapsed() > STOP_LIMIT => {
                    StorageError::TooLate { what: format!("node {node} stops"), limit: STOP_LIMIT }
                }
                None => match stop::sleep(LOOK_PAUSE) {
                    Ok(()) => continue,
                    Err(stopped) => stopped.into(),
                },
            };
            // It may have ended meanwhile; either way it is collected.
            let _ = child.kill();
            let _ = child.wait();
            return Err(problem);
        }
    }

    /// `kill -9`; the process is gone when this returns.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.processes[node - 1].take() {
            // It may have ended already; either way it is collected.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What a wait is to be ended with, if anything: a signal, a node that has ended, or the time.
    pub(crate) fn check(&mut self, began: Instant, what: &str) -> Result<(), StorageError> {
        stop::check()?;
        for node in 1..=self.processes.len() {
            let Some(child) = &mut self.processes[node - 1] else { continue };
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) if status.code() == Some(REMOVED) && self.leaving.contains(&node) => {
                    self.processes[node - 1] = None;
                }
                _ => return Err(self.failed(node)),
            }
        }
        if began.elapsed() > START_LIMIT {
            return Err(StorageError::TooLate { what: what.to_owned(), limit: START_LIMIT });
        }
        Ok(())
    }

    /// `host:port` of every node's binary door.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (1..=self.processes.len()).map(|node| self.address(node)).collect()
    }

    /// `host:port` of a node's binary door.
    pub(crate) fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.base_port + node as u16)
    }

    /// The process of a node; 0 if it does not run.
    pub(crate) fn process(&self, node: usize) -> u32 {
        self.processes[node - 1].as_ref().map_or(0, Child::id)
    }

    /// The processes of all nodes that run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.processes.iter().flatten().map(Child::id).collect()
    }

    /// The HTTP doors of all nodes that run.
    pub(crate) fn http_doors(&self) -> Vec<SocketAddr> {
        let door = |node: usize| SocketAddr::from(([127, 0, 0, 1], self.base_port + HTTP_PORT_ABOVE + node as u16));
        self.running().map(door).collect()
    }

    /// Where all nodes that run keep their data.
    pub(crate) fn data_dirs(&self) -> Vec<PathBuf> {
        self.running().map(|node| self.data_dir(node)).collect()
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (1..).zip(&self.processes).filter_map(|(node, process)| process.as_ref().map(|_| node))
    }

    /// Where a node keeps its data.
    pub(crate) fn data_dir(&self, node: usize) -> PathBuf {
        self.node_dir(node).join("data")
    }

    fn cluster_dir(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn node_dir(&self, node: usize) -> PathBuf {
        self.cluster_dir().join(format!("node-{node}"))
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.node_dir(node).join("log")
    }

    fn failed(&self, node: usize) -> StorageError {
        let log = fs::read(self.log_path(node)).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        StorageError::Program { program: format!("node {node}"), log: String::from_utf8_lossy(tail).into_owned() }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        (1..=self.processes.len()).for_each(|node| self.kill(node));
    }
}
