//! What the nodes count of snapshots, by their /metrics, and what others than them take of the processors. A node that leaves takes
//! its counters along, so they are looked at again and again, and the last look counts.

use crate::server_use::{cpu_of, machine_cpu};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a node may take to answer; the next look makes up for one that did not.
const TIMEOUT: Duration = Duration::from_secs(2);
const SNAPSHOTS: &str = "kvorum_snapshots_total{direction=\"received\",result=\"installed\"}";
const BYTES: &str = "kvorum_snapshot_sent_bytes_total";

/// What one node has counted since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counted {
    snapshots: u64,
    bytes: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Counters {
    last: BTreeMap<SocketAddr, Counted>,
    first: BTreeMap<SocketAddr, Counted>,
}

impl Counters {
    /// Asks the nodes with these HTTP doors.
    pub(super) fn look(&mut self, doors: impl IntoIterator<Item = SocketAddr>) {
        for door in doors {
            if let Ok(text) = metrics(door) {
                self.last.insert(door, read(&text));
            }
        }
    }

    /// Counts from here on.
    pub(super) fn forget(&mut self) {
        self.first = self.last.clone();
    }

    /// Snapshots that were taken in.
    pub(super) fn snapshots(&self) -> u64 {
        self.sum(|counted| counted.snapshots)
    }

    /// Bytes of snapshots that were sent.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        self.sum(|counted| counted.bytes)
    }

    fn sum(&self, of: fn(&Counted) -> u64) -> u64 {
        let since = |(door, last): (&SocketAddr, &Counted)| of(last) - self.first.get(door).map_or(0, of).min(of(last));
        self.last.iter().map(since).sum()
    }
}

/// Processor time of this process and of nodes that come and go, and of all that runs on the machine.
pub(super) struct Processors {
    ours: BTreeMap<u32, Duration>,
    taken_at: Instant,
    /// What both were then.
    ours_then: Duration,
    all_then: Duration,
}

impl Processors {
    /// Counts from here on.
    pub(super) fn new() -> Self {
        let (ours, taken_at) = (BTreeMap::new(), Instant::now());
        Self { ours, taken_at, ours_then: Duration::ZERO, all_then: machine_cpu() }
    }

    /// Looks at these processes, and at this one.
    pub(super) fn look(&mut self, processes: impl IntoIterator<Item = u32>) {
        for process in processes.into_iter().chain([std::process::id()]) {
            self.ours.extend(cpu_of(process).map(|cpu| (process, cpu)));
        }
    }

    /// How many processors others took since this was asked last.
    pub(super) fn others(&mut self) -> f64 {
        let (ours, all): (Duration, Duration) = (self.ours.values().sum(), machine_cpu());
        let others = (all - self.all_then).saturating_sub(ours - self.ours_then);
        let span = self.taken_at.elapsed();
        (self.ours_then, self.all_then, self.taken_at) = (ours, all, Instant::now());
        others.as_secs_f64() / span.as_secs_f64()
    }
}

fn metrics(door: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&door, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn read(text: &str) -> Counted {
    let value = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        value.unwrap_or(0.0) as u64
    };
    Counted { snapshots: value(SNAPSHOTS), bytes: value(BYTES) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_is_summed_over_nodes_that_come_and_go() {
        let text = |snapshots: u64, bytes: u64| {
            format!("HTTP/1.1 200 OK\r\n\r\n# HELP x y\n{SNAPSHOTS} {snapshots}\n{BYTES} {bytes}\n# EOF\n")
        };
        assert_eq!(read(&text(3, 4096)), Counted { snapshots: 3, bytes: 4096 });
        let door = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut counters = Counters::default();
        counters.last.insert(door(1), Counted { snapshots: 3, bytes: 100 });
        counters.forget();
        counters.last.insert(door(1), Counted { snapshots: 5, bytes: 150 });
        counters.last.insert(door(2), Counted { snapshots: 2, bytes: 7 });
        assert_eq!((counters.snapshots(), counters.snapshot_bytes()), (4, 57));
    }
}
