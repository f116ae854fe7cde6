//! A service that shares one client among all its connections, and stops in order. It speaks lines: `HIT page` counts a
//! visit and answers the new number, `TOP page` answers it.
//!
//! `cargo run -p kvorum-client --example service`, with a cluster such as that of `kvorum dev`. It calls itself twice.

use kvorum_client::{Client, Error, URL_DEFAULT};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

async fn answer(client: &Client, line: &str) -> Result<String, Error> {
    match line.split_once(' ') {
        Some(("HIT", page)) => Ok(client.incr(format!("example:hits:{page}"), 1).await?.to_string()),
        Some(("TOP", page)) => {
            let entry = client.get(format!("example:hits:{page}")).await?;
            Ok(entry.map_or_else(|| "0".to_owned(), |entry| String::from_utf8_lossy(&entry.value).into_owned()))
        }
        _ => Ok("HIT page, or TOP page".to_owned()),
    }
}

async fn serve(client: Client, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        // All that one call does has this long.
        let within = client.within(Duration::from_secs(1));
        let answer = match answer(&within, line.trim_end()).await {
            Ok(answer) => answer,
            Err(error) if error.is_retryable() => "try again later".to_owned(),
            Err(error) => error.report(),
        };
        stream.write_all(format!("{answer}\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

async fn call(address: std::net::SocketAddr, line: &str) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    Ok(answer.trim_end().to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("KVORUM_URL").unwrap_or_else(|_| URL_DEFAULT.to_owned());
    let client = Client::connect(&url).await?;
    client.delete("example:hits:home").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = tokio::spawn({
        let client = client.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(client.clone(), stream));
            }
        }
    });
    println!("HIT home: {}", call(address, "HIT home").await?);
    println!("TOP home: {}", call(address, "TOP home").await?);
    service.abort();
    println!("all had ended: {}", client.close(Duration::from_secs(1)).await);
    Ok(())
}
