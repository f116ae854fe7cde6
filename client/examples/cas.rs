//! Compare and set: many tasks add to one list, none overwrites another.
//!
//! `cargo run -p kvorum-client --example cas`, with a cluster such as that of `kvorum dev`.

use kvorum_client::{Client, ConditionalResult, Error, URL_DEFAULT};

const KEY: &str = "example:guests";

/// Adds a name. Whoever was overtaken reads again and tries again.
async fn add(client: &Client, name: &str) -> Result<u32, Error> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let result = match client.get(KEY).await? {
            Some(entry) => {
                let names = format!("{},{name}", String::from_utf8_lossy(&entry.value));
                client.put(KEY, names).if_version(entry.version).await?
            }
            None => client.put(KEY, name.to_owned()).if_absent().await?,
        };
        match result {
            ConditionalResult::Applied(_) => return Ok(attempts),
            ConditionalResult::NotApplied(now) => eprintln!("{name}: overtaken by version {}", now.version),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("KVORUM_URL").unwrap_or_else(|_| URL_DEFAULT.to_owned());
    let client = Client::connect(&url).await?;
    client.delete(KEY).await?;
    let tasks: Vec<_> = ["ann", "bob", "cleo", "dan"]
        .into_iter()
        .map(|name| {
            let client = client.clone();
            tokio::spawn(async move { add(&client, name).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics")?;
    }
    let list = client.get(KEY).await?.map(|entry| entry.value).unwrap_or_default();
    let mut guests: Vec<_> = std::str::from_utf8(&list).expect("names are text").split(',').collect();
    guests.sort_unstable();
    println!("guests: {}", guests.join(" "));
    Ok(())
}
