//! The crate `redis`: its blocking and its asynchronous client, at both doors.

use crate::{Checked, Doors, equal, url};
use redis::cluster::{ClusterClient, cluster_pipe};
use redis::{AsyncCommands, AsyncIter, Client, Commands, Connection, pipe, transaction};
use std::collections::BTreeSet;

/// Keys of a check that takes many.
const MANY: i64 = 100;

fn client_of_slots(doors: Doors, protocol: &str) -> redis::RedisResult<ClusterClient> {
    ClusterClient::new([url(doors.cluster, protocol)])
}

/// What a blocking connection does at either door.
fn strings(connection: &mut impl Commands, key: &str) -> Checked {
    let _: () = connection.del(key)?;
    equal(connection.get::<_, Option<String>>(key)?, None)?;
    equal(connection.set::<_, _, String>(key, 41)?, "OK".to_owned())?;
    equal(connection.incr::<_, _, i64>(key, 1)?, 42)?;
    equal(connection.append::<_, _, i64>(key, "!")?, 3)?;
    equal(connection.getrange::<_, String>(key, 0, 1)?, "42".to_owned())?;
    equal(connection.set_nx::<_, _, bool>(key, 1)?, false)?;
    equal(connection.expire::<_, bool>(key, 100)?, true)?;
    equal(connection.ttl::<_, i64>(key)? > 90, true)?;
    equal(connection.persist::<_, bool>(key)?, true)?;
    equal(connection.get_del::<_, String>(key)?, "42!".to_owned())?;
    let binary: Vec<u8> = (0..1_000_000_u32).map(|at| at as u8).collect();
    let _: () = connection.set(key, &binary)?;
    equal(connection.get::<_, Vec<u8>>(key)? == binary, true)?;
    equal(connection.del::<_, i64>(key)?, 1)
}

/// The blocking client at the standalone door.
pub(crate) fn single(doors: Doors, protocol: &str) -> Checked {
    let mut connection = Client::open(url(doors.standalone, protocol))?.get_connection()?;
    let prefix = format!("redis-{protocol}");
    strings(&mut connection, &prefix)?;
    let keys: Vec<String> = (0..MANY).map(|number| format!("{prefix}:{number}")).collect();
    let pairs: Vec<(&String, i64)> = keys.iter().zip(0..).collect();
    let _: () = connection.mset(&pairs)?;
    equal(connection.mget::<_, Vec<i64>>(&keys)?, (0..MANY).collect())?;
    let mut pipeline = pipe();
    for key in &keys {
        pipeline.incr(key, 1);
    }
    equal(pipeline.query::<Vec<i64>>(&mut connection)?, (1..=MANY).collect())?;
    let found = connection.scan_match::<_, String>(format!("{prefix}:*"))?.collect::<Result<BTreeSet<_>, _>>()?;
    equal(found, keys.iter().cloned().collect())?;
    equal(connection.del::<_, i64>(&keys)?, MANY)?;
    watched(&mut connection, doors, &prefix)?;
    // What one node has acknowledged, another one knows.
    let mut other = Client::open(url(doors.other, protocol))?.get_connection()?;
    for number in 0..100 {
        let _: () = connection.set(&prefix, number)?;
        equal(other.get::<_, i64>(&prefix)?, number)?;
    }
    Ok(())
}

/// MULTI with WATCH, which is tried again when somebody else has written.
fn watched(connection: &mut Connection, doors: Doors, prefix: &str) -> Checked {
    let (counter, total) = (format!("{{{prefix}}}:counter"), format!("{{{prefix}}}:total"));
    let mut rival = Client::open(url(doors.other, "resp2"))?.get_connection()?;
    let _: () = connection.set(&counter, 1)?;
    let mut tries = 0;
    let replies: (i64, i64) = transaction(connection, &[&counter], |connection, pipeline| {
        let before: i64 = connection.get(&counter)?;
        tries += 1;
        if tries == 1 {
            let _: () = rival.set(&counter, 10)?;
        }
        pipeline.set(&counter, before + 1).ignore().get(&counter).incr(&total, before).query(connection)
    })?;
    equal((tries, replies), (2, (11, 10)))?;
    equal(connection.del::<_, i64>(&[counter, total])?, 2)
}

/// The asynchronous client at the standalone door.
pub(crate) async fn single_async(doors: Doors, protocol: &str) -> Checked {
    let client = Client::open(url(doors.standalone, protocol))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let prefix = format!("redis-async-{protocol}");
    let set = |number: i64| {
        let (mut connection, key) = (connection.clone(), format!("{prefix}:{number}"));
        async move { connection.set::<_, _, ()>(key, number).await }
    };
    futures_util::future::try_join_all((0..MANY).map(set)).await?;
    let keys: Vec<String> = (0..MANY).map(|number| format!("{prefix}:{number}")).collect();
    equal(connection.mget::<_, Vec<i64>>(&keys).await?, (0..MANY).collect())?;
    let mut found = BTreeSet::new();
    let mut scanned: AsyncIter<'_, String> = connection.scan_match(format!("{prefix}:*")).await?;
    while let Some(key) = scanned.next_item().await {
        found.insert(key?);
    }
    drop(scanned);
    equal(found, keys.iter().cloned().collect())?;
    let (a, b) = (format!("{{{prefix}}}:a"), format!("{{{prefix}}}:b"));
    let replies: (String, i64, i64) =
        pipe().atomic().set(&a, 1).incr(&a, 1).del(&[&a, &b]).query_async(&mut connection).await?;
    equal(replies, ("OK".to_owned(), 2, 1))?;
    equal(connection.del::<_, i64>(&keys).await?, MANY)
}

/// The blocking client that follows slots.
pub(crate) fn cluster(doors: Doors, protocol: &str) -> Checked {
    let mut connection = client_of_slots(doors, protocol)?.get_connection()?;
    let prefix = format!("redis-cluster-{protocol}");
    strings(&mut connection, &prefix)?;
    let keys: Vec<String> = (0..MANY).map(|number| format!("{prefix}:{number}")).collect();
    let mut pipeline = cluster_pipe();
    for (key, number) in keys.iter().zip(0_i64..) {
        pipeline.set(key, number).ignore().incr(key, 1);
    }
    equal(pipeline.query::<Vec<i64>>(&mut connection)?, (1..=MANY).collect())?;
    equal(connection.mget::<_, Vec<i64>>(&keys)?, (1..=MANY).collect())?;
    equal(connection.del::<_, i64>(&keys)?, MANY)
}

/// The asynchronous client that follows slots.
pub(crate) async fn cluster_async(doors: Doors, protocol: &str) -> Checked {
    let mut connection = client_of_slots(doors, protocol)?.get_async_connection().await?;
    let prefix = format!("redis-cluster-async-{protocol}");
    let keys: Vec<String> = (0..MANY).map(|number| format!("{prefix}:{number}")).collect();
    for (key, number) in keys.iter().zip(0_i64..) {
        let _: () = connection.set_ex(key, number, 100).await?;
    }
    equal(connection.mget::<_, Vec<i64>>(&keys).await?, (0..MANY).collect())?;
    let a = format!("{{{prefix}}}:a");
    let replies: (String, i64) = pipe().atomic().set(&a, 1).incr(&a, 1).query_async(&mut connection).await?;
    equal(replies, ("OK".to_owned(), 2))?;
    equal(connection.del::<_, i64>(&a).await?, 1)?;
    equal(connection.del::<_, i64>(&keys).await?, MANY)
}
