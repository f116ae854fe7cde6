//! The crate `fred`, at both doors.

use crate::{Checked, Doors, equal};
use fred::prelude::*;
use fred::types::RespVersion;
use futures_util::TryStreamExt as _;
use std::collections::BTreeSet;
use std::time::Duration;

/// Keys of a check that takes many.
const MANY: i64 = 100;
/// What a command is given.
const WITHIN: Duration = Duration::from_secs(10);

/// A client of the door at a port, which connects again whenever it must.
pub(crate) async fn connected(port: u16, is_cluster: bool, version: RespVersion) -> Result<Client, Error> {
    let host = "127.0.0.1";
    let server = if is_cluster {
        ServerConfig::new_clustered([(host, port)].into())
    } else {
        ServerConfig::new_centralized(host, port)
    };
    let client = Builder::from_config(Config { server, version, ..Config::default() })
        .with_performance_config(|config| config.default_command_timeout = WITHIN)
        .set_policy(ReconnectPolicy::new_constant(0, 100))
        .build()?;
    client.init().await?;
    Ok(client)
}

async fn strings(client: &Client, key: &str) -> Checked {
    let _: () = client.del(key).await?;
    equal(client.get::<Option<String>, _>(key).await?, None)?;
    equal(client.set::<String, _, _>(key, 41, None, None, false).await?, "OK".to_owned())?;
    equal(client.incr_by::<i64, _>(key, 1).await?, 42)?;
    let unchanged = client.set::<Option<String>, _, _>(key, "x", None, Some(SetOptions::NX), false).await?;
    equal(unchanged, None)?;
    equal(client.append::<i64, _, _>(key, "!").await?, 3)?;
    equal(client.expire::<bool, _>(key, 100, None).await?, true)?;
    equal(client.ttl::<i64, _>(key).await? > 90, true)?;
    equal(client.persist::<bool, _>(key).await?, true)?;
    equal(client.getdel::<String, _>(key).await?, "42!".to_owned())?;
    let old = client.set::<Option<String>, _, _>(key, "a", Some(Expiration::PX(60_000)), None, true).await?;
    equal(old, None)?;
    equal(client.incr_by_float::<f64, _>(format!("{key}:f"), 0.5).await?, 0.5)?;
    equal(client.del::<i64, _>(key).await? + client.del::<i64, _>(format!("{key}:f")).await?, 2)?;
    let (a, b) = (format!("{{{key}}}:a"), format!("{{{key}}}:b"));
    let transaction = client.multi();
    let _: () = transaction.set(&a, 1, None, None, false).await?;
    let _: () = transaction.incr(&a).await?;
    let _: () = transaction.get(&a).await?;
    let _: () = transaction.set(&b, "text", None, None, false).await?;
    let replies: (String, i64, String, String) = transaction.exec(true).await?;
    equal(replies, ("OK".to_owned(), 2, "2".to_owned(), "OK".to_owned()))?;
    equal(client.mget::<(i64, String), _>(vec![a.clone(), b.clone()]).await?, (2, "text".to_owned()))?;
    equal(client.del::<i64, _>(vec![a, b]).await?, 2)
}

async fn pipelined(client: &Client, keys: &[String]) -> Checked {
    let pipeline = client.pipeline();
    for (key, number) in keys.iter().zip(0..) {
        let _: () = pipeline.set(key, number, None, None, false).await?;
        let _: () = pipeline.incr(key).await?;
    }
    let replies: Vec<Value> = pipeline.all().await?;
    let numbers: Vec<i64> = replies.iter().skip(1).step_by(2).filter_map(Value::as_i64).collect();
    equal(numbers, (1..=MANY).collect())
}

/// At the standalone door.
pub(crate) async fn single(doors: Doors, version: RespVersion) -> Checked {
    let prefix = format!("fred-{version:?}");
    let client = connected(doors.standalone, false, version).await?;
    strings(&client, &prefix).await?;
    let keys: Vec<String> = (0..MANY).map(|number| format!("{prefix}:{number}")).collect();
    pipelined(&client, &keys).await?;
    equal(client.mget::<Vec<i64>, _>(keys.clone()).await?, (1..=MANY).collect())?;
    let scanned = client.scan_buffered(format!("{prefix}:*"), Some(100), None);
    let found: BTreeSet<String> = scanned.map_ok(|key| key.as_str_lossy().into_owned()).try_collect().await?;
    equal(found, keys.iter().cloned().collect())?;
    equal(client.del::<i64, _>(keys).await?, MANY)?;
    client.quit().await?;
    Ok(())
}

/// At the cluster door.
pub(crate) async fn cluster(doors: Doors, version: RespVersion) -> Checked {
    let prefix = format!("fred-cluster-{version:?}");
    let client = connected(doors.cluster, true, version).await?;
    strings(&client, &prefix).await?;
    let keys: Vec<String> = (0..MANY).map(|number| format!("{prefix}:{number}")).collect();
    pipelined(&client, &keys).await?;
    let scanned = client.scan_cluster_buffered(format!("{prefix}:*"), Some(100), None);
    let found: BTreeSet<String> = scanned.map_ok(|key| key.as_str_lossy().into_owned()).try_collect().await?;
    equal(found, keys.iter().cloned().collect())?;
    for (key, number) in keys.iter().zip(1..) {
        equal(client.getdel::<i64, _>(key).await?, number)?;
    }
    client.quit().await?;
    Ok(())
}
