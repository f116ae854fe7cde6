//! What to do about an error: its outcome says what became of the write, and its sources say why.
//!
//! `cargo run -p kvorum-client --example retry_errors`, with a cluster such as that of `kvorum dev`.

use kvorum_client::{Client, Error, ErrorCode, Outcome, RetryPolicy, URL_DEFAULT, WriteOp};
use std::time::Duration;

/// What a program may do about a write that failed.
fn advice(op: &WriteOp, error: &Error) -> &'static str {
    match error.outcome() {
        Outcome::Applied => "it took effect, there is nothing to do",
        Outcome::NotApplied if error.is_retryable() => "nothing was changed, try again later",
        Outcome::NotApplied => "nothing was changed, and trying again won't help",
        Outcome::Unknown if op.is_idempotent() => "it may have taken effect, writing it again does no harm",
        Outcome::Unknown => "it may have taken effect: read before you write again",
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("KVORUM_URL").unwrap_or_else(|_| URL_DEFAULT.to_owned());
    // Impatient: an attempt that takes longer than a quarter of a second goes to another node.
    let policy = RetryPolicy::default().with_attempt_timeout(Duration::from_millis(250));
    let client = Client::builder().url(&url).retry_policy(policy).deadline(Duration::from_secs(2)).connect().await?;

    client.put("example:text", "not a number").await?;
    let op = WriteOp::incr("example:text", 1);
    match client.write(op.clone()).await {
        Err(error) if error.code() == ErrorCode::NotAnInteger => println!("{}: {}", error.code(), advice(&op, &error)),
        other => println!("unexpected: {other:?}"),
    }
    client.delete("example:text").await?;

    // Nobody listens there. The chain of sources ends with what the system says.
    let nobody = Client::builder().seeds(["127.0.0.1:1"]).connect().await;
    let error = nobody.expect_err("port 1 is closed");
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    println!("retryable: {}, cause: {kind:?}", error.is_retryable());
    println!("{}", error.report());
    Ok(())
}
