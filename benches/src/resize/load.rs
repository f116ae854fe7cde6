//! Writes through the client library, with the retries that it has by default, and the proof that none was lost.
//!
//! Each writer has keys of its own, and one write under way. So it knows which write of a key was acknowledged last, and nothing
//! else can be there at the end. A write that failed may have taken effect or not: both are right then.

use crate::storage::StorageError;
use hdrhistogram::Histogram;
use kvorum_client::{Bytes, Client, Error, Version};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes of the smallest value: which key and which write it is of.
pub(super) const VALUE_BYTES_MIN: usize = 16;
/// Keys that are written or read together where nothing is measured.
const TOGETHER: usize = 128;
/// Latencies are kept up to this, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Different errors that are told apart.
const REASONS_MAX: usize = 16;
/// How long one write may take, and one key may take to be read at the end.
const DEADLINE: Duration = Duration::from_secs(30);

/// The sizes of values, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) min: usize,
    pub(super) max: usize,
}

/// What was measured in some time.
pub(super) struct LoadSample {
    pub(super) span: Duration,
    /// In microseconds; in an open loop from when a write was due.
    pub(super) latency: Histogram<u64>,
    pub(super) failed: u64,
}

impl LoadSample {
    pub(super) fn per_second(&self) -> f64 {
        self.latency.len() as f64 / self.span.as_secs_f64()
    }
}

/// What was found at the end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Checked {
    pub(super) written: u64,
    pub(super) failed: BTreeMap<String, u64>,
    /// Keys that do not hold what was acknowledged last.
    pub(super) lost: u64,
    /// The first of them, in words.
    pub(super) first_lost: Option<String>,
}

/// What became of one key.
#[derive(Clone, Copy, Default)]
struct Written {
    /// How many writes of it were tried.
    tried: u32,
    /// The last one that was acknowledged, and the version that it got.
    acknowledged: u32,
    version: Version,
}

/// What writers share.
struct Shared {
    stop: AtomicBool,
    sizes: Sizes,
    /// What lies in values beside their heads.
    filler: Vec<u8>,
}

/// What one writer has measured since that was taken last.
struct Recorder {
    latency: Histogram<u64>,
    failed: u64,
    reasons: BTreeMap<String, u64>,
}

/// The keys of one writer.
struct Keys {
    range: Range<u64>,
    written: Vec<Written>,
    /// The numbers of writes that failed, by key. There should be none.
    failed: BTreeMap<u64, Vec<u32>>,
}

/// The writers. They end when this is dropped.
pub(super) struct WriteLoad {
    runtime: Option<Runtime>,
    client: Client,
    shared: Arc<Shared>,
    recorders: Vec<Arc<Mutex<Recorder>>>,
    writers: Vec<JoinHandle<Keys>>,
    pace: watch::Sender<Option<Duration>>,
    taken_at: Instant,
}

