//! Walks the keys with a prefix: entry by entry, and as a stream.
//!
//! `cargo run -p kvorum-client --example scan`, with a cluster such as that of `kvorum dev`.

use futures_util::TryStreamExt;
use kvorum_client::{Client, Error, URL_DEFAULT, WriteOp};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("KVORUM_URL").unwrap_or_else(|_| URL_DEFAULT.to_owned());
    let client = Client::connect(&url).await?;
    let mut batch = client.batch();
    batch.extend((0..20).map(|number| WriteOp::put(format!("example:scan:{number:02}"), "x".repeat(number))));
    for result in batch.await {
        result?;
    }

    let (mut entries, mut bytes) = (0, 0);
    let mut scan = client.scan("example:scan:").values(true).page(8);
    while let Some(entry) = scan.try_next().await? {
        entries += 1;
        bytes += entry.value.len();
    }
    println!("{entries} entries with {bytes} bytes of values");

    // As a stream it has all that libraries of streams offer.
    let late = client.scan("example:scan:").try_filter(|entry| std::future::ready(entry.key.ends_with(b"9")));
    let mut late: Vec<_> = late.map_ok(|entry| String::from_utf8_lossy(&entry.key).into_owned()).try_collect().await?;
    late.sort_unstable();
    println!("{}", late.join(" "));

    let mut cleanup = client.batch();
    cleanup
        .extend(client.scan("example:scan:").try_collect_all().await?.iter().map(|entry| WriteOp::delete(&entry.key)));
    for result in cleanup.await {
        result?;
    }
    Ok(())
}
