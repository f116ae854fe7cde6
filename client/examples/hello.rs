//! Puts a value that expires, and reads it back.
//!
//! `cargo run -p kvorum-client --example hello`, with a cluster such as that of `kvorum dev`.

use kvorum_client::{Client, Error, URL_DEFAULT};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("KVORUM_URL").unwrap_or_else(|_| URL_DEFAULT.to_owned());
    let client = Client::connect(&url).await?;
    client.put("example:greeting", "hello").ttl(Duration::from_secs(60)).await?;
    match client.get("example:greeting").await? {
        Some(entry) => println!("{}", String::from_utf8_lossy(&entry.value)),
        None => println!("it has expired already"),
    }
    client.delete("example:greeting").await?;
    println!("deleted: {}", client.get("example:greeting").await?.is_none());
    client.close(Duration::from_secs(1)).await;
    Ok(())
}
