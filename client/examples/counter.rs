//! A counter that many tasks add to at once, and a limit that it does not pass.
//!
//! `cargo run -p kvorum-client --example counter`, with a cluster such as that of `kvorum dev`.

use kvorum_client::{AtomicResult, Client, Condition, Error, URL_DEFAULT};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("KVORUM_URL").unwrap_or_else(|_| URL_DEFAULT.to_owned());
    let client = Client::connect(&url).await?;
    client.delete("{example}.visits").await?;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.incr("{example}.visits", 1).await })
        })
        .collect();
    let mut highest = 0;
    for task in tasks {
        highest = highest.max(task.await.expect("no task panics")?);
    }
    println!("visits: {highest}");

    // The braces keep both keys in one shard, so that they change together or not at all.
    client.put("{example}.open", "yes").await?;
    let visit = || client.atomic("example").check("{example}.open", Condition::IfPresent).incr("{example}.visits", 1);
    if let AtomicResult::Applied(results) = visit().await? {
        println!("visits: {}", results[0].number.unwrap_or_default());
    }
    client.delete("{example}.open").await?;
    match visit().await? {
        AtomicResult::Applied(_) => println!("it should be closed"),
        AtomicResult::ConditionFailed { position, .. } => println!("closed: check {position} does not hold"),
    }
    Ok(())
}
