//! All connections of a phase, spread over threads that each run their own single-threaded executor.

use crate::connection::{Connection, lock};
use crate::engine::{Pace, Schedule, Seat, Settings};
use crate::keys::KeySpace;
use crate::pacer::{Pacer, Timer};
use crate::recorder::Recorder;
use crate::routes::Router;
use crate::wire::Protocol;
use crate::work::Work;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// What every connection of a fleet is made from.
#[derive(Clone, Debug)]
pub(crate) struct FleetPlan {
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    /// Operations per second of all connections in an open loop; none is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) keys: Arc<KeySpace>,
    pub(crate) router: Arc<Router>,
}

impl FleetPlan {
    /// The connections' requests are due in turn.
    fn pace_of(&self, number: usize) -> Option<Pace> {
        let between = 1.0 / self.rate?;
        let every = Duration::from_secs_f64(between * self.connections as f64).max(Duration::from_nanos(1));
        Some(Pace { offset: Duration::from_secs_f64(between * number as f64), every })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Fleet {
    plan: FleetPlan,
    threads: Vec<JoinHandle<()>>,
    recorders: Vec<Arc<Mutex<Recorder>>>,
    /// One message of each connection when its first try to connect is over; closed when all connections have ended.
    ready: mpsc::Receiver<bool>,
    schedule: watch::Sender<Option<Schedule>>,
}

impl Fleet {
    /// Starts the threads; their connections connect and wait for [`Fleet::begin`]. `work` says what each
    /// one does.
    ///
    /// # Errors
    /// The system has no thread or event queue to give.
    pub(crate) fn launch<P: Protocol>(plan: FleetPlan, work: impl Fn() -> Work) -> io::Result<Self> {
        let (ready_sender, ready) = mpsc::channel(plan.connections);
        let (schedule, schedule_receiver) = watch::channel(None);
        let (mut threads, mut recorders) = (Vec::new(), Vec::new());
        for thread in 0..plan.threads {
            let recorder = Arc::new(Mutex::new(Recorder::new()));
            let mut paced = Vec::new();
            let mut crew: Vec<(Connection<P>, Seat)> = Vec::new();
            for number in (thread..plan.connections).step_by(plan.threads) {
                let pace = plan.pace_of(number);
                let due = pace.map(|_| Arc::new(Notify::new()));
                paced.extend(pace.zip(due.clone()).map(|(pace, due)| (pace.offset, due)));
                let seat = Seat {
                    settings: Arc::clone(&plan.settings),
                    keys: Arc::clone(&plan.keys),
                    router: Arc::clone(&plan.router),
                    work: work(),
                    random: StdRng::seed_from_u64(plan.seed.wrapping_add(number as u64)),
                    pace,
                };
                crew.push((Connection::new(number, Arc::clone(&plan.router), Arc::clone(&recorder), due), seat));
            }
            let pacer = match crew.first().and_then(|(_, seat)| seat.pace) {
                Some(pace) => Some((Pacer { connections: paced, every: pace.every }, Timer::new()?)),
                None => None,
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (ready_sender, schedule_receiver) = (ready_sender.clone(), schedule_receiver.clone());
            let settings = Arc::clone(&plan.settings);
            let body = move || {
                runtime.block_on(async {
                    let mut tasks = tokio::task::JoinSet::new();
                    if let Some((pacer, timer)) = pacer {
                        tasks.spawn(pace(pacer, timer, schedule_receiver.clone(), settings));
                    }
                    for (connection, seat) in crew {
                        tasks.spawn(connection.run(seat, ready_sender.clone(), schedule_receiver.clone()));
                    }
                    drop(ready_sender);
                    // Panics of a task when it panicked: the run fails instead of reporting half of its load.
                    tasks.join_all().await;
                });
            };
            threads.push(std::thread::Builder::new().name(format!("load-{thread}")).spawn(body)?);
            recorders.push(recorder);
        }
        Ok(Self { plan, threads, recorders, ready, schedule })
    }

    /// Waits until each connection's first try is over, which their timeout bounds. Returns how many are open.
    pub(crate) async fn ready(&mut self) -> usize {
        let mut open = 0;
        for _ in 0..self.plan.connections {
            // `None`: a thread died, which `join` reports.
            let Some(is_open) = self.ready.recv().await else { break };
            open += usize::from(is_open);
        }
        open
    }

    /// Lets the connections begin.
    pub(crate) fn begin(&self, schedule: Schedule) {
        self.schedule.send_replace(Some(schedule));
    }

    /// Waits until every connection has ended; cancel safe.
    pub(crate) async fn finished(&mut self) {
        while self.ready.recv().await.is_some() {}
    }

    /// Makes every connection end at its next wake.
    pub(crate) fn halt(&self) {
        self.plan.settings.halt.store(true, Ordering::Relaxed);
    }

    /// What all threads measured so far.
    pub(crate) fn snapshot(&self) -> Recorder {
        let mut all = Recorder::new();
        self.recorders.iter().for_each(|recorder| all.merge(&lock(recorder)));
        all
    }

    /// Waits for the threads, which end soon after their schedule does. `None` if one of them panicked.
    pub(crate) fn join(self) -> Option<Recorder> {
        let Self { threads, recorders, schedule, .. } = self;
        // Connections that were never scheduled see the sender gone, and end.
        drop(schedule);
        let panicked = threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count() > 0;
        let mut all = Recorder::new();
        recorders.iter().for_each(|recorder| all.merge(&lock(recorder)));
        (!panicked).then_some(all)
    }
}

/// Runs a thread's pacer once its schedule is known.
///
/// # Panics
/// If the system refuses the timer: nothing would be sent.
async fn pace(pacer: Pacer, timer: Timer, mut schedule: watch::Receiver<Option<Schedule>>, settings: Arc<Settings>) {
    let Ok(Some(schedule)) = schedule.wait_for(Option::is_some).await.map(|schedule| *schedule) else { return };
    let paced = pacer.run(timer, schedule, || settings.halt.load(Ordering::Relaxed)).await;
    paced.expect("the system lets its timers be set");
}