impl WriteLoad {
    /// Writes `keys` keys once, and then all the time: as fast as so many writers can.
    ///
    /// # Errors
    /// The cluster can't be reached, a key could not be written, or the system has no thread to give.
    pub(super) fn start(addresses: &[String], keys: u64, writers: usize, sizes: Sizes) -> Result<Self, StorageError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(StorageError::system("a runtime"))?;
        let connect = Client::builder().seeds(addresses).deadline(DEADLINE).connect();
        let client = runtime.block_on(connect).map_err(StorageError::cluster("connecting"))?;
        let mut random = StdRng::seed_from_u64(1);
        let filler = (0..sizes.max).map(|_| random.random()).collect();
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), sizes, filler });
        let share = keys.div_ceil(writers as u64).max(1);
        let ranges = (0..writers as u64).map(|writer| writer * share..(writer + 1) * share);
        let preloading: Vec<_> =
            ranges.map(|range| runtime.spawn(preload(client.clone(), range, Arc::clone(&shared)))).collect();
        let (pace, paces) = watch::channel(None);
        let (mut recorders, mut writers) = (Vec::new(), Vec::new());
        let mut preloaded = Vec::new();
        for preload in preloading {
            let keys = runtime.block_on(preload).map_err(StorageError::cluster("preloading"))?;
            preloaded.push(keys.map_err(StorageError::cluster("preloading"))?);
        }
        for keys in preloaded {
            let recorder = Arc::new(Mutex::new(Recorder::new()));
            recorders.push(Arc::clone(&recorder));
            let work = write_all_the_time(client.clone(), keys, Arc::clone(&shared), recorder, paces.clone());
            writers.push(runtime.spawn(work));
        }
        Ok(Self { runtime: Some(runtime), client, shared, recorders, writers, pace, taken_at: Instant::now() })
    }

    /// From now on so many writes per second are due, whatever the answers do.
    pub(super) fn pace(&self, per_second: f64) {
        let every = Duration::from_secs_f64(self.recorders.len() as f64 / per_second.max(1.0));
        self.pace.send_replace(Some(every));
    }

    /// What was measured since this was asked last.
    pub(super) fn take(&mut self) -> LoadSample {
        let mut all = Recorder::new();
        for recorder in &self.recorders {
            let mut recorder = lock(recorder);
            all.latency.add(&recorder.latency).expect("histograms of one shape");
            all.failed += recorder.failed;
            recorder.latency.reset();
            recorder.failed = 0;
        }
        let span = self.taken_at.elapsed();
        self.taken_at = Instant::now();
        LoadSample { span, latency: all.latency, failed: all.failed }
    }

    /// The client, for what is asked of the cluster beside.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs something on the writers' runtime.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is there until this is dropped").block_on(future)
    }

    /// Ends all writers, and reads every key.
    ///
    /// # Errors
    /// A writer has panicked, or a key can't be read.
    pub(super) fn check(mut self) -> Result<Checked, StorageError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut checked = Checked::default();
        for writer in std::mem::take(&mut self.writers) {
            let keys = self.block_on(writer).map_err(StorageError::cluster("writing"))?;
            checked.written += keys.written.iter().map(|written| u64::from(written.acknowledged)).sum::<u64>();
            self.block_on(keys.check(&self.client, &self.shared, &mut checked))
                .map_err(StorageError::cluster("reading all keys"))?;
        }
        for recorder in &self.recorders {
            for (reason, count) in &lock(recorder).reasons {
                *checked.failed.entry(reason.clone()).or_default() += count;
            }
        }
        Ok(checked)
    }
}

impl Drop for WriteLoad {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(runtime) = self.runtime.take() {
            // Writes under way are given up; their servers are about to be killed.
            runtime.shutdown_background();
        }
    }
}

async fn preload(client: Client, range: Range<u64>, shared: Arc<Shared>) -> Result<Keys, Error> {
    let mut keys = Keys::new(range);
    let all: Vec<u64> = keys.range.clone().collect();
    for some in all.chunks(TOGETHER) {
        let batch = some.iter().fold(client.batch(), |batch, &key| batch.put(key_of(key), shared.value(key, 1)));
        for (&key, result) in some.iter().zip(batch.await) {
            *keys.of(key) = Written { tried: 1, acknowledged: 1, version: result?.version };
        }
    }
    Ok(keys)
}

async fn write_all_the_time(
    client: Client,
    mut keys: Keys,
    shared: Arc<Shared>,
    recorder: Arc<Mutex<Recorder>>,
    mut pace: watch::Receiver<Option<Duration>>,
) -> Keys {
    let mut random = StdRng::seed_from_u64(keys.range.start);
    let mut every = None;
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        if pace.has_changed().unwrap_or(false) {
            every = *pace.borrow_and_update();
            // They are due in turn.
            next = Instant::now() + every.unwrap_or_default().mul_f64(random.random());
        }
        let due = match every {
            None => Instant::now(),
            Some(every) => {
                tokio::time::sleep_until(next.into()).await;
                let due = next;
                next += every;
                due
            }
        };
        let key = random.random_range(keys.range.clone());
        let written = keys.of(key);
        written.tried += 1;
        let result = client.put(key_of(key), shared.value(key, written.tried)).await;
        let took = due.elapsed();
        let mut recorder = lock(&recorder);
        match result {
            Ok(result) => {
                *written = Written { tried: written.tried, acknowledged: written.tried, version: result.version };
                recorder.latency.saturating_record(took.as_micros() as u64);
            }
            Err(error) => {
                let number = written.tried;
                keys.failed.entry(key).or_default().push(number);
                recorder.count_failed(&error);
            }
        }
    }
    keys
}

