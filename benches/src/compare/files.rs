//! What a comparison leaves in files: every turn as a row of CSV, and medians as bars.

use super::options::{ComparedLoad, System};
use super::outcome::{Comparison, Turn};
use crate::plot::{self, Bar, Group};
use crate::report::Pretty;
use crate::storage::median;

/// The head of the columns. `latency` and the like are in microseconds; what is not known is an empty field.
const HEAD: &str = "load,due_per_second,system,round,operations_per_second,p50_us,p90_us,p99_us,p999_us,max_us,\
                    server_cpu_us_per_operation,bench_cpu_us_per_operation,errors,overloaded,unanswered,unsent,\
                    connections_lost,idle_processors,foreign_processors\n";

impl Comparison {
    /// A row for each turn, in the order in which they were taken, below a head.
    pub fn csv(&self) -> String {
        self.turns().iter().fold(HEAD.to_owned(), |text, turn| text + &row(turn))
    }

    /// An SVG document with a group of bars for each load: medians of the systems' operations per second under closed
    /// loops, of their 99th percentiles under open ones, where the rate is given. Whiskers go from the lowest to the highest.
    pub fn plot(&self) -> String {
        let mut loads: Vec<ComparedLoad> = Vec::new();
        for (load, _) in self.pairs() {
            if !loads.contains(&load) {
                loads.push(load);
            }
        }
        let groups: Vec<Group> = loads.into_iter().map(|load| self.group(load)).collect();
        plot::bars("Medians of the rounds, and whiskers from the lowest to the highest", &groups)
    }

    fn group(&self, load: ComparedLoad) -> Group {
        let systems: Vec<System> =
            self.pairs().into_iter().filter(|(of, _)| *of == load).map(|(_, system)| system).collect();
        // The first peer, if there is one.
        let base = systems.iter().position(|&system| system != System::Kvorum).unwrap_or(0);
        let what = if load.rate.is_some() { "p99" } else { "operations/s" };
        let unit = median(&figures(&self.of(load, systems[base])));
        let bar = |&system: &System| {
            let turns = self.of(load, system);
            let figures = figures(&turns);
            let middle = median(&figures);
            let figure = match load.rate {
                _ if figures.is_empty() => "no answers".to_owned(),
                None => thousands(middle),
                Some(_) => Pretty(middle).to_string(),
            };
            let compares = unit > 0.0 && !figures.is_empty();
            let ratio = if compares { format!("{:.2} ×", middle / unit) } else { String::new() };
            // Their latency is missing.
            let note = if turns.iter().any(|turn| turn.report.unsent > 0) { "unsent" } else { "" };
            Bar {
                name: system.name().to_owned(),
                colour: system as usize,
                middle,
                lowest: figures.iter().copied().fold(f64::INFINITY, f64::min).min(middle),
                highest: figures.iter().copied().fold(0.0, f64::max),
                texts: [figure, ratio, note.to_owned()],
            }
        };
        let measure = format!("{what}, × {}", systems[base].name());
        Group { heading: load.to_string(), measure, bars: systems.iter().map(bar).collect(), base }
    }
}

/// What is drawn of these turns: throughput, or latency where the rate is given. Nothing if one of them had no answers, since
/// that would look like a short latency.
fn figures(turns: &[&Turn]) -> Vec<f64> {
    if !turns.iter().all(|turn| turn.report.worked()) {
        return Vec::new();
    }
    let figure = |turn: &&Turn| match turn.load.rate {
        None => turn.report.operations_per_second,
        Some(_) => turn.report.latency.p99_us,
    };
    turns.iter().map(figure).collect()
}

