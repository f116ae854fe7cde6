//! kvorum-bench-large: what large values cost small requests.
//!
//! Small GETs are sent at a fixed rate, whatever becomes of those before them (an open loop; latency counts from when a GET was due),
//! by a client that does nothing else and by one that moves the large values, too. Quiet phases and phases with large
//! values take turns, so that a noisy machine is noisy in both. Unlike kvorum-bench this goes through the client library: how
//! it shares a connection between small and large is part of what is measured.
//!
//! Exit codes: 0 done, 1 something failed, 3 unreachable.

use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use kvorum_client::Client;
use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Keys that the large values are written to, in turn: the log keeps what is overwritten until it is compacted.
const LARGE_KEYS: u64 = 8;
const SMALL_KEYS: u64 = 1_000;
const SMALL_VALUE_BYTES: usize = 100;
/// A GET that takes longer is counted as this long.
const LATENCY_MAX: Duration = Duration::from_secs(60);

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
    /// Milliseconds between the end of one large operation and the next of its kind
    #[arg(long, default_value_t = 0)]
    large_pause_ms: u64,
    /// Seconds of each phase
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of a quiet and a loaded phase
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Latencies of small GETs in microseconds.
#[derive(Clone)]
struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Latencies {
    fn new() -> Self {
        let most = LATENCY_MAX.as_micros() as u64;
        Latencies(Arc::new(Mutex::new(Histogram::new_with_max(most, 3).expect("the bounds are sound"))))
    }

    fn record(&self, latency: Duration) {
        let mut histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(latency.as_micros() as u64);
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn add(&self, other: &Latencies) {
        let other = other.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(&*other).expect("both have the same bounds");
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|quantile| self.quantile(quantile));
        write!(f, "p50 {p50:>8.2}  p90 {p90:>8.2}  p99 {p99:>8.2}  longest {most:>8.2} ms")
    }
}

/// What went on beside the small GETs.
#[derive(Default)]
struct Counts {
    puts: AtomicU64,
    gets: AtomicU64,
    errors: AtomicU64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    runtime.block_on(async {
        let clients = match tokio::try_join!(Client::connect(&options.url), Client::connect(&options.url)) {
            Ok(clients) => clients,
            Err(error) => return fail(3, &error),
        };
        match measure(&options, clients).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error),
        }
    })
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kvorum-bench-large: {error}");
    ExitCode::from(code)
}

fn small_key(number: u64) -> String {
    format!("bench-small-{}", number % SMALL_KEYS)
}

fn large_key(number: u64) -> String {
    format!("bench-large-{}", number % LARGE_KEYS)
}

async fn measure(options: &Options, (alone, busy): (Client, Client)) -> Result<(), kvorum_client::Error> {
    let value = large_value(options.large_size as usize);
    for number in 0..SMALL_KEYS {
        alone.put(small_key(number), vec![b's'; SMALL_VALUE_BYTES]).await?;
    }
    for number in 0..LARGE_KEYS {
        busy.put(large_key(number), value.clone()).deadline(Duration::from_secs(30)).await?;
    }
    let counts: Arc<Counts> = Arc::default();
    let names = ["another client", "the same client"];
    let (quiet, loaded) = ([Latencies::new(), Latencies::new()], [Latencies::new(), Latencies::new()]);
    let mut loaded_for = Duration::ZERO;
    for round in 1..=options.rounds {
        for with_large in [false, true] {
            let stop = CancellationToken::new();
            let began = Instant::now();
            let mover = with_large.then(|| move_large(options, &busy, &value, &counts, &stop));
            let phase = [Latencies::new(), Latencies::new()];
            tokio::join!(
                probe(options, &alone, phase[0].clone(), Arc::clone(&counts)),
                probe(options, &busy, phase[1].clone(), Arc::clone(&counts)),
            );
            stop.cancel();
            if let Some(mover) = mover {
                loaded_for += began.elapsed();
                mover.join_all().await;
            }
            let totals = if with_large { &loaded } else { &quiet };
            for ((name, phase), total) in names.iter().zip(&phase).zip(totals) {
                let kind = if with_large { "large values" } else { "quiet" };
                println!("round {round}  {kind:<12}  {name:<15}  {phase}");
                total.add(phase);
            }
        }
    }
    for ((name, quiet), loaded) in names.iter().zip(&quiet).zip(&loaded) {
        println!("\n{name}\n  quiet         {quiet}\n  large values  {loaded}");
        let ratio = |quantile| loaded.quantile(quantile) / quiet.quantile(quantile);
        println!("  ratio         p50 {:>8.2}  p90 {:>8.2}  p99 {:>8.2}", ratio(0.5), ratio(0.9), ratio(0.99));
    }
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let per_second = |count: u64| count as f64 / loaded_for.as_secs_f64().max(0.001);
    println!(
        "\nlarge values of {} bytes: {:.1} PUT/s, {:.1} GET/s; errors: {}",
        options.large_size,
        per_second(of(&counts.puts)),
        per_second(of(&counts.gets)),
        of(&counts.errors),
    );
    Ok(())
}

/// Bytes that don't compress.
fn large_value(bytes: usize) -> Bytes {
    let mut value = vec![0; bytes];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut value);
    value.into()
}

/// Reads and writes large values until `stop`.
fn move_large(
    options: &Options,
    client: &Client,
    value: &Bytes,
    counts: &Arc<Counts>,
    stop: &CancellationToken,
) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    let pause = Duration::from_millis(options.large_pause_ms);
    let total = options.large_puts + options.large_gets;
    for number in 0..total {
        let (client, value, counts, stop) = (client.clone(), value.clone(), Arc::clone(counts), stop.clone());
        let puts = number < options.large_puts;
        tasks.spawn(async move {
            let mut turn = number as u64;
            while !stop.is_cancelled() {
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
                tokio::time::sleep(pause).await;
            }
        });
    }
    tasks
}

/// Sends small GETs at the wanted rate and waits for all of them.
async fn probe(options: &Options, client: &Client, latencies: Latencies, counts: Arc<Counts>) {
    let (rate, total) = (options.rate, options.rate * options.seconds);
    let runtime = tokio::runtime::Handle::current();
    let client = client.clone();
    // A thread of its own: the runtime's timer has steps of a millisecond.
    let sent = tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let send = |number: u64| {
            let due = begin + Duration::from_nanos(number * 1_000_000_000 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (client, latencies, counts) = (client.clone(), latencies.clone(), Arc::clone(&counts));
            runtime.spawn(async move {
                match client.get(small_key(number)).await {
                    Ok(_) => latencies.record(due.elapsed()),
                    Err(_) => drop(counts.errors.fetch_add(1, Ordering::Relaxed)),
                }
            })
        };
        (0..total).map(send).collect::<Vec<_>>()
    });
    for task in sent.await.unwrap_or_default() {
        // A task that panicked has recorded nothing; the panic is on the terminal.
        let _ = task.await;
    }
}
