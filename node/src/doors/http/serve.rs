//! Connections of the HTTP door.

use super::limits::{
    HEAD_BYTES_MAX, HEADERS_MAX, RESETS_MAX, RESETS_PENDING_MAX, SEND_BUFFER_BYTES, STREAMS_MAX, TAKES_WITHIN,
};
use super::outflow::Held;
use super::problem::{NOT_PERMITTED, Problem, TOO_MANY_CONNECTIONS, URI_TOO_LONG};
use super::request::From;
use super::slow::{Answering, Guarded, Phase};
use super::whose::Whose;
use super::{Api, fast, routes};
use crate::doors::accepting::{accept, turn_away};
use crate::doors::places::Places;
use crate::doors::tls::{Arrived, CameIn, DoorTls, arrive};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, HOST, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use kvorum_core::limits::{DRAIN_ANSWERS, DRAIN_TIMEOUT};
use kvorum_core::measure::meter::Door;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::debug;

/// Bytes of a request's target.
const TARGET_BYTES_MAX: usize = 65_534;

/// What the connections of the door share.
pub struct HttpDoor {
    api: Arc<Api>,
    routes: axum::Router,
    places: Arc<Places>,
    /// Unless it is plain.
    tls: Option<DoorTls>,
    builder: Builder<TokioExecutor>,
    numbers: AtomicU64,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl HttpDoor {
    /// A door to `api`. It takes no more connections when `drain` is cancelled, and asks those that are there to leave; it closes when
    /// `stop` is.
    pub fn new(
        api: Arc<Api>,
        places: Arc<Places>,
        tls: Option<DoorTls>,
        drain: CancellationToken,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // The socket's own deadlines are finer: see `slow`.
            .header_read_timeout(None)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(Some(TAKES_WITHIN))
            .keep_alive_timeout(TAKES_WITHIN);
        Arc::new(Self {
            routes: routes(Arc::clone(&api)),
            api,
            places,
            tls,
            builder,
            numbers: AtomicU64::new(0),
            drain,
            stop,
        })
    }

    /// Accepts connections until the door is told to stop.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        accept(listener, &self.drain, |stream, from| self.admit(stream, from)).await;
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let door = Arc::clone(self);
        let Some(place) = self.places.take(Door::Http, from.ip()) else {
            tokio::spawn(async move { door.refuse(stream, from).await });
            return;
        };
        tokio::spawn(async move {
            if let Some(arrived) = arrive(door.tls.as_ref(), stream, came_in(from)).await {
                door.serve(arrived, from).await;
            }
            drop(place);
        });
    }

    /// Tells a client that there are too many, and closes.
    async fn refuse(&self, stream: TcpStream, from: SocketAddr) {
        let detail = format!("the node has {} connections, as many as it accepts", self.places.max());
        let body = serde_json::to_string(&Problem::new(&TOO_MANY_CONNECTIONS, detail).body()).unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: \
             close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        turn_away(self.tls.as_ref(), stream, came_in(from), answer.as_bytes(), self.places.to_linger()).await;
    }

    async fn serve(self: &Arc<Self>, arrived: Arrived, from: SocketAddr) {
        let Arrived { stream, certificate } = arrived;
        if let Err(error) = stream.socket().set_nodelay(true) {
            debug!(%from, %error, "closed a connection");
            return;
        }
        let phase = Phase::new();
        let connection = self.numbers.fetch_add(1, Ordering::Relaxed);
        let certificate = certificate.map(Arc::new);
        let opened = From { connection, address: from.ip(), certificate: certificate.clone() };
        let service = {
            let (door, phase) = (Arc::clone(self), Arc::clone(&phase));
            hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let answering = phase.begin(request.version() == http::Version::HTTP_2);
                answer(Arc::clone(&door), opened.clone(), answering, request)
            })
        };
        let counts = Arc::clone(self.api.inspector.doors());
        let io = TokioIo::new(Guarded::new(stream, Arc::clone(&phase), counts));
        let mut served = pin!(self.builder.serve_connection(io, service));
        let mut leaves_within = None;
        let mut steps = [DRAIN_TIMEOUT, DRAIN_ANSWERS].into_iter();
        let mut rights = self.api.logins.changes();
        loop {
            tokio::select! {
                ended = &mut served => {
                    if let Err(error) = ended {
                        debug!(%from, %error, "closed a connection");
                    }
                    return;
                }
                () = self.drain.cancelled(), if leaves_within.is_none() => phase.leave(),
                () = tokio::time::sleep(leaves_within.unwrap_or_default()), if leaves_within.is_some() => {}
                () = self.stop.cancelled() => return,
                // Each request is looked at by itself. A connection ends with its certificate.
                changed = rights.changed(), if certificate.is_some() => {
                    let may_stay = certificate.as_ref().is_none_or(|shown| self.api.logins.takes(shown));
                    if changed.is_err() || !may_stay {
                        return;
                    }
                    continue;
                }
            }
            // HTTP/2 says at once which requests it takes. A client of HTTP/1.1 hears with its next answer that it is the last one: if
            // a connection was closed while it waits for a request, one that is on its way would be lost, and nobody could tell
            // whether it was done.
            if leaves_within.is_some() || phase.is_multiplexed() {
                served.as_mut().graceful_shutdown();
            }
            leaves_within = steps.next();
            if leaves_within.is_none() {
                return;
            }
        }
    }
}

