//! Who asks over HTTP, and what he may see that is no request to the cluster. Those that are, are looked at by the session.

use super::Api;
use super::console::Login;
use super::problem::{OVERLOADED, Problem, UNAUTHENTICATED, UNAVAILABLE};
use super::request::From;
use crate::auth::authorization::HeaderCredentials;
use crate::auth::login::LoginFailure;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Method};
use kvorum_core::audit::{AuditEvent, AuditKind};
use kvorum_core::auth::authorise::{anybody, may_cluster, may_key};
use kvorum_core::auth::{Access, Principal, UserPlace};
use kvorum_core::measure::meter::Door;
use kvorum_protocol::{ClusterClasses, ErrorCode, KeyClasses, TraceContext};
use std::net::IpAddr;
use std::sync::Arc;

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Whose a request is.
#[derive(Clone, Debug)]
pub(super) struct Whose {
    /// The number of its connection.
    pub(super) connection: u64,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// Who has said what he is.
    pub(super) principal: Principal,
    /// What he may do.
    pub(super) access: Arc<Access>,
    /// His login at the console, if it is a cookie that says who he is.
    pub(super) login: Option<Login>,
    /// The trace that the request is part of, as it says.
    pub(super) trace: Option<TraceContext>,
    /// One of the connections that he may have, as long as the request is worked at.
    #[expect(dead_code, reason = "it is held, and never looked at")]
    place: Option<Arc<UserPlace>>,
}

/// What an address needs besides what the session looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    /// It tells nothing of this cluster.
    Nothing,
    /// The session looks at the request.
    Login,
    /// This, of the cluster.
    Cluster(ClusterClasses),
}

impl Whose {
    /// Who a request says that it is from: by the header Authorization, else by a login at the console, else by the certificate of the
    /// connection.
    ///
    /// # Errors
    /// `Unauthenticated`, `Overloaded`, `Unavailable`.
    pub(super) async fn read(api: &Api, from: &From, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next();
        // A cookie that proves nothing, or no more, is none: whoever has it has to log in again.
        let login = value.is_none().then(|| api.console.login_of(headers)).flatten();
        let login = login.filter(|login| api.logins.takes_login(&login.principal()));
        let principal = match (value, values.next()) {
            (None, _) => match (&login, &from.certificate) {
                (Some(login), _) => login.principal(),
                // A certificate that is not taken is not taken for nobody.
                (None, Some(shown)) => {
                    let found = api.logins.by_certificate(&shown.user, &shown.serial).map_err(refused);
                    found.inspect_err(|problem| {
                        note(api, from.address, AuditKind::LoginFailed, &shown.user, problem.detail());
                    })?
                }
                (None, None) => Principal::Nobody,
            },
            (Some(value), None) => log_in(api, from.address, value.as_bytes()).await.inspect_err(|problem| {
                note(api, from.address, AuditKind::LoginFailed, "", problem.detail());
            })?,
            (Some(_), Some(_)) => return Err(unauthenticated("the header Authorization comes twice")),
        };
        let router = &api.caller.context().router;
        let access = router.auth().access(&principal, router.clock().now().wall_ms);
        let access = access.map_err(|error| Problem::from(error.error()))?;
        let place = match principal {
            Principal::Nobody => None,
            _ => Some(router.auth().place_of(&access, None).map_err(|error| Problem::from(error.error()))?),
        };
        let place = place.map(Arc::new);
        // Looked for only where it counts for something.
        let trace = if router.tracing().is_on() { trace_of(headers) } else { None };
        Ok(Self { place, connection: from.connection, address: from.address, principal, access, login, trace })
    }

    /// The same, once somebody has logged in at the console.
    pub(super) fn logged_in(self, access: Arc<Access>, login: Login) -> Self {
        Self { principal: login.principal(), access, login: Some(login), ..self }
    }

    /// It is a cookie that says who he is: a browser sends it along whoever has made the request.
    pub(super) fn is_by_cookie(&self) -> bool {
        self.login.is_some()
    }

    /// Looks whether the address may be asked for.
    ///
    /// # Errors
    /// `Unauthenticated`, `PermissionDenied`.
    pub(super) fn check(&self, api: &Api, method: &Method, path: &str) -> Result<(), Problem> {
        let allowed = match needed(method, path) {
            Needed::Nothing => Ok(()),
            Needed::Login => anybody(&self.access),
            Needed::Cluster(classes) => may_cluster(&self.access, classes),
        };
        allowed.map_err(|denied| {
            let problem: Problem = denied.error(self.access.user()).into();
            note(api, self.address, AuditKind::Denied, self.access.user(), problem.detail());
            problem
        })
    }