impl Shared {
    /// The value of a key's write of this number, counted from 1.
    fn value(&self, key: u64, number: u32) -> Bytes {
        let mixed = (key ^ u64::from(number).rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let bytes = self.sizes.min + mixed as usize % (self.sizes.max - self.sizes.min + 1);
        let mut value = Vec::with_capacity(bytes);
        value.extend(key.to_le_bytes());
        value.extend(u64::from(number).to_le_bytes());
        value.extend(&self.filler[..bytes - VALUE_BYTES_MIN]);
        value.into()
    }
}

impl Keys {
    fn new(range: Range<u64>) -> Self {
        let written = vec![Written::default(); (range.end - range.start) as usize];
        Self { range, written, failed: BTreeMap::new() }
    }

    fn of(&mut self, key: u64) -> &mut Written {
        &mut self.written[(key - self.range.start) as usize]
    }

    async fn check(&self, client: &Client, shared: &Shared, checked: &mut Checked) -> Result<(), Error> {
        let all: Vec<(u64, Written)> = self.range.clone().zip(self.written.iter().copied()).collect();
        for some in all.chunks(TOGETHER) {
            let names: Vec<Bytes> = some.iter().map(|(key, _)| key_of(*key)).collect();
            for (&(key, written), found) in some.iter().zip(client.get_many(&names).await) {
                let found = found?.map(|entry| (entry.value, entry.version));
                let failed = self.failed.get(&key).map_or(&[][..], Vec::as_slice);
                if let Err(why) = shared.judge(key, written, failed, found) {
                    checked.lost += 1;
                    checked.first_lost.get_or_insert(why);
                }
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Whether a key holds what it should.
    ///
    /// # Errors
    /// What it holds instead, in words.
    fn judge(&self, key: u64, written: Written, failed: &[u32], found: Option<(Bytes, Version)>) -> Result<(), String> {
        let Written { tried, acknowledged, version } = written;
        let expected = format!("key {key}: write {acknowledged} of {tried} was acknowledged as version {version}");
        let Some((value, found)) = found else { return Err(format!("{expected}, and nothing is there")) };
        // One that failed may take effect whenever it likes, and has a later version then.
        let is_later = |number: &u32| found > version && value == self.value(key, *number);
        if found == version && value == self.value(key, acknowledged) || failed.iter().any(is_later) {
            return Ok(());
        }
        let number = value.get(8..VALUE_BYTES_MIN).map_or(0, |bytes| u64::from(bytes[0]) | u64::from(bytes[1]) << 8);
        Err(format!("{expected}, and version {found} is there, of write {number} (modulo 65536)"))
    }
}

impl Recorder {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds make sense");
        Self { latency, failed: 0, reasons: BTreeMap::new() }
    }

    fn count_failed(&mut self, error: &Error) {
        self.failed += 1;
        // Without what differs from one write to the next.
        let reason = format!("{} ({})", error.code(), error.outcome());
        let known = self.reasons.len() < REASONS_MAX || self.reasons.contains_key(&reason);
        *self.reasons.entry(if known { reason } else { "other reasons".to_owned() }).or_default() += 1;
    }
}

fn key_of(key: u64) -> Bytes {
    format!("resize:{key:010}").into()
}

/// What a writer has measured is sound after each write, even if whoever looked at it died.
fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let sizes = Sizes { min: 128, max: 1024 };
        Shared { stop: AtomicBool::new(false), sizes, filler: vec![7; 1024] }
    }

    #[test]
    fn sizes_are_mixed_and_within_their_bounds() {
        let shared = shared();
        let sizes: Vec<usize> = (0..10_000).map(|key| shared.value(key, 1).len()).collect();
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&128), Some(&1024)));
        let mean = sizes.iter().sum::<usize>() as f64 / 10_000.0;
        assert!((540.0..612.0).contains(&mean), "{mean}");
    }

    #[test]
    fn only_the_last_acknowledged_write_and_failed_ones_may_be_there() {
        let shared = shared();
        let judge = |failed: &[u32], number, version| {
            let written = Written { tried: 6, acknowledged: 5, version: Version(70) };
            shared.judge(3, written, failed, Some((shared.value(3, number), Version(version)))).is_ok()
        };
        assert!(judge(&[], 5, 70));
        assert!(!judge(&[], 4, 69), "an acknowledged write is lost");
        assert!(!judge(&[], 5, 71), "it was written twice");
        assert!(judge(&[6], 5, 70) && judge(&[6], 6, 71), "a failed one may be there or not");
        assert!(judge(&[3], 3, 71), "even if it was sent before one that was acknowledged");
        assert!(!judge(&[6], 6, 69), "but not in its place and before it");
        let written = Written { tried: 1, acknowledged: 1, version: Version(1) };
        assert!(shared.judge(3, written, &[], None).is_err());
    }
}
