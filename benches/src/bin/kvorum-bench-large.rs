//! kvorum-bench-large: what large values cost small requests.
//!
//! Small GETs are sent at a fixed rate, whatever becomes of those before them (an open loop; latency counts from when a GET was due),
//! by a client that does nothing else and by one that moves the large values, too. Quiet phases, phases in which large values
//! come at a pace, and phases in which they go as fast as they can (a closed loop) take turns, so that a noisy machine is noisy
//! in all. Unlike kvorum-bench this goes through the client library: how it shares a connection between small and large is part
//! of what is measured. Each client has threads of its own: what one does with 16 MiB is not in the other's way, as it would
//! not be on another machine.
//!
//! Exit codes: 0 done, 1 something failed, 3 unreachable.

use bytes::Bytes;
use clap::Parser;
use kvorum_benches::small_gets::{Latencies, probe, write_small};
use kvorum_client::Client;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{self, Runtime};
use tokio_util::sync::CancellationToken;

/// Keys that the large values are written to, in turn: the log keeps what is overwritten until it is compacted.
const LARGE_KEYS: u64 = 8;

/// Measures small GETs beside large values being read and written.
#[derive(Parser, Debug)]
#[command(name = "kvorum-bench-large", version)]
struct Options {
    /// Where to begin: kv://host:port,host:port
    #[arg(long, env = "KVORUM_URL", default_value = "kv://127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403")]
    url: String,
    /// Small GETs per second of each of the two clients
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Bytes of a large value
    #[arg(long, default_value_t = 16 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..=16 * 1024 * 1024))]
    large_size: u64,
    /// Large PUTs in flight
    #[arg(long, default_value_t = 1)]
    large_puts: usize,
    /// Large GETs in flight
    #[arg(long, default_value_t = 1)]
    large_gets: usize,
    /// In paced phases, milliseconds between the begin of one large operation and the next of its kind
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pace_ms: u64,
    /// Seconds of each phase
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of a quiet, a paced and a closed phase
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What went on beside the small GETs.
#[derive(Default)]
struct Counts {
    puts: AtomicU64,
    gets: AtomicU64,
    errors: AtomicU64,
}

/// What goes on beside the small GETs in a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Quiet,
    Paced,
    Closed,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Quiet, Self::Paced, Self::Closed];

    fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Paced => "paced",
            Self::Closed => "closed loop",
        }
    }
}

