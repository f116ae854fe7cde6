//! One of three nodes loses its data folder while the others are written to as fast as they can.

use super::nodes::{Nodes, Shape};
use super::options::{Place, WipedOptions};
use super::watch::{anonymous_bytes, disk_bytes};
use super::{StorageError, Table, plan, statuses, whole_replicas};
use crate::limits::NODES;
use crate::options::Plan;
use crate::report::Report;
use crate::run::Progress;
use crate::stop;
use std::time::{Duration, Instant};

const WIPED: usize = 3;
/// Load before the node is wiped, and after it is whole.
const AROUND: Duration = Duration::from_secs(10);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
const MEBIBYTE: f64 = (1 << 20) as f64;

/// The cluster at one moment.
struct Sample {
    at: f64,
    /// Replicas of the wiped node that vote and are caught up.
    whole: usize,
    /// Memory that no file backs: the most of the nodes that lead, and the wiped node's.
    leader: f64,
    wiped: f64,
}

pub(super) fn measure(
    place: &Place,
    options: &WipedOptions,
    progress: &mut dyn FnMut(String),
) -> Result<Table, StorageError> {
    let shape = Shape { nodes: NODES, shards: options.shards, port_offset: 0, environment: &[], secure: false };
    let mut nodes = Nodes::start_filled(place, &shape, options.keys, options.value_size)?;
    let data = disk_bytes(&nodes.data_dir(WIPED)) as f64 / MEBIBYTE;
    progress(format!("{} keys are written; the node holds {data:.0} MiB", options.keys));

    let load = |duration| Plan {
        connections: options.connections,
        pipeline: options.pipeline,
        duration,
        ..plan(&nodes.addresses(), options.keys, options.value_size)
    };
    let before = crate::run(&load(AROUND), |_: Progress| {})?;
    let during_plan = load(options.limit);
    let after_plan = load(AROUND);

    nodes.kill(WIPED);
    std::fs::remove_dir_all(nodes.data_dir(WIPED)).map_err(StorageError::system("removing the data folder"))?;
    let began = Instant::now();
    nodes.start(WIPED)?;
    let (mut samples, mut seconds) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let plan = &during_plan;
        // It can't be ended early, so it is a process of its own kind: many short runs.
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let short = Plan { duration: Duration::from_secs(2), ..plan.clone() };
                // The receiver is there until the run is over.
                let _ = tell.send(crate::run(&short, |_: Progress| {}));
            }
        });
        let result = watch(&mut nodes, options, began, &mut samples, progress);
        let _ = stop.send(());
        for report in told {
            seconds.push(report?);
        }
        result
    })?;
    let whole_after = samples.last().map_or(0.0, |sample| sample.at);
    let after = crate::run(&after_plan, |_: Progress| {})?;
    Ok(report(options, data, whole_after, [&before, &after], &seconds, &samples))
}

/// Looks until every replica of the wiped node is a voter and caught up.
fn watch(
    nodes: &mut Nodes,
    options: &WipedOptions,
    began: Instant,
    samples: &mut Vec<Sample>,
    progress: &mut dyn FnMut(String),
) -> Result<(), StorageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StorageError::system("a runtime"))?;
    // One group more: that of the ring map.
    let wanted = usize::from(options.shards) + 1;
    let mut told = Instant::now();
    loop {
        nodes.check(Instant::now(), "the node becomes whole")?;
        let statuses = runtime.block_on(statuses(&nodes.addresses()));
        let whole = whole_replicas(&statuses, nodes.process(WIPED));
        let memory = |node| anonymous_bytes(nodes.process(node)) as f64 / MEBIBYTE;
        let leader = (1..=NODES).filter(|&node| node != WIPED).map(memory).fold(0.0, f64::max);
        samples.push(Sample { at: began.elapsed().as_secs_f64(), whole, leader, wiped: memory(WIPED) });
        if told.elapsed() > Duration::from_secs(5) {
            progress(format!("{whole} of {wanted} replicas are whole after {:.0} s", began.elapsed().as_secs_f64()));
            told = Instant::now();
        }
        if whole >= wanted {
            return Ok(());
        }
        if began.elapsed() > options.limit {
            let what = format!("all replicas are whole ({whole} of {wanted} are)");
            return Err(StorageError::TooLate { what, limit: options.limit });
        }
        stop::sleep(LOOK_PAUSE)?;
    }
}

fn report(
    options: &WipedOptions,
    data: f64,
    whole_after: f64,
    [before, after]: [&Report; 2],
    during: &[Report],
    samples: &[Sample],
) -> Table {
    let title = format!(
        "wiped: {} keys, values of {} B, 3 nodes, {} shards, {data:.0} MiB of files; {} connections × {} write all the time",
        options.keys, options.value_size, options.shards, options.connections, options.pipeline
    );
    let head = ["", "durable PUT/s", "p99, ms", "memory of a leader, MiB", "memory of the wiped node, MiB"];
    let mut table = Table::new(title, &head);
    let line = |name: &str, report: &Report| {
        let p99 = format!("{:.1}", report.latency.p99_us / 1000.0);
        vec![name.into(), format!("{:.0}", report.operations_per_second), p99, "—".into(), "—".into()]
    };
    table.row(line("before", before));
    let per_second: Vec<f64> = during.iter().map(|report| report.operations_per_second).collect();
    let p99: Vec<f64> = during.iter().map(|report| report.latency.p99_us / 1000.0).collect();
    let leader: Vec<f64> = samples.iter().map(|sample| sample.leader).collect();
    let wiped: Vec<f64> = samples.iter().map(|sample| sample.wiped).collect();
    table.row(vec![
        "while it becomes whole".into(),
        super::spread(&per_second, 0),
        super::spread(&p99, 1),
        super::spread(&leader, 0),
        super::spread(&wiped, 0),
    ]);
    table.row(line("after", after));
    table.notes.push(format!("Whole after {whole_after:.1} s: every replica votes and is caught up."));
    let step = samples.len().div_ceil(20).max(1);
    let course: Vec<String> = samples
        .iter()
        .step_by(step)
        .map(|sample| format!("{:.0} s: {} whole, {:.0} MiB", sample.at, sample.whole, sample.leader))
        .collect();
    table.notes.push(format!("Replicas whole and memory of a leader over time: {}.", course.join("; ")));
    let refused: u64 = during.iter().map(|report| report.overloaded + report.errors.values().sum::<u64>()).sum();
    table.notes.push(format!("{refused} requests were refused or failed while it became whole."));
    table
}
