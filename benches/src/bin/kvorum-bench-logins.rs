//! kvorum-bench-logins: what logins by password cost those who are logged in.
//!
//! Small GETs are sent at a fixed rate over the binary door, and AUTH at a fixed rate over a RESP door. Quiet phases, phases of right
//! passwords and phases of wrong ones, of which no two are the same, take turns, so that a noisy machine is noisy in all.
//!
//! Exit codes: 0 done, 1 something failed, 3 unreachable.

use clap::Parser;
use kvorum_benches::small_gets::{Latencies, probe, write_small};
use kvorum_client::{Client, Credentials};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Measures small GETs beside logins.
#[derive(Parser, Debug)]
#[command(name = "kvorum-bench-logins", version)]
struct Options {
    /// Where to begin: kv://host:port,host:port
    #[arg(long, env = "KVORUM_URL")]
    url: String,
    /// The RESP door that logins go to: host:port
    #[arg(long)]
    resp: String,
    /// Who reads, and logs in
    #[arg(long, env = "KVORUM_USER")]
    user: String,
    /// The user's password
    #[arg(long, env = "KVORUM_PASSWORD", hide_env_values = true)]
    password: String,
    /// Small GETs per second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Logins per second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    logins: u64,
    /// Connections that log in, again and again
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// Seconds of each phase
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of a quiet phase, one of right passwords and one of wrong ones
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Quiet,
    Right,
    Wrong,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Quiet, Self::Right, Self::Wrong];

    fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Right => "right",
            Self::Wrong => "wrong",
        }
    }
}

/// How logins were answered.
#[derive(Default)]
struct Answers {
    let_in: AtomicU64,
    refused: AtomicU64,
    /// The node had as many to check as it takes.
    put_off: AtomicU64,
    lost: AtomicU64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let credentials = Credentials::Password { user: options.user.clone(), password: options.password.clone() };
    let client = match Client::builder().url(&options.url).credentials(credentials).connect().await {
        Ok(client) => client,
        Err(error) => return fail(3, &error),
    };
    match measure(Arc::new(options), &client).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kvorum-bench-logins: {error}");
    ExitCode::from(code)
}

async fn measure(options: Arc<Options>, client: &Client) -> Result<(), kvorum_client::Error> {
    write_small(client).await?;
    let totals = Phase::ALL.map(|phase| (phase, Latencies::default(), Arc::<Answers>::default()));
    let mut failed = 0;
    let mut took = Duration::ZERO;
    for round in 1..=options.rounds {
        for (phase, total, answers) in &totals {
            let stop = CancellationToken::new();
            let began = Instant::now();
            let logins = match phase {
                Phase::Quiet => JoinSet::new(),
                Phase::Right | Phase::Wrong => log_in(&options, *phase == Phase::Right, answers, &stop),
            };
            let seen = Latencies::default();
            failed += probe(client, options.rate, options.seconds, &seen).await;
            stop.cancel();
            logins.join_all().await;
            if *phase == Phase::Right {
                took += began.elapsed();
            }
            println!("round {round}  {:<6} {seen}", phase.name());
            total.add(&seen);
        }
    }
    let [(_, quiet, _), ..] = &totals;
    println!("\nGETs that failed: {failed}");
    for (phase, latencies, answers) in &totals {
        let against = |quantile| latencies.quantile(quantile) / quiet.quantile(quantile);
        println!("{:<6} {latencies}  against quiet: p50 {:.2}, p99 {:.2}", phase.name(), against(0.5), against(0.99));
        if *phase != Phase::Quiet {
            let per_second =
                |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / took.as_secs_f64().max(0.001);
            println!(
                "       logins per second: {:.1} let in, {:.1} refused, {:.1} put off; connections lost: {}",
                per_second(&answers.let_in),
                per_second(&answers.refused),
                per_second(&answers.put_off),
                answers.lost.load(Ordering::Relaxed),
            );
        }
    }
    Ok(())
}

/// Logs in over and over until `stop`, each connection with a password at a time.
fn log_in(options: &Arc<Options>, right: bool, answers: &Arc<Answers>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..options.connections {
        let (options, answers, stop) = (Arc::clone(options), Arc::clone(answers), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                ended = keep_logging_in(&options, number, right, &answers) => {
                    if let Err(error) = ended {
                        answers.lost.fetch_add(1, Ordering::Relaxed);
                        eprintln!("kvorum-bench-logins: {error}");
                    }
                }
                () = stop.cancelled() => {}
            }
        });
    }
    tasks
}

async fn keep_logging_in(options: &Options, number: u64, right: bool, answers: &Answers) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(&options.resp).await?);
    let every = Duration::from_nanos(1_000_000_000 * options.connections / options.logins);
    // Those of all connections are spread evenly.
    let first = tokio::time::Instant::now() + every * number as u32 / options.connections as u32;
    let mut due = tokio::time::interval_at(first, every);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut line = String::new();
    for turn in 0_u64.. {
        due.tick().await;
        let password = if right { options.password.clone() } else { format!("wrong-{number}-{turn}") };
        let (user, length) = (&options.user, password.len());
        let command = format!("*3\r\n$4\r\nAUTH\r\n${}\r\n{user}\r\n${length}\r\n{password}\r\n", user.len());
        stream.write_all(command.as_bytes()).await?;
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let counter = if line.starts_with("+OK") {
            &answers.let_in
        } else if line.starts_with("-WRONGPASS") {
            &answers.refused
        } else {
            &answers.put_off
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
