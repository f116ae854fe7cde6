//! Kvorum beside other systems: the same client engine, the same keys and values, on the same machine, in turn.
//!
//! The systems of a family of loads are all started before its first turn and keep running, so that their caches stay warm;
//! when it is not its turn, a system is left idle (what that costs is measured and told). Turns go A B C, A B C, …, and
//! everybody rests before each. CPU time is that of the processes, as the kernel counts it.
//!
//! ```text
//! options ─► turns (here) ─► servers (processes) ─► crate::run (load) ─► table
//! ```

mod files;
mod options;
mod outcome;
mod process;
mod servers;

pub use options::CompareOptions;
pub(crate) use options::{ComparedLoad, Family};
pub use outcome::Comparison;

use crate::options::{BenchProtocol, Distribution, OptionError, Plan, Replicated, Route, Workload};
use crate::run::BenchError;
use crate::server_use::{cpu_of, machine_cpu};
use crate::stop::{self, Stopped};
use crate::storage::{StorageError, median};
use kvorum_protocol::{Ack, ReadMode};
use options::System;
use outcome::Turn;
use servers::Deployed;
use std::time::{Duration, Instant};

/// Deadline of each request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// An option makes no sense.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A system could not be started or loaded.
    #[error("{system}: {error}")]
    System {
        /// Which.
        system: &'static str,
        /// What happened.
        error: StorageError,
    },
    /// A signal has come.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl CompareError {
    fn of(system: System) -> impl Fn(StorageError) -> Self {
        move |error| match error {
            StorageError::Stopped(stopped) | StorageError::Load(BenchError::Stopped(stopped)) => stopped.into(),
            error => Self::System { system: system.name(), error },
        }
    }
}

/// Runs all turns; `progress` is told what goes on. Takes about `loads × systems × rounds × (pause + warm-up + duration)`.
///
/// # Errors
/// A system can't be started or reached at all, or a signal has come. Trouble during a load is in the outcome instead.
/// Everything that it started is gone by then.
pub fn compare(options: &CompareOptions, progress: &mut dyn FnMut(String)) -> Result<Comparison, CompareError> {
    options.check()?;
    let mut turns = Vec::new();
    for family in [Family::Get, Family::Durable, Family::Memory] {
        let loads: Vec<ComparedLoad> = options.loads.iter().copied().filter(|load| load.family == family).collect();
        if loads.is_empty() {
            continue;
        }
        let systems = start(family, &loads, options, progress)?;
        for load in loads {
            let closed = systems.take_turns(load, options, progress)?;
            let peak = closed.first().map_or(0.0, |first| {
                let own = closed.iter().filter(|turn| turn.system == first.system);
                median(&own.map(|turn| turn.report.operations_per_second).collect::<Vec<_>>())
            });
            turns.extend(closed);
            let rate = peak * options.latency_at;
            if rate > 0.0 {
                turns.extend(systems.take_turns(ComparedLoad { rate: Some(rate), ..load }, options, progress)?);
            }
        }
    }
    Ok(Comparison::new(options, turns))
}

/// Those that take part in a family.
struct Systems {
    deployed: Vec<Deployed>,
    /// Each with the position of its servers in `deployed`.
    takers: Vec<(System, usize)>,
}

fn start(
    family: Family,
    loads: &[ComparedLoad],
    options: &CompareOptions,
    progress: &mut dyn FnMut(String),
) -> Result<Systems, CompareError> {
    let mut systems = Systems { deployed: Vec::new(), takers: Vec::new() };
    let mut servers: Vec<System> = Vec::new();
    for &system in options.systems.iter().filter(|system| loads.iter().any(|load| system.takes_part(load))) {
        let own = system.servers();
        if let Some(at) = servers.iter().position(|&running| running == own) {
            systems.takers.push((system, at));
            continue;
        }
        progress(format!("{} starts", own.name()));
        let failed = CompareError::of(own);
        let deployed = Deployed::start(own, family, options).map_err(&failed)?;
        deployed.fill(&plan(options, own, loads[0], Replicated::No)).map_err(&failed)?;
        servers.push(own);
        systems.takers.push((system, systems.deployed.len()));
        systems.deployed.push(deployed);
    }
    Ok(systems)
}

impl Systems {
    /// All rounds of a load.
    fn take_turns(
        &self,
        load: ComparedLoad,
        options: &CompareOptions,
        progress: &mut dyn FnMut(String),
    ) -> Result<Vec<Turn>, CompareError> {
        let mut turns = Vec::new();
        for round in 1..=options.rounds {
            for &(system, at) in self.takers.iter().filter(|(system, _)| system.takes_part(&load)) {
                let turn = self.take_turn(system, at, load, round, options)?;
                progress(turn.to_string());
                turns.push(turn);
            }
        }
        Ok(turns)
    }

    fn take_turn(
        &self,
        system: System,
        at: usize,
        load: ComparedLoad,
        round: u32,
        options: &CompareOptions,
    ) -> Result<Turn, CompareError> {
        stop::sleep(options.pause)?;
        let replicated = match system {
            System::RedisBatch => Replicated::Batch,
            // An OK of Kvorum says that already.
            System::KvorumResp | System::KvorumTlsResp => Replicated::No,
            _ if load.family == Family::Get => Replicated::No,
            _ => Replicated::Each,
        };
        let cpu = |deployed: &Deployed| -> Duration { deployed.processes().into_iter().filter_map(cpu_of).sum() };
        let idle_cpu = || -> Duration {
            let others = self.deployed.iter().enumerate().filter(|&(position, _)| position != at);
            others.map(|(_, deployed)| cpu(deployed)).sum()
        };
        let own_cpu = || cpu_of(std::process::id()).unwrap_or_default() + cpu(&self.deployed[at]);
        let (began, idle_before, own_before, machine_before) = (Instant::now(), idle_cpu(), own_cpu(), machine_cpu());
        let report = self.deployed[at].load(&plan(options, system, load, replicated));
        let report = report.map_err(CompareError::of(system))?;
        let seconds = began.elapsed().as_secs_f64();
        let idle = idle_cpu().saturating_sub(idle_before);
        let own = own_cpu().saturating_sub(own_before);
        let foreign = machine_cpu().saturating_sub(machine_before).saturating_sub(idle + own);
        Ok(Turn {
            system,
            load,
            round,
            report,
            idle_processors: idle.as_secs_f64() / seconds,
            foreign_processors: foreign.as_secs_f64() / seconds,
        })
    }
}

fn plan(options: &CompareOptions, system: System, load: ComparedLoad, replicated: Replicated) -> Plan {
    let reads = load.family == Family::Get;
    Plan {
        seeds: Vec::new(),
        protocol: match system {
            System::KvorumHttp | System::KvorumTlsHttp => BenchProtocol::Http,
            System::KvorumResp | System::KvorumTlsResp => BenchProtocol::Resp,
            _ => BenchProtocol::Binary,
        },
        workload: if reads { Workload::Get } else { Workload::Put },
        read_ratio: if reads { 1.0 } else { 0.0 },
        connections: load.connections,
        pipeline: load.pipeline,
        threads: options.threads.min(load.connections),
        rate: load.rate,
        distribution: Distribution::Uniform,
        keys: options.keys,
        key_bytes: options.key_size,
        value_bytes: options.value_size,
        ack: Ack::Committed,
        read_mode: ReadMode::Linearizable,
        replicated,
        route: Route::Leaders,
        duration: options.duration,
        operations: None,
        warmup: options.warmup,
        timeout: TIMEOUT,
        fill: false,
        seed: 1,
    }
}
