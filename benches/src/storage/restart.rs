//! How long one node with many keys takes to answer again.

use super::nodes::{Nodes, Shape};
use super::options::{Place, RestartOptions};
use super::redis::{Persistence, Redis};
use super::watch::{anonymous_bytes, disk_bytes, forget_cached, remove_named};
use super::{KEY_BYTES, StorageError, Table, fill, plan, spread};
use crate::control::Control;
use crate::keys::KeySpace;
use crate::options::Plan;
use crate::run::Progress;
use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::time::{Duration, Instant};

/// The pause between two attempts to be answered.
const RETRY_PAUSE: Duration = Duration::from_millis(2);
/// How long keys are overwritten before the node is killed.
const LOAD_BEFORE_KILL: Duration = Duration::from_secs(3);
/// The first port of Redis, from the base port.
const REDIS_PORT_OFFSET: u16 = 50;

/// How the node went down, and what is left of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fall {
    Clean,
    CleanAndCold,
    WithoutHints,
    Killed,
}

/// What starts of one kind took.
#[derive(Default)]
struct Times {
    stop: Vec<f64>,
    first: Vec<f64>,
    all: Vec<f64>,
    memory: Vec<f64>,
}

pub(super) fn measure(
    place: &Place,
    options: &RestartOptions,
    progress: &mut dyn FnMut(String),
) -> Result<Table, StorageError> {
    let RestartOptions { keys, value_size, shards, rounds, .. } = *options;
    let title = format!("restart of one node: {keys} keys of {KEY_BYTES} B, values of {value_size} B, {shards} shards");
    let head = [
        "start after",
        "stop, s",
        "first GET, s",
        "every shard, s",
        "anonymous memory per key, B",
        "of that beyond key and value, B",
        "files, MiB",
    ];
    let mut table = Table::new(title, &head);
    measure_kvorum(place, options, &mut table, progress)?;
    if let Some(redis) = &options.redis {
        let dir = place.dir.clone().unwrap_or_else(std::env::temp_dir);
        for persistence in [Persistence::Rdb, Persistence::Aof] {
            let port = place.base_port + REDIS_PORT_OFFSET;
            let server = Redis::new(redis, &dir, port, persistence)?;
            measure_redis(server, options, &mut table, progress)?;
        }
    }
    table.notes.push(format!(
        "Medians of {rounds} starts (lowest–highest). Kvorum's values are in mapped files, so none of its memory is theirs."
    ));
    Ok(table)
}

fn measure_kvorum(
    place: &Place,
    options: &RestartOptions,
    table: &mut Table,
    progress: &mut dyn FnMut(String),
) -> Result<(), StorageError> {
    let RestartOptions { keys, value_size, shards, rounds, .. } = *options;
    let mut nodes =
        Nodes::start_new(place, &Shape { nodes: 1, shards, port_offset: 0, environment: &[], secure: false })?;
    let empty = anonymous_bytes(nodes.process(1));
    let began = Instant::now();
    fill(&nodes.addresses(), keys, value_size)?;
    let loaded = began.elapsed().as_secs_f64();
    progress(format!("loaded in {loaded:.0} s"));
    let per_key = |bytes: u64| bytes as f64 / f64::from(keys);
    let after_load = per_key(anonymous_bytes(nodes.process(1)));
    table.notes.push(format!(
        "Loading took Kvorum {loaded:.0} s; its memory was {:.0} MiB empty, and {after_load:.1} B per key right after loading.",
        empty as f64 / f64::from(1 << 20),
    ));
    let space = KeySpace::new(keys, KEY_BYTES, shards);
    let mut random = StdRng::seed_from_u64(1);
    for fall in [Fall::Clean, Fall::CleanAndCold, Fall::WithoutHints, Fall::Killed] {
        let mut times = Times::default();
        for _ in 0..rounds {
            go_down(&mut nodes, options, fall, &mut times)?;
            come_back(&mut nodes, &space, &mut random, &mut times)?;
            times.memory.push(per_key(anonymous_bytes(nodes.process(1))));
            progress(format!("{fall:?}: first {:?}, all {:?}", times.first.last(), times.all.last()));
        }
        let name = match fall {
            Fall::Clean => "Kvorum: a clean stop",
            Fall::CleanAndCold => "Kvorum: a clean stop, page cache cold",
            Fall::WithoutHints => "Kvorum: a clean stop, hints removed",
            Fall::Killed => "Kvorum: kill -9 under load",
        };
        let files = disk_bytes(&nodes.data_dir(1)) as f64 / f64::from(1 << 20);
        table.row(vec![
            name.into(),
            spread(&times.stop, 2),
            spread(&times.first, 2),
            spread(&times.all, 2),
            spread(&times.memory, 1),
            spread(&times.memory, 1),
            format!("{files:.0}"),
        ]);
    }
    Ok(())
}