/// What a client hears that does not speak TLS.
const TO_PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    this door speaks TLS only: https:// instead of http://\n";

fn came_in(from: SocketAddr) -> CameIn<'static> {
    CameIn { door: Door::Http, from, to_plain: TO_PLAIN }
}

async fn answer(
    door: Arc<HttpDoor>,
    from: From,
    answering: Answering,
    request: http::Request<Incoming>,
) -> Result<http::Response<Answer>, Infallible> {
    let is_by_script = is_by_script(&request);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let response: Response = if target > TARGET_BYTES_MAX {
        Problem::new(&URI_TOO_LONG, format!("the address has {target} bytes, the limit is {TARGET_BYTES_MAX}"))
            .into_response()
    } else if is_from_another_site(&request) {
        Problem::new(&NOT_PERMITTED, "pages of other sites may not change anything here").into_response()
    } else {
        // Not in place: a connection keeps the room for its longest request.
        Box::pin(answer_somebody(&door, from, request)).await
    };
    let mut response = response;
    if is_by_script && response.status() == StatusCode::UNAUTHORIZED {
        // A browser would ask for a password by itself, in front of the page that does.
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kvorum\""));
    }
    let headers = response.headers_mut();
    if answering.is_last() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // Values are somebody's bytes: no browser is to guess what they are.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let held = response.extensions_mut().remove::<Held>();
    Ok(response.map(|body| Answer { body, _answering: answering, held }))
}

/// Answers whoever has the right to ask.
async fn answer_somebody(door: &HttpDoor, from: From, request: http::Request<Incoming>) -> Response {
    let whose = match Whose::read(&door.api, &from, request.headers()).await {
        Ok(whose) => whose,
        Err(problem) => return problem.into_response(),
    };
    if whose.is_by_cookie() && !request.method().is_safe() && !is_from_this_site(&request) {
        return Problem::new(&NOT_PERMITTED, "a login at the console counts for its own pages only").into_response();
    }
    if fast::takes(&request) {
        return fast::answer(&door.api, whose, request.uri(), request.headers()).await;
    }
    if let Err(problem) = whose.check(&door.api, request.method(), request.uri().path()) {
        return problem.into_response();
    }
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(from);
    request.extensions_mut().insert(whose);
    match door.routes.clone().oneshot(Request::from(request)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A browser sends this for a page of another site, which must not write here with the rights of whoever looks at it. Programs do not
/// send the header.
fn is_from_another_site<B>(request: &http::Request<B>) -> bool {
    let site = request.headers().get("sec-fetch-site");
    !request.method().is_safe() && site.is_some_and(|site| site != "same-origin" && site != "none")
}

/// Whether a browser says that a page of this very address has made a request. Who shows a cookie is a browser, and says so; old ones send
/// `Origin` alone.
fn is_from_this_site<B>(request: &http::Request<B>) -> bool {
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| headers.get(HOST)?.to_str().ok());
    let origin =
        headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()).and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Whether a browser says that a script asks, and not whoever looks at the page.
fn is_by_script<B>(request: &http::Request<B>) -> bool {
    request.headers().get("sec-fetch-dest").is_some_and(|dest| dest == "empty")
}

/// The body of an answer. The request is answered once it has left.
struct Answer {
    body: Body,
    _answering: Answering,
    held: Option<Held>,
}

impl http_body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &self.held {
            Some(held) => polled.map_ok(|frame| frame.map_data(|data| held.attach(data))),
            None => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> http::Request<()> {
        let request = http::Request::post("/kv").header("host", "Node-1:7420");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).expect("a request")
    }

    #[test]
    fn a_login_counts_for_pages_of_this_address() {
        for (headers, counts) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "http://node-1:7420")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://node-1:7420")], true),
            (&[("origin", "https://node-1")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[], false),
        ] {
            assert_eq!(is_from_this_site(&request(headers)), counts, "{headers:?}");
        }
    }
}