fn row(turn: &Turn) -> String {
    let Turn { system, load, round, report, idle_processors, foreign_processors } = turn;
    let latency = &report.latency;
    let known = |figure: Option<f64>, decimals| figure.map_or(String::new(), |figure| format!("{figure:.decimals$}"));
    let tenths =
        [report.operations_per_second, latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
    let counts = [
        report.errors.values().sum(),
        report.overloaded,
        report.unanswered,
        report.unsent,
        report.connections_lost.values().sum::<u64>(),
    ];
    let mut fields = vec![load.option(), known(load.rate, 0), system.option(), round.to_string()];
    fields.extend(tenths.map(|figure| format!("{figure:.1}")));
    fields.extend([report.server_cpu_us_per_operation, report.bench_cpu_us_per_operation].map(|cpu| known(cpu, 3)));
    fields.extend(counts.map(|count| count.to_string()));
    fields.extend([idle_processors, foreign_processors].map(|processors| format!("{processors:.3}")));
    fields.join(",") + "\n"
}

/// A whole number with its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{CompareOptions, plan};
    use super::*;
    use crate::options::Replicated;
    use crate::recorder::Recorder;
    use crate::report::{Measured, Report};
    use clap::Parser;
    use kvorum_protocol::Topology;
    use std::time::Duration;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: CompareOptions,
    }

    fn options() -> CompareOptions {
        Line::parse_from(["compare", "--systems", "null"]).options
    }

    /// A turn with so many operations in one second, each of which took `latency_us`.
    fn turn(system: System, load: &str, rate: Option<f64>, round: u32, operations: u64, latency_us: u64) -> Turn {
        let load = ComparedLoad { rate, ..self::load(load) };
        let mut recorder = Recorder::new();
        (0..operations).for_each(|_| recorder.count_read(Duration::from_micros(latency_us)));
        let measured = Measured {
            elapsed: Duration::from_secs(1),
            filled: 0,
            bench_cpu: Duration::from_millis(2),
            server_cpu: (system != System::Null).then(|| Duration::from_millis(10)),
            servers: None,
        };
        let topology = Topology {
            epoch: kvorum_protocol::Epoch(1),
            cluster: kvorum_protocol::ClusterId(uuid::Uuid::nil()),
            durability: kvorum_protocol::Durability::Fsync,
            nodes: Vec::new(),
            shards: Vec::new(),
        };
        let report = Report::new(&plan(&options(), system, load, Replicated::No), &topology, &recorder, measured);
        Turn { system, load, round, report, idle_processors: 0.0125, foreign_processors: 0.5 }
    }

    fn comparison(turns: Vec<Turn>) -> Comparison {
        Comparison::new(&options(), turns)
    }

    #[test]
    fn every_turn_is_a_row() {
        let mut troubled = turn(System::RedisBatch, "put:50x16", None, 2, 500, 2000);
        troubled.report.overloaded = 3;
        troubled.report.errors = [("Internal".to_owned(), 4), ("Unavailable".to_owned(), 5)].into();
        troubled.report.connections_lost = [("reset".to_owned(), 1)].into();
        let turns = vec![turn(System::Null, "get:1", Some(700.0), 1, 1000, 64), troubled];
        let golden = "\
load,due_per_second,system,round,operations_per_second,p50_us,p90_us,p99_us,p999_us,max_us,server_cpu_us_per_operation,\
bench_cpu_us_per_operation,errors,overloaded,unanswered,unsent,connections_lost,idle_processors,foreign_processors
get:1,700,null,1,1000.0,64.0,64.0,64.0,64.0,64.0,,2.000,0,0,0,0,0,0.013,0.500
put:50x16,,redis-batch,2,500.0,2000.9,2000.9,2000.9,2000.9,2000.9,20.000,4.000,9,3,0,0,1,0.013,0.500
";
        assert_eq!(comparison(turns).csv(), golden);
    }

    #[test]
    fn each_load_is_a_group_of_its_systems() {
        let mut turns = Vec::new();
        for (round, operations) in [(1, 1200), (2, 1500), (3, 1000)] {
            turns.push(turn(System::Kvorum, "put:50", None, round, operations, 100));
            turns.push(turn(System::Etcd, "put:50", None, round, operations / 2, 100));
        }
        turns.push(turn(System::Kvorum, "put:50", Some(840.0), 1, 840, 2000));
        let comparison = comparison(turns);
        let closed = comparison.group(load("put:50"));
        assert_eq!((closed.heading.as_str(), closed.base), ("durable PUT, 50 connections", 1), "the peer is the base");
        assert_eq!(closed.measure, "operations/s, × etcd");
        assert_eq!(closed.bars.iter().map(|bar| bar.name.as_str()).collect::<Vec<_>>(), ["Kvorum", "etcd"]);
        assert_eq!(figures_of(&closed.bars[0]), ([1000.0, 1200.0, 1500.0], ["1,200", "2.00 ×", ""]));
        assert_eq!(figures_of(&closed.bars[1]), ([500.0, 600.0, 750.0], ["600", "1.00 ×", ""]));
        let open = comparison.group(ComparedLoad { rate: Some(840.0), ..load("put:50") });
        assert_eq!((open.measure.as_str(), open.base), ("p99, × Kvorum", 0), "alone, it is its own base");
        assert_eq!(figures_of(&open.bars[0]).1, ["2.00 ms", "1.00 ×", ""]);
        let svg = comparison.plot();
        assert_eq!(svg.matches("<rect x=").count(), 3, "a bar for each: {svg}");
        assert!(svg.contains("durable PUT, 50 connections, 840/s due"));
    }

    #[test]
    fn a_system_that_answers_nothing_is_not_the_fastest() {
        let mut slow = turn(System::Redis, "get:1", Some(100.0), 1, 50, 900);
        slow.report.unsent = 50;
        let comparison = comparison(vec![turn(System::Etcd, "get:1", Some(100.0), 1, 0, 1), slow]);
        let group = comparison.group(ComparedLoad { rate: Some(100.0), ..load("get:1") });
        assert_eq!(figures_of(&group.bars[0]), ([0.0; 3], ["no answers", "", ""]));
        let (_, texts) = figures_of(&group.bars[1]);
        assert_eq!(texts, ["900 µs", "", "unsent"], "there is nothing to compare with");
    }

    fn figures_of(bar: &Bar) -> ([f64; 3], [&str; 3]) {
        ([bar.lowest, bar.middle, bar.highest], bar.texts.each_ref().map(String::as_str))
    }

    fn load(text: &str) -> ComparedLoad {
        text.parse().unwrap()
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0.0, 7.4, 999.9, 123_456.0, 1e6].map(thousands), ["0", "7", "1,000", "123,456", "1,000,000"]);
    }
}
