//! Small GETs at a fixed rate, through the client library: what other work costs those who are there already.
//!
//! An open loop: a GET is sent when it is due, whatever becomes of those before it, and its latency counts from then.

use hdrhistogram::Histogram;
use kvorum_client::Client;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const SMALL_KEYS: u64 = 1_000;
const SMALL_VALUE_BYTES: usize = 100;
/// A GET that takes longer is counted as this long.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Latencies in microseconds. A clone counts in the same place.
#[derive(Clone, Debug)]
pub struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Default for Latencies {
    fn default() -> Self {
        let most = LATENCY_MAX.as_micros() as u64;
        Self(Arc::new(Mutex::new(Histogram::new_with_max(most, 3).expect("the bounds are sound"))))
    }
}

impl Latencies {
    fn record(&self, latency: Duration) {
        let mut histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(latency.as_micros() as u64);
    }

    /// In milliseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Adds what another one has counted.
    pub fn add(&self, other: &Self) {
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

fn small_key(number: u64) -> String {
    format!("bench-small-{}", number % SMALL_KEYS)
}

/// Writes what [`probe`] reads.
///
/// # Errors
/// The first of a write.
pub async fn write_small(client: &Client) -> Result<(), kvorum_client::Error> {
    for number in 0..SMALL_KEYS {
        client.put(small_key(number), vec![b's'; SMALL_VALUE_BYTES]).await?;
    }
    Ok(())
}

/// Sends `rate` GETs per second for some seconds, and waits for all of them. Returns how many failed.
pub async fn probe(client: &Client, rate: u64, seconds: u64, latencies: &Latencies) -> u64 {
    let runtime = Handle::current();
    let (client, latencies) = (client.clone(), latencies.clone());
    let failed = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&failed);
    // A thread of its own: the runtime's timer has steps of a millisecond.
    let sent = tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let send = |number: u64| {
            let due = begin + Duration::from_nanos(number * 1_000_000_000 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (client, latencies, failed) = (client.clone(), latencies.clone(), Arc::clone(&counted));
            runtime.spawn(async move {
                match client.get(small_key(number)).await {
                    Ok(_) => latencies.record(due.elapsed()),
                    Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                }
            })
        };
        (0..rate * seconds).map(send).collect::<Vec<_>>()
    });
    for task in sent.await.unwrap_or_default() {
        // A task that panicked has recorded nothing; the panic is on the terminal.
        let _ = task.await;
    }
    failed.load(Ordering::Relaxed)
}