    /// Looks whether a key may be read.
    ///
    /// # Errors
    /// `Unauthenticated`, `PermissionDenied`.
    pub(super) fn may_read(&self, key: &[u8]) -> Result<(), Problem> {
        may_key(&self.access, KeyClasses::READ, key).map_err(|denied| denied.error(self.access.user()).into())
    }
}

/// The trace that a request is part of. A header that says nothing, or comes twice, is none.
fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    TraceContext::from_traceparent(value.to_str().ok()?)
}

/// Counts what was refused, or let in, before there was a request, and writes it down.
pub(super) fn note(api: &Api, from: IpAddr, kind: AuditKind, user: &str, what: &str) {
    let router = &api.caller.context().router;
    router.audit().count(kind, Door::Http);
    if router.audit().is_on() {
        router.audit().note(router.clock().now(), AuditEvent::at_door(kind, Door::Http, Some(from), user, what));
    }
}

fn unauthenticated(detail: &'static str) -> Problem {
    Problem::new(&UNAUTHENTICATED, detail)
}

async fn log_in(api: &Api, from: IpAddr, value: &[u8]) -> Result<Principal, Problem> {
    let found = match HeaderCredentials::read(value) {
        Some(HeaderCredentials::Token(token)) => api.logins.by_token(&token),
        Some(HeaderCredentials::Password { user, password }) => api.logins.by_password(from, &user, &password).await,
        None => {
            return Err(unauthenticated(
                "the header Authorization is neither Bearer with a token nor Basic with a user and a password",
            ));
        }
    };
    found.map_err(refused)
}

/// What somebody is answered who is not let in.
pub(super) fn refused(failure: LoginFailure) -> Problem {
    let error = failure.error();
    let kind = match error.code {
        ErrorCode::Overloaded => &OVERLOADED,
        ErrorCode::Unavailable => &UNAVAILABLE,
        _ => &UNAUTHENTICATED,
    };
    Problem::new(kind, error.detail)
}

/// What an address needs. One that nobody has thought of is for administrators.
fn needed(method: &Method, path: &str) -> Needed {
    let mut segments = path.split('/').skip(1);
    let (first, second) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let status = Needed::Cluster(ClusterClasses::STATUS);
    match (first, second) {
        // Probes ask without knowing anybody.
        ("health", "live" | "ready") => Needed::Nothing,
        ("docs" | "openapi.json" | "problems", _) | ("", "") => Needed::Nothing,
        // The console's files tell nothing of this cluster; its data do.
        ("console", "state" | "history" | "events" | "node" | "heat" | "jobs") => status,
        ("console", "log") => Needed::Cluster(ClusterClasses::ADMIN),
        ("console", "security") => Needed::Cluster(ClusterClasses::USERS),
        ("console", _) => Needed::Nothing,
        ("kv" | "batch" | "atomic" | "mapping" | "explain", _) => Needed::Login,
        ("metrics" | "slowlog", "") => Needed::Cluster(ClusterClasses::METRICS),
        ("health", "") | ("cache", "stats") | ("heartbeat", "") => status,
        ("nodes" | "rebalance", "") | ("cluster", "" | "plan") if method.is_safe() => status,
        _ => Needed::Cluster(ClusterClasses::ADMIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::http::{console, openapi};

    /// Every address that is documented, and what it needs: a new one has to be decided here.
    #[test]
    fn every_address_is_decided() {
        let mut lines = Vec::new();
        let of_console =
            console::ADDRESSES.map(|(method, path)| (path.to_owned(), vec![method.parse().expect("a method")]));
        for (path, methods) in openapi::addresses().into_iter().chain(of_console) {
            for method in methods {
                let needed = match needed(&method, &path.replace(['{', '}'], "")) {
                    Needed::Nothing => "nothing".to_owned(),
                    Needed::Login => "the session".to_owned(),
                    Needed::Cluster(classes) => classes.to_string(),
                };
                lines.push(format!("{method} {path}: {needed}"));
            }
        }
        lines.sort();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doors/http/whose_needs_what.txt");
        let text = lines.join("\n") + "\n";
        if std::env::var_os("KVORUM_BLESS").is_some() {
            std::fs::write(&path, &text).expect("the file can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, expected, "decide on it in `needed`, look at the list, and bless it with KVORUM_BLESS=1");
    }
}
