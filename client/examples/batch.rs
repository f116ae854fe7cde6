//! Many independent writes at once, and many reads: a result for each.
//!
//! `cargo run -p kvorum-client --example batch`, with a cluster such as that of `kvorum dev`.

use kvorum_client::{Client, Error, URL_DEFAULT, WriteOp};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("KVORUM_URL").unwrap_or_else(|_| URL_DEFAULT.to_owned());
    let client = Client::connect(&url).await?;
    let keys: Vec<_> = (0..100).map(|number| format!("example:batch:{number}")).collect();

    let mut batch = client.batch();
    batch.extend(keys.iter().map(|key| WriteOp::put(key, "value")));
    // This one fails, and the others do not mind.
    batch.push(WriteOp::incr(&keys[0], 1));
    let results = batch.await;
    let written = results.iter().filter(|result| result.is_ok()).count();
    println!("written: {written} of {}", results.len());
    if let Some(error) = results.into_iter().find_map(Result::err) {
        println!("the other one: {}", error.code());
    }

    let mut found = 0;
    for result in client.get_many(&keys).await {
        found += u32::from(result?.is_some());
    }
    println!("found: {found}");

    let mut cleanup = client.batch();
    cleanup.extend(keys.iter().map(WriteOp::delete));
    for result in cleanup.await {
        result?;
    }
    Ok(())
}
