//! Clients that count while a node dies and comes back.
//!
//! They tell the script beside them how far they are, a word a line: `counting` when all counters have begun, `went-on` when those that
//! follow slots have counted after `killed` was read, `returned` when all have after `back` was read. At the end no counter is less than
//! what was acknowledged.

use crate::{Checked, Doors, fred_crate, url};
use fred::interfaces::KeysInterface as _;
use fred::types::RespVersion;
use redis::AsyncCommands as _;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use std::error::Error;
use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters of each client; enough that every node leads some.
const KEYS: usize = 32;
/// What a client may take to go on. Generous: nothing is measured by it.
const WITHIN: Duration = Duration::from_secs(30);
/// After an error.
const PAUSE: Duration = Duration::from_millis(20);

/// A client, and what it has counted.
struct Counters {
    name: &'static str,
    follows_slots: bool,
    /// Increments that were acknowledged, by key.
    acknowledged: Vec<AtomicU64>,
    /// The phase in which the last of them began, by key.
    phases: Vec<AtomicU64>,
    errors: AtomicU64,
}

#[derive(Default)]
struct Course {
    phase: AtomicU64,
    ends: AtomicBool,
}

impl Counters {
    fn new(name: &'static str, follows_slots: bool) -> Arc<Self> {
        let zeros = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { name, follows_slots, acknowledged: zeros(), phases: zeros(), errors: AtomicU64::new(0) })
    }

    fn key(&self, at: usize) -> String {
        format!("counters:{}:{at}", self.name)
    }

    /// Counts in turn until all ends.
    async fn run<E>(self: Arc<Self>, course: Arc<Course>, mut increment: impl AsyncFnMut(String) -> Result<i64, E>) {
        for at in (0..KEYS).cycle() {
            if course.ends.load(Ordering::SeqCst) {
                return;
            }
            let phase = course.phase.load(Ordering::SeqCst);
            if increment(self.key(at)).await.is_ok() {
                self.acknowledged[at].fetch_add(1, Ordering::SeqCst);
                self.phases[at].store(phase, Ordering::SeqCst);
            } else {
                self.errors.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Waits until each key was counted in this phase.
    async fn reach(&self, phase: u64) -> Checked {
        let began = Instant::now();
        while self.phases.iter().any(|reached| reached.load(Ordering::SeqCst) < phase) {
            if began.elapsed() > WITHIN {
                return Err(format!("{} does not go on in phase {phase}", self.name).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// Reads a line, which must be this.
fn read_word(expected: &str) -> Checked {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim() == expected { Ok(()) } else { Err(format!("read {line:?} instead of {expected}").into()) }
}

/// Counts until the script has had its way with a node.
pub(crate) async fn count(doors: Doors) -> Checked {
    let course = Arc::new(Course::default());
    course.phase.store(1, Ordering::SeqCst);
    let mut all = Vec::new();
    let mut tasks = Vec::new();

    let cluster = ClusterClient::new([url(doors.cluster, "resp3")])?.get_async_connection().await?;
    let counters = Counters::new("redis-cluster", true);
    all.push(Arc::clone(&counters));
    tasks.push(tokio::spawn(counters.run(Arc::clone(&course), async move |key| {
        let mut connection = cluster.clone();
        connection.incr::<_, _, i64>(key, 1).await
    })));

    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(200));
    let manager = ConnectionManager::new_with_config(redis::Client::open(url(doors.other, "resp2"))?, config).await?;
    let counters = Counters::new("redis-manager", false);
    all.push(Arc::clone(&counters));
    tasks.push(tokio::spawn(counters.run(Arc::clone(&course), async move |key| {
        let mut connection = manager.clone();
        connection.incr::<_, _, i64>(key, 1).await
    })));

    for (name, port, follows_slots) in [("fred-cluster", doors.cluster, true), ("fred", doors.other, false)] {
        let client = fred_crate::connected(port, follows_slots, RespVersion::RESP3).await?;
        let counters = Counters::new(name, follows_slots);
        all.push(Arc::clone(&counters));
        tasks.push(tokio::spawn(counters.run(Arc::clone(&course), async move |key| client.incr::<i64, _>(key).await)));
    }

    for counters in &all {
        counters.reach(1).await?;
    }
    println!("counting");
    read_word("killed")?;
    course.phase.store(2, Ordering::SeqCst);
    for counters in all.iter().filter(|counters| counters.follows_slots) {
        counters.reach(2).await?;
    }
    println!("went-on");
    read_word("back")?;
    course.phase.store(3, Ordering::SeqCst);
    for counters in &all {
        counters.reach(3).await?;
    }
    course.ends.store(true, Ordering::SeqCst);
    futures_util::future::try_join_all(tasks).await?;
    println!("returned");
    verify(doors, &all).await
}

async fn verify(doors: Doors, all: &[Arc<Counters>]) -> Checked {
    let client = redis::Client::open(url(doors.standalone, "resp3"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    for counters in all {
        let keys: Vec<String> = (0..KEYS).map(|at| counters.key(at)).collect();
        let values: Vec<u64> = connection.mget(&keys).await?;
        let mut sum = 0;
        for (at, value) in values.into_iter().enumerate() {
            let acknowledged = counters.acknowledged[at].load(Ordering::SeqCst);
            if value < acknowledged {
                let what = format!("{} is {value}, and {acknowledged} were acknowledged", counters.key(at));
                return Err(Box::<dyn Error + Send + Sync>::from(what));
            }
            sum += acknowledged;
        }
        println!("{}: {sum} acknowledged, {} errors", counters.name, counters.errors.load(Ordering::SeqCst));
    }
    Ok(())
}