/// A client, and the runtime on whose threads all of its work is done.
struct Host {
    runtime: Runtime,
    client: Client,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (alone, busy) = match (host(&options, "alone"), host(&options, "busy")) {
        (Ok(alone), Ok(busy)) => (alone, busy),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    match measure(&options, &alone, &busy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn host(options: &Options, name: &str) -> Result<Host, ExitCode> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build();
    let runtime = runtime.map_err(|error| fail(1, &error))?;
    let client = runtime.block_on(async { Client::connect(&options.url).await });
    let client = client.map_err(|error| fail(3, &error))?;
    Ok(Host { runtime, client })
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kvorum-bench-large: {error}");
    ExitCode::from(code)
}

fn large_key(number: u64) -> String {
    format!("bench-large-{}", number % LARGE_KEYS)
}

fn measure(options: &Options, alone: &Host, busy: &Host) -> Result<(), kvorum_client::Error> {
    let value = large_value(options.large_size as usize);
    alone.runtime.block_on(write_small(&alone.client))?;
    busy.runtime.block_on(async {
        for number in 0..LARGE_KEYS {
            busy.client.put(large_key(number), value.clone()).deadline(Duration::from_secs(30)).await?;
        }
        Ok::<_, kvorum_client::Error>(())
    })?;
    let names = ["another client", "the same client"];
    let totals =
        Phase::ALL.map(|phase| (phase, [Latencies::default(), Latencies::default()], Arc::<Counts>::default()));
    let mut loaded_for = [Duration::ZERO; 3];
    for round in 1..=options.rounds {
        for ((phase, total, counts), loaded_for) in totals.iter().zip(&mut loaded_for) {
            let stop = CancellationToken::new();
            let began = Instant::now();
            let mover = (*phase != Phase::Quiet).then(|| {
                let _context = busy.runtime.enter();
                move_large(options, *phase, &busy.client, &value, counts, &stop)
            });
            let seen = [Latencies::default(), Latencies::default()];
            std::thread::scope(|scope| {
                for (host, latencies) in [alone, busy].into_iter().zip(&seen) {
                    scope.spawn(|| {
                        let failed =
                            host.runtime.block_on(probe(&host.client, options.rate, options.seconds, latencies));
                        counts.errors.fetch_add(failed, Ordering::Relaxed);
                    });
                }
            });
            stop.cancel();
            *loaded_for += began.elapsed();
            if let Some(mover) = mover {
                busy.runtime.block_on(mover.join_all());
            }
            for ((name, seen), total) in names.iter().zip(&seen).zip(total) {
                println!("round {round}  {:<12}  {name:<15}  {seen}", phase.name());
                total.add(seen);
            }
        }
    }
    tell(options, &totals, &loaded_for);
    Ok(())
}

/// The totals, and how they compare to the quiet phases.
fn tell(options: &Options, totals: &[(Phase, [Latencies; 2], Arc<Counts>); 3], loaded_for: &[Duration; 3]) {
    let [(_, quiet, _), ..] = totals;
    for (at, name) in ["another client", "the same client"].iter().enumerate() {
        println!("\n{name}");
        for (phase, latencies, _) in totals {
            let ratio = |quantile| latencies[at].quantile(quantile) / quiet[at].quantile(quantile);
            let (p50, p99) = (ratio(0.5), ratio(0.99));
            println!("  {:<12} {}  against quiet: p50 {p50:.1}, p99 {p99:.1}", phase.name(), latencies[at]);
        }
    }
    println!();
    for ((phase, _, counts), loaded_for) in totals.iter().zip(loaded_for) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let per_second = |count: u64| count as f64 / loaded_for.as_secs_f64().max(0.001);
        println!(
            "{:<12} {:.1} PUT/s, {:.1} GET/s of {} bytes; errors: {}",
            phase.name(),
            per_second(of(&counts.puts)),
            per_second(of(&counts.gets)),
            options.large_size,
            of(&counts.errors),
        );
    }
}

/// Bytes that don't compress.
fn large_value(bytes: usize) -> Bytes {
    let mut value = vec![0; bytes];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut value);
    value.into()
}

/// Reads and writes large values until `stop`. Must be called within the client's runtime.
fn move_large(
    options: &Options,
    phase: Phase,
    client: &Client,
    value: &Bytes,
    counts: &Arc<Counts>,
    stop: &CancellationToken,
) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    let pace = Duration::from_millis(options.pace_ms);
    let total = options.large_puts + options.large_gets;
    for number in 0..total {
        let (client, value, counts, stop) = (client.clone(), value.clone(), Arc::clone(counts), stop.clone());
        let puts = number < options.large_puts;
        tasks.spawn(async move {
            let mut turn = number as u64;
            // Those of one kind begin evenly spread, and not with those of the other.
            let mut due = tokio::time::Instant::now() + pace * number as u32 / total as u32;
            loop {
                if phase == Phase::Paced {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => due += pace,
                        () = stop.cancelled() => {}
                    }
                }
                if stop.is_cancelled() {
                    return;
                }
                let deadline = Duration::from_secs(30);
                let (ended, counter) = if puts {
                    let put = client.put(large_key(turn), value.clone()).deadline(deadline);
                    (put.await.map(drop), &counts.puts)
                } else {
                    let get = client.get(large_key(turn)).deadline(deadline);
                    (get.await.map(drop), &counts.gets)
                };
                let counter = if ended.is_ok() { counter } else { &counts.errors };
                counter.fetch_add(1, Ordering::Relaxed);
                turn += total as u64;
            }
        });
    }
    tasks
}