fn go_down(nodes: &mut Nodes, options: &RestartOptions, fall: Fall, times: &mut Times) -> Result<(), StorageError> {
    if fall == Fall::Killed {
        let load = plan(&nodes.addresses(), options.keys, options.value_size);
        crate::run(&Plan { duration: LOAD_BEFORE_KILL, ..load }, |_: Progress| {})?;
        nodes.kill(1);
        return Ok(());
    }
    times.stop.push(nodes.stop(1)?.as_secs_f64());
    let data = nodes.data_dir(1);
    match fall {
        Fall::WithoutHints => {
            let removed = remove_hints(&data)?;
            if removed == 0 {
                return Err(StorageError::Wrong("a clean stop left no hint".to_owned()));
            }
        }
        Fall::CleanAndCold => forget_cached(&data).map_err(StorageError::system("dropping cached pages"))?,
        Fall::Clean | Fall::Killed => {}
    }
    Ok(())
}

fn remove_hints(data: &Path) -> Result<usize, StorageError> {
    remove_named(data, "hint").map_err(StorageError::system("removing hints"))
}

/// Starts the node; notes when a random key was read, and when one of each shard was.
fn come_back(nodes: &mut Nodes, space: &KeySpace, random: &mut StdRng, times: &mut Times) -> Result<(), StorageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StorageError::system("a runtime"))?;
    let began = Instant::now();
    nodes.start(1)?;
    let any = random.random_range(0..space.count());
    let of_shards = (0..space.shards()).filter_map(|shard| {
        let positions = space.positions_of(shard);
        (!positions.is_empty()).then(|| space.key_at(random.random_range(positions)))
    });
    let wanted: Vec<u32> = std::iter::once(any).chain(of_shards).collect();
    runtime.block_on(async {
        let mut control = Control::new(nodes.addresses());
        let mut scratch = BytesMut::new();
        for (position, &key) in wanted.iter().enumerate() {
            loop {
                match control.get(space.bytes_of(key, &mut scratch)).await {
                    Ok(Some(_)) => break,
                    Ok(None) => return Err(StorageError::Wrong(format!("key {key} is gone after a restart"))),
                    Err(_) => nodes.check(began, "the node answers")?,
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            if position == 0 {
                times.first.push(began.elapsed().as_secs_f64());
            }
        }
        times.all.push(began.elapsed().as_secs_f64());
        Ok(())
    })
}

fn measure_redis(
    mut redis: Redis,
    options: &RestartOptions,
    table: &mut Table,
    progress: &mut dyn FnMut(String),
) -> Result<(), StorageError> {
    let RestartOptions { keys, value_size, rounds, .. } = *options;
    redis.start(0, true)?;
    let began = Instant::now();
    redis.fill(keys, value_size)?;
    progress(format!("Redis loaded in {:.0} s", began.elapsed().as_secs_f64()));
    for is_cold in [false, true] {
        let mut times = Times::default();
        for _ in 0..rounds {
            times.stop.push(redis.stop()?.as_secs_f64());
            if is_cold {
                redis.forget_cached()?;
            }
            times.first.push(redis.start(keys / 2, false)?.as_secs_f64());
            times.memory.push(redis.anonymous_bytes() as f64 / f64::from(keys));
        }
        let beyond: Vec<f64> = times.memory.iter().map(|bytes| bytes - (KEY_BYTES + value_size) as f64).collect();
        let name = format!("Redis, {}{}", redis.kind(), if is_cold { ", page cache cold" } else { "" });
        table.row(vec![
            name,
            spread(&times.stop, 2),
            spread(&times.first, 2),
            "—".into(),
            spread(&times.memory, 1),
            spread(&beyond, 1),
            format!("{:.0}", redis.disk_bytes() as f64 / f64::from(1 << 20)),
        ]);
    }
    Ok(())
}
