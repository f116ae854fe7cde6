//! Requests to a node's HTTP door: their targets are sent as they are.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// An answer.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpAnswer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// A connection that stays open between requests.
pub(crate) struct HttpConnection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl HttpConnection {
    /// Connects.
    ///
    /// # Errors
    /// The node can't be reached.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        Ok(Self { address, sender, driver: tokio::spawn(connection) })
    }

    /// Sends a request. Headers are `name: value`.
    ///
    /// # Errors
    /// The node breaks off.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: impl Into<Bytes>,
    ) -> Result<HttpAnswer, String> {
        let mut request = http::Request::builder().method(method).uri(target).header("host", self.address.to_string());
        for header in headers {
            let (name, value) = header.split_once(": ").expect("a header is `name: value`");
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(HttpAnswer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Sends one request on a connection of its own. Headers are `name: value`.
///
/// # Errors
/// The node can't be reached, or breaks off.
pub(crate) async fn try_request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
    body: impl Into<Bytes>,
) -> Result<HttpAnswer, String> {
    HttpConnection::open(address).await?.request(method, target, headers, body).await
}

/// [`try_request`] to a node that must answer.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
    body: impl Into<Bytes>,
) -> HttpAnswer {
    let answer = try_request(address, method, target, headers, body).await;
    answer.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}
