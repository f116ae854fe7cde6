//! What a comparison found, for people and for programs.

use super::options::{CompareOptions, ComparedLoad, System};
use crate::Report;
use crate::report::Pretty;
use crate::storage::table::Table;
use crate::storage::{median, program, spread};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::process::Command;

/// One system under one load, once.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Turn {
    pub(super) system: System,
    pub(super) load: ComparedLoad,
    pub(super) round: u32,
    pub(super) report: Report,
    /// Processors that the systems took whose turn it was not.
    pub(super) idle_processors: f64,
    /// Processors that anything else on the machine took, the kernel's own threads among them.
    pub(super) foreign_processors: f64,
}

/// All turns, and what they were taken on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    machine: Machine,
    versions: Vec<String>,
    rounds: u32,
    duration_seconds: f64,
    warmup_seconds: f64,
    pause_seconds: f64,
    threads: usize,
    turns: Vec<Turn>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct Machine {
    processors: usize,
    processor: String,
    kernel: String,
    memory_mib: u64,
}

impl Comparison {
    pub(super) fn new(options: &CompareOptions, turns: Vec<Turn>) -> Self {
        // Each program is asked itself: the one that ran need not be the one that this was built with.
        let mut versions = Vec::new();
        if options.systems.iter().any(|system| system.servers() == System::Kvorum) {
            versions.extend(first_line(Command::new(program(options.kvorum.as_ref())).arg("--version")));
        }
        if options.systems.iter().any(|system| system.servers() == System::Redis) {
            versions.extend(first_line(Command::new(&options.redis).arg("--version")));
        }
        if options.systems.contains(&System::Etcd) {
            versions.extend(first_line(Command::new(&options.etcd).arg("--version")));
        }
        Self {
            machine: Machine::here(),
            versions,
            rounds: options.rounds,
            duration_seconds: options.duration.as_secs_f64(),
            warmup_seconds: options.warmup.as_secs_f64(),
            pause_seconds: options.pause.as_secs_f64(),
            threads: options.threads,
            turns,
        }
    }

    /// Whether every turn had operations that worked.
    pub fn worked(&self) -> bool {
        self.turns.iter().all(|turn| turn.report.worked())
    }

    pub(super) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    pub(super) fn of(&self, load: ComparedLoad, system: System) -> Vec<&Turn> {
        self.turns.iter().filter(|turn| turn.load == load && turn.system == system).collect()
    }

    /// Loads and systems in the order of their first turns.
    pub(super) fn pairs(&self) -> Vec<(ComparedLoad, System)> {
        let mut pairs = Vec::new();
        for turn in &self.turns {
            if !pairs.contains(&(turn.load, turn.system)) {
                pairs.push((turn.load, turn.system));
            }
        }
        pairs
    }

    fn table(&self) -> Table {
        let title = format!(
            "{}. {} round(s) in turn, each {} s after {} s of load and {} s of rest. Medians (lowest–highest).",
            self.versions.join("; "),
            self.rounds,
            self.duration_seconds,
            self.warmup_seconds,
            self.pause_seconds
        );
        let head = [
            "load",
            "system",
            "operations/s",
            "Kvorum : it",
            "p50",
            "p99",
            "Kvorum : it",
            "CPU of its servers, µs",
            "Kvorum : it",
            "CPU of the client, µs",
        ];
        let mut table = Table::new(title, &head);
        for (load, system) in self.pairs() {
            let turns = self.of(load, system);
            let kvorum = if system == System::Kvorum { Vec::new() } else { self.of(load, System::Kvorum) };
            let server_cpu = |turn: &Turn| turn.report.server_cpu_us_per_operation.unwrap_or(f64::NAN);
            let bench_cpu = |turn: &Turn| turn.report.bench_cpu_us_per_operation.unwrap_or(f64::NAN);
            let rate = |turn: &Turn| turn.report.operations_per_second;
            let latency = |of: fn(&Turn) -> f64| Pretty(median(&each(&turns, of))).to_string();
            table.row(vec![
                load.to_string(),
                system.name().to_owned(),
                spread(&each(&turns, rate), 0),
                ratio(&kvorum, &turns, rate),
                latency(|turn| turn.report.latency.p50_us),
                latency(|turn| turn.report.latency.p99_us),
                ratio(&kvorum, &turns, |turn| turn.report.latency.p99_us),
                spread(&each(&turns, server_cpu), 2),
                ratio(&kvorum, &turns, server_cpu),
                format!("{:.2}", median(&each(&turns, bench_cpu))),
            ]);
        }
        let Machine { processors, processor, kernel, memory_mib } = &self.machine;
        table.notes.push(format!(
            "{processors} processors ({processor}), {memory_mib} MiB of memory, {kernel}. The load generator runs on the \
             same machine, on {} thread(s). Ratios are of medians (lowest–highest of the rounds' own).",
            self.threads
        ));
        let whole: Vec<&Turn> = self.turns.iter().collect();
        table.notes.push(format!(
            "Systems that waited for their turn took {} processors, everything else on the machine {}.",
            spread(&each(&whole, |turn| turn.idle_processors), 2),
            spread(&each(&whole, |turn| turn.foreign_processors), 2),
        ));
        table.notes.extend(self.troubles());
        table
    }

    /// What did not go well, by load and system.
    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        for (load, system) in self.pairs() {
            for turn in self.of(load, system) {
                let trouble = turn.report.trouble();
                if !trouble.is_empty() {
                    troubles.push(format!("{load}, {}, round {}: {trouble}", system.name(), turn.round));
                }
            }
        }
        troubles
    }
}

impl Machine {
    fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field("/proc/cpuinfo", "model name"),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| String::new(), |release| format!("Linux {}", release.trim())),
            memory_mib: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        let cpu = report.server_cpu_us_per_operation.unwrap_or(f64::NAN);
        let (load, name, rate) = (self.load, self.system.name(), report.operations_per_second);
        write!(f, "{load}, round {}: {name:<22} {rate:>9.0}/s   p50 {}", self.round, Pretty(report.latency.p50_us))?;
        write!(
            f,
            "   p99 {}   CPU {cpu:.2} µs   others {:.2}",
            Pretty(report.latency.p99_us),
            self.foreign_processors
        )?;
        let trouble = report.trouble();
        if trouble.is_empty() { Ok(()) } else { write!(f, "   {trouble}") }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table().fmt(f)
    }
}

fn each(turns: &[&Turn], of: impl Fn(&Turn) -> f64) -> Vec<f64> {
    turns.iter().map(|turn| of(turn)).collect()
}

/// Of medians, and the extremes of the rounds' own; a dash if there is nothing to compare with.
fn ratio(ours: &[&Turn], theirs: &[&Turn], of: impl Fn(&Turn) -> f64 + Copy) -> String {
    if ours.is_empty() || theirs.is_empty() {
        return "—".to_owned();
    }
    let middle = median(&each(ours, of)) / median(&each(theirs, of));
    let own: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| of(ours) / of(theirs)).collect();
    let lowest = own.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = own.iter().copied().fold(0.0, f64::max);
    format!("{middle:.2} ({lowest:.2}–{highest:.2})")
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}
