//! `kvorum dev` as a person at a terminal meets it: keys go in through a pseudoterminal, and what comes out is what they see.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use crate::common::ports::free_base_port;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a program asks a terminal to learn where the cursor is, and an answer.
const WHERE_IS_THE_CURSOR: &str = "\x1b[6n";
const THE_CURSOR_IS_AT_THE_TOP: &[u8] = b"\x1b[1;1R";

/// What the terminal has shown so far, and how far the test has read it.
#[derive(Default)]
struct Shown {
    text: Mutex<String>,
    grown: Condvar,
}

/// `kvorum dev` in front of its own terminal.
struct Terminal {
    keys: File,
    line: OwnedFd,
    shown: Arc<Shown>,
    /// Where [`Terminal::wait_for`] goes on reading.
    read_to: usize,
    dev: Child,
    /// There until it is taken.
    folder: Option<TempDir>,
}

impl Terminal {
    fn start() -> Self {
        let mut terminal = Self::start_in(TempDir::new().unwrap(), &["--base-port", &free_base_port().to_string()]);
        terminal.wait_for("ready in ");
        terminal.wait_for("> ");
        terminal
    }

    fn start_in(folder: TempDir, flags: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 50, ws_col: 150, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        // Makes the terminal the one of the program that it becomes, as a login does.
        let dev = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_kvorum"), "dev"])
            .args(flags)
            .arg("--dir")
            .arg(folder.path().join("cluster"))
            .env("HOME", folder.path())
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            // What goes through it is told from what does not.
            .env("KVORUM_PAGER", "sed s/^/|/")
            .env_remove("XDG_STATE_HOME")
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let (keys, screen) = (File::from(master.try_clone().unwrap()), File::from(master));
        let shown = Arc::new(Shown::default());
        std::thread::spawn({
            let (shown, keys) = (Arc::clone(&shown), keys.try_clone().unwrap());
            move || show(screen, keys, &shown)
        });
        Self { keys, line: open(), shown, read_to: 0, dev, folder: Some(folder) }
    }

    /// Leaves, and waits until everything has stopped. Returns the folder.
    fn leave(mut self) -> TempDir {
        self.type_keys("\x04");
        self.wait_for("stopping the nodes");
        assert_eq!(self.dev.wait().unwrap().code(), Some(0));
        self.folder.take().unwrap()
    }

    fn path(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Runs a command, and waits until it has shown all of this, in this order.
    fn run(&mut self, command: &str, shown: &[&str]) {
        self.wait_for("> ");
        self.type_keys(&format!("{command}\r"));
        shown.iter().for_each(|text| self.wait_for(text));
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows a text that it had not shown before, and goes on behind it.
    fn wait_for(&mut self, text: &str) {
        if !self.shows_within(text, PATIENCE) {
            panic!("{text:?} did not come; shown:\n{}", &self.shown.text.lock().unwrap()[self.read_to..]);
        }
    }

    fn shows_within(&mut self, text: &str, span: Duration) -> bool {
        let deadline = Instant::now() + span;
        let mut shown = self.shown.text.lock().unwrap();
        loop {
            if let Some(at) = shown[self.read_to..].find(text) {
                self.read_to += at + text.len();
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            shown = self.shown.grown.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// Waits until a command runs: the terminal then edits lines itself, and turns ctrl-c into a signal.
    fn wait_until_a_command_runs(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ISIG) {
            assert!(Instant::now() < deadline, "no command has begun");
            std::thread::yield_now();
        }
    }

    fn locks(&self) -> impl Iterator<Item = PathBuf> {
        let cluster = self.path().join("cluster");
        (1..=3).map(move |node| cluster.join(format!("node-{node}/data/LOCK")))
    }

    /// Sends a signal to every node that runs. One that is told to stand still does when this returns: else it might answer yet.
    fn signal_nodes(&self, signal: Signal) {
        let texts = self.locks().filter_map(|lock| fs::read_to_string(lock).ok());
        for process in texts.filter_map(|text| Pid::from_raw(text.trim().parse().ok()?)) {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(process, signal);
            let deadline = Instant::now() + PATIENCE;
            while signal == Signal::STOP && !stands_still(process) {
                assert!(Instant::now() < deadline, "a node does not stand still");
                std::thread::yield_now();
            }
        }
    }
}

/// Whether the kernel has stopped all of a process, or it is gone.
fn stands_still(process: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())) else { return true };
    let state = |folder: PathBuf| {
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    threads.filter_map(Result::ok).all(|thread| matches!(state(thread.path()), Some('T') | None))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.dev.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal_nodes(Signal::CONT);
            let _ = self.dev.kill();
            let _ = self.dev.wait();
        }
    }
}

/// Collects what is shown, and answers as a terminal does.
fn show(mut screen: File, mut keys: File, shown: &Shown) {
    let mut bytes = [0; 4096];
    // Reading ends with an error once nobody has the other end open.
    while let Ok(read @ 1..) = screen.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..read]);
        for _ in 0..text.matches(WHERE_IS_THE_CURSOR).count() {
            if keys.write_all(THE_CURSOR_IS_AT_THE_TOP).is_err() {
                return;
            }
        }
        shown.text.lock().unwrap().push_str(&text);
        shown.grown.notify_all();
    }
}

