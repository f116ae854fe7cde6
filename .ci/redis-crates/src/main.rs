//! The crates `redis` and `fred` against Kvorum. Run by .ci/redis-clients, which says where the doors are.
//!
//! Each check takes keys of its own, looks at what came back, and fails if it is not what Redis gives. With the argument
//! `counters` it counts while a node dies and comes back: see `counters`.

mod counters;
mod fred_crate;
mod redis_crate;

use std::error::Error;
use std::fmt::Debug;
use std::process::ExitCode;
use std::time::Instant;

type Checked = Result<(), Box<dyn Error + Send + Sync>>;

/// Where the doors are.
#[derive(Clone, Copy, Debug)]
struct Doors {
    /// The standalone door of a node.
    standalone: u16,
    /// That of another one.
    other: u16,
    /// The cluster door of the first one.
    cluster: u16,
}

impl Doors {
    fn of_environment() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let port = |name: &str| -> Result<u16, Box<dyn Error + Send + Sync>> {
            Ok(std::env::var(name).map_err(|error| format!("{name}: {error}"))?.parse()?)
        };
        Ok(Self {
            standalone: port("KVORUM_STANDALONE")?,
            other: port("KVORUM_OTHER")?,
            cluster: port("KVORUM_CLUSTER")?,
        })
    }
}

/// `protocol`: `resp2` or `resp3`.
fn url(port: u16, protocol: &str) -> String {
    format!("redis://127.0.0.1:{port}/?protocol={protocol}")
}

#[track_caller]
fn equal<T: PartialEq + Debug>(found: T, expected: T) -> Checked {
    if found == expected {
        return Ok(());
    }
    Err(format!("{}: found {found:?}, expected {expected:?}", std::panic::Location::caller()).into())
}

#[tokio::main]
async fn main() -> ExitCode {
    let failed = match Doors::of_environment() {
        Ok(doors) if std::env::args().any(|argument| argument == "counters") => counters::count(doors).await.err(),
        Ok(doors) => check(doors).await.err(),
        Err(error) => Some(error),
    };
    match failed {
        None => ExitCode::SUCCESS,
        Some(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn check(doors: Doors) -> Checked {
    let began = Instant::now();
    for protocol in ["resp2", "resp3"] {
        redis_crate::single(doors, protocol)?;
        redis_crate::single_async(doors, protocol).await?;
        redis_crate::cluster(doors, protocol)?;
        redis_crate::cluster_async(doors, protocol).await?;
    }
    println!("redis_crate: {:.1} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    for version in [fred::types::RespVersion::RESP2, fred::types::RespVersion::RESP3] {
        fred_crate::single(doors, version.clone()).await?;
        fred_crate::cluster(doors, version).await?;
    }
    println!("fred_crate: {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
