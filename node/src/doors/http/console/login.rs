//! Logging in at the console, and out.

use super::super::Api;
use super::super::entry::from_json;
use super::super::kv::json_response;
use super::super::problem::{CLUSTER_REFUSES, Problem};
use super::super::request::Asked;
use super::super::whose::{Whose, note, refused};
use super::{no_store, sessions};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use kvorum_core::audit::AuditKind;
use kvorum_protocol::{ClusterClasses, KeyClasses};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who asks, and what he may do.
#[derive(Debug, Serialize)]
pub(super) struct WhoView {
    /// `None` where nobody is asked.
    name: Option<String>,
    /// When the login is over: Unix time in milliseconds.
    until_ms: Option<u64>,
    /// What he may do with the cluster.
    classes: Vec<&'static str>,
    /// What he may do with all keys.
    keys: Vec<&'static str>,
}

impl WhoView {
    pub(super) fn of(whose: &Whose) -> Self {
        let access = &whose.access;
        let classes = ClusterClasses::NAMED.iter().filter(|(class, _)| access.may_cluster(*class));
        let keys = KeyClasses::NAMED.iter().filter(|(class, _)| access.may(*class, b""));
        Self {
            name: Some(access.user()).filter(|user| !user.is_empty()).map(str::to_owned),
            until_ms: whose.login.as_ref().map(|login| login.until_ms),
            classes: classes.map(|(_, name)| *name).collect(),
            keys: keys.map(|(_, name)| *name).collect(),
        }
    }
}

/// Whether clients must say who they are.
#[derive(Debug, Serialize)]
pub(super) struct AuthView {
    required: bool,
}

impl AuthView {
    pub(super) fn of(api: &Api) -> Self {
        Self { required: api.caller.context().router.auth().is_required() }
    }
}

#[derive(Debug, Serialize)]
struct Who {
    required: bool,
    who: Option<WhoView>,
}

/// `GET /console/who`.
pub(super) async fn who(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    let who = (!asked.whose.access.is_nobody()).then(|| WhoView::of(&asked.whose));
    Ok(no_store(&Who { required: AuthView::of(&api).required, who }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    name: String,
    password: String,
}

#[derive(Debug, Serialize)]
struct LoggedIn {
    who: WhoView,
}

/// `POST /console/login`.
pub(super) async fn login(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of_parts(&parts, &[])?;
    if !AuthView::of(&api).required {
        return Err(Problem::new(&CLUSTER_REFUSES, "nobody is asked who he is here: there is nothing to log in to"));
    }
    let Credentials { name, password } = from_json(&api.read_login(&parts, body).await?)?;
    let address = asked.whose.address;
    let found = api.logins.by_password(address, &name, password.as_bytes()).await.map_err(refused);
    let principal =
        found.inspect_err(|problem| note(&api, address, AuditKind::LoginFailed, &name, problem.detail()))?;
    let now = api.caller.context().router.clock().now();
    let access = api.caller.context().router.auth().access(&principal, now.wall_ms);
    let access = access.map_err(|error| Problem::from(error.error()))?;
    let Some((cookie, login)) = api.console.sessions.begin(&principal, now.wall_ms) else {
        return Err(super::super::kv::unexpected());
    };
    note(&api, address, AuditKind::Login, &name, "console");
    let whose = asked.whose.logged_in(access, login);
    let mut response = json_response(StatusCode::OK, &LoggedIn { who: WhoView::of(&whose) });
    set_cookie(&mut response, &sessions::set(&cookie));
    Ok(response)
}

/// `POST /console/logout`.
pub(super) async fn logout(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    if let Some(login) = api.console.login_of(request.headers()) {
        let wall_ms = api.caller.context().router.clock().now().wall_ms;
        api.console.sessions.end(&login, wall_ms);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &sessions::unset());
    Ok(response)
}

fn set_cookie(response: &mut Response, cookie: &str) {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Base64 and the names of attributes are what a header may hold.
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        headers.insert(SET_COOKIE, cookie);
    }
}