#[test]
fn ctrl_c_interrupts_the_command_and_leaves_the_cluster() {
    let mut terminal = Terminal::start();
    terminal.type_keys("PUT kept here\r");
    terminal.wait_for("OK  version");
    terminal.wait_for("> ");
    terminal.signal_nodes(Signal::STOP);
    terminal.type_keys("GET kept\r");
    terminal.wait_until_a_command_runs();
    // One that comes before the command listens is lost, as for a person; another one does no harm.
    let tries = 10;
    let mut is_interrupted = || {
        terminal.type_keys("\x03");
        terminal.shows_within("interrupted", Duration::from_millis(400))
    };
    assert!((0..tries).any(|_| is_interrupted()), "ctrl-c does not interrupt the command");
    terminal.wait_for("> ");
    terminal.signal_nodes(Signal::CONT);
    terminal.type_keys("EXISTS kept\r");
    terminal.wait_for("of 1");
    terminal.wait_for("> ");
    terminal.leave();
}

#[test]
fn the_cluster_grows_and_shrinks_and_starts_again_as_it_is() {
    let base_port = free_base_port();
    let flags = ["--shards", "2", "--base-port", &base_port.to_string()];
    let mut terminal = Terminal::start_in(TempDir::new().unwrap(), &flags);
    terminal.wait_for("ready in ");
    terminal.run("PUT kept here", &["OK  version"]);
    terminal.run("SCALE 2", &["there must be 3 nodes at least: each shard has 3 replicas"]);
    terminal.run("SCALE 10", &["there can be 9 nodes at most on one machine"]);
    terminal.run("HELP", &["NODE ADD [zone]", "SCALE nodes"]);
    terminal.run("NODE ADD east", &["node-4 is part of the cluster"]);
    terminal.run("SCALE 5", &["node-5 is part of the cluster", "there are 5 nodes"]);
    // What their processes say comes above the next prompt, whichever ends first.
    let removed = "was removed from the cluster; its log is in";
    terminal.run("SCALE 3", &["node-5 is removed", "node-4 is removed", "there are 3 nodes", removed, removed]);
    terminal.run("GET kept", &["here"]);
    terminal.wait_for("> ");
    let folder = terminal.leave();
    let cluster = folder.path().join("cluster");
    for node in [4, 5] {
        assert!(!cluster.join(format!("node-{node}")).exists());
        assert!(cluster.join(format!("node-{node}.removed/node.log")).exists());
        assert!(!cluster.join(format!("node-{node}.removed/data")).exists());
    }

    let mut terminal = Terminal::start_in(folder, &[]);
    terminal.wait_for("3 nodes, 2 shards of 3 replicas");
    terminal.run("SCALE 4", &["node-6 is part of the cluster", "there are 4 nodes"]);
    terminal.run("CLUSTER NODES", &["node-6", &format!("127.0.0.1:{}", base_port + 4)]);
    terminal.wait_for("> ");
    let folder = terminal.leave();
    let mut terminal = Terminal::start_in(folder, &["--nodes", "4"]);
    terminal.wait_for("4 nodes, 2 shards of 3 replicas");
    terminal.run("GET kept", &["here"]);
    terminal.wait_for("> ");
    terminal.leave();
}

#[test]
fn pasted_lines_are_commands_one_after_the_other() {
    let mut terminal = Terminal::start();
    terminal.type_keys("PUT pb 0\r");
    terminal.wait_for("OK  version");
    terminal.wait_for("> ");
    terminal.type_keys("\x1b[200~MPUT pa 1\rDEL pb\r# don't\rEXISTS pa pb DEL\x1b[201~\r");
    terminal.wait_for("pa  OK  version");
    terminal.wait_for("> DEL pb");
    terminal.wait_for("OK  version");
    terminal.wait_for("> EXISTS");
    terminal.wait_for("1  of 3");
    terminal.wait_for("> ");
    let many: String = (0..60).map(|number| format!(" long:{number} x")).collect();
    terminal.type_keys(&format!("MPUT{many}\r"));
    terminal.wait_for("long:59  OK");
    terminal.run("SCAN long:", &["|long:", "|60 keys"]);
    terminal.run("SCAN pa", &["pa", "1 key"]);
    let history = terminal.path().join(".local/state/kvorum/history");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(history).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "what was typed is its owner's alone");
}
