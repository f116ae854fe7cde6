//! Requests of the HTTP door, as they are counted.

use super::encode::{Labels, Metrics};
use crate::runtime::striped::Striped;
use http::{Method, StatusCode};
use kvorum_core::measure::{Count, Durations, DurationsSum};
use std::time::Instant;

/// The router's address of a key.
pub(in super::super) const KEY_ROUTE: &str = "/kv/{*key}";

/// Methods; those that are none of these are the last: a client must not make up series.
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "other"];

/// Endpoints, the most frequent first; what is none of these is the last.
const ENDPOINTS: [&str; 28] = [
    "/kv/{key}",
    "/kv",
    "/kv/{key}/incr",
    "/batch",
    "/atomic",
    "/mapping",
    "/nodes",
    "/heartbeat",
    "/rebalance",
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/cache/stats",
    "/problems/{code}",
    "/openapi.json",
    "/docs",
    "/docs/{file}",
    "/explain",
    "/slowlog",
    "/",
    "/console/{*file}",
    "/console/state",
    "/console/events",
    "/console/login",
    "/console/logout",
    "/console/log",
    "other",
];

/// Statuses; those that are none of these are the last.
const STATUSES: [u16; 30] = [
    200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 406, 408, 409, 410, 412, 413, 414, 415, 416, 417, 422, 429,
    431, 500, 501, 503, 504, 507, 0,
];

/// What one thread has counted.
#[derive(Debug)]
struct Table {
    cells: Box<[Cell]>,
    replayed: Count,
}

#[derive(Debug)]
struct Cell {
    durations: Durations,
    statuses: [Count; STATUSES.len()],
}

impl Default for Table {
    fn default() -> Self {
        let cell = |_| Cell { durations: Durations::default(), statuses: std::array::from_fn(|_| Count::default()) };
        let cells = (0..METHODS.len() * ENDPOINTS.len()).map(cell).collect();
        Self { cells, replayed: Count::default() }
    }
}

/// The requests of the door.
#[derive(Debug, Default)]
pub(in super::super) struct HttpRequests(Striped<Table>);

impl HttpRequests {
    /// A request to a route of the router, or to none, was answered.
    pub(in super::super) fn note(
        &self,
        method: &Method,
        route: Option<&str>,
        is_incr: bool,
        status: StatusCode,
        began: Instant,
    ) {
        let name = match route {
            Some(KEY_ROUTE) if is_incr => "/kv/{key}/incr",
            Some(KEY_ROUTE) => "/kv/{key}",
            Some(route) => route,
            None => "other",
        };
        let place = |all: &[&str], name: &str| all.iter().position(|known| *known == name).unwrap_or(all.len() - 1);
        let (endpoint, method) = (place(&ENDPOINTS, name), place(&METHODS, method.as_str()));
        let status = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let mine = self.0.mine();
        let cell = &mine.stripe.cells[endpoint * METHODS.len() + method];
        mine.note(&cell.durations, began.elapsed().as_nanos() as u64);
        mine.add(&cell.statuses[status], 1);
    }

    /// A write was given the answer to an earlier request with the same Idempotency-Key.
    pub(in super::super) fn note_replayed(&self) {
        let mine = self.0.mine();
        mine.add(&mine.stripe.replayed, 1);
    }

    /// As metrics.
    pub(super) fn add_to(&self, metrics: &mut Metrics) {
        let (mut requests, mut durations) = (Vec::new(), Vec::new());
        for (endpoint, endpoint_name) in ENDPOINTS.into_iter().enumerate() {
            for (method, method_name) in METHODS.into_iter().enumerate() {
                let at = endpoint * METHODS.len() + method;
                let sum = DurationsSum::of(self.0.all().map(|table| &table.cells[at].durations));
                if sum.count() == 0 {
                    continue;
                }
                let labels = || vec![("method", method_name.into()), ("endpoint", endpoint_name.into())];
                durations.push((Labels(labels()), sum));
                for (status, code) in STATUSES.into_iter().enumerate() {
                    let count = self.0.sum(|table| &table.cells[at].statuses[status]);
                    if count > 0 {
                        let code = if code == 0 { "other".into() } else { code.to_string().into() };
                        let labels = labels().into_iter().chain([("status", code)]).collect();
                        requests.push((Labels(labels), count as f64));
                    }
                }
            }
        }
        metrics.counters("kvorum_http_requests", "Requests of the HTTP door", requests);
        let help = "Time to answer a request of the HTTP door, until its head leaves";
        metrics.durations("kvorum_http_request_duration_seconds", help, durations);
        let help = "Writes that were given the answer to an earlier request with the same Idempotency-Key";
        metrics.counter("kvorum_http_replayed", help, self.0.sum(|table| &table.replayed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_names_that_no_client_chooses() {
        let requests = HttpRequests::default();
        let note = |method: &[u8], route, is_incr, status| {
            let method = Method::from_bytes(method).expect("a method");
            requests.note(&method, route, is_incr, StatusCode::from_u16(status).expect("a status"), Instant::now());
        };
        note(b"BREW", Some(KEY_ROUTE), false, 200);
        note(b"POST", Some(KEY_ROUTE), true, 299);
        note(b"GET", None, false, 404);
        note(b"GET", None, false, 404);
        let mut metrics = Metrics::default();
        requests.add_to(&mut metrics);
        let text = metrics.into_text();
        for line in [
            "kvorum_http_requests_total{method=\"other\",endpoint=\"/kv/{key}\",status=\"200\"} 1.0",
            "kvorum_http_requests_total{method=\"POST\",endpoint=\"/kv/{key}/incr\",status=\"other\"} 1.0",
            "kvorum_http_requests_total{method=\"GET\",endpoint=\"other\",status=\"404\"} 2.0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
