//! Who may do what, with which certificates, and who did what.

use super::super::Api;
use super::super::entry::Text;
use super::super::problem::Problem;
use super::super::request::Asked;
use super::no_store;
use crate::auth::certificates::NodeCertificates;
use axum::extract::{Request, State};
use axum::response::Response;
use kvorum_core::audit::{AuditEvent, AuditKind};
use kvorum_core::measure::meter::Door;
use kvorum_protocol::{Grant, NodeId, RoleView, TokenView, UserView, hexadecimal};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Lines of the audit log that are told.
const AUDIT_LINES: usize = 200;

#[derive(Debug, Serialize)]
struct SecurityView {
    required: bool,
    /// What the configuration of this node says.
    mode: &'static str,
    epoch: u64,
    users: Vec<UserJson>,
    roles: Vec<RoleJson>,
    tokens: Vec<TokenJson>,
    denied: Vec<String>,
    certificates: Vec<CertificateJson>,
    doors: Vec<DoorJson>,
    audit: AuditJson,
    /// `None`: the cluster seals nothing.
    encryption: Option<EncryptionJson>,
}

#[derive(Debug, Serialize)]
struct UserJson {
    name: String,
    has_password: bool,
    disabled: bool,
    roles: Vec<String>,
    requests_per_s: u32,
    bytes_per_s: u64,
    connections: u32,
}

#[derive(Debug, Serialize)]
struct RoleJson {
    name: String,
    built_in: bool,
    grants: Vec<GrantJson>,
    cluster: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct GrantJson {
    prefix: Option<String>,
    prefix_base64: Option<String>,
    classes: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct TokenJson {
    id: String,
    user: String,
    roles: Option<Vec<String>>,
    expires_at_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct CertificateJson {
    kind: &'static str,
    file: String,
    not_before_ms: Option<i64>,
    not_after_ms: Option<i64>,
    subject: String,
    serial: String,
}

#[derive(Debug, Serialize)]
struct DoorJson {
    name: &'static str,
    tls: bool,
}

#[derive(Debug, Serialize)]
struct AuditJson {
    on: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<AuditLineJson>>,
}

#[derive(Debug, Serialize)]
struct AuditLineJson {
    at_ms: u64,
    event: AuditKind,
    door: Option<&'static str>,
    from: Option<String>,
    user: String,
    what: String,
    repeats: u32,
}

#[derive(Debug, Serialize)]
struct EncryptionJson {
    sealed: bool,
    active_key: u16,
    newest_key: Option<u16>,
    keys: usize,
    wrapped: Option<bool>,
    waits_for: Option<Vec<u16>>,
    old_key_bytes: u64,
}

/// `GET /console/security`.
pub(super) async fn security(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    api.console.look_if_due().await;
    let (console, inspector) = (&api.console, &api.inspector);
    let table = inspector.router().auth().view();
    let tls = &console.config.tls;
    let doors = [
        ("binary", tls.doors.client),
        ("http", tls.doors.http),
        ("resp", tls.doors.resp),
        ("resp_cluster", tls.doors.resp_cluster),
    ];
    let view = SecurityView {
        required: table.required,
        mode: match console.config.mode {
            crate::config::AuthMode::Open => "open",
            crate::config::AuthMode::Required => "required",
        },
        epoch: table.epoch,
        users: table.users.into_iter().map(user_json).collect(),
        roles: table.roles.into_iter().map(role_json).collect(),
        tokens: table.tokens.into_iter().map(token_json).collect(),
        denied: table.denied.iter().map(|serial| hexadecimal::encode(serial)).collect(),
        certificates: certificates(inspector.certificates(), &tls.certificate, &tls.ca),
        doors: doors.into_iter().map(|(name, tls)| DoorJson { name, tls }).collect(),
        audit: audit(&api),
        encryption: encryption(&api),
    };
    Ok(no_store(&view))
}

fn user_json(user: UserView) -> UserJson {
    let UserView { name, has_password, disabled, roles, limits } = user;
    UserJson {
        name,
        has_password,
        disabled,
        roles,
        requests_per_s: limits.requests_per_s,
        bytes_per_s: limits.bytes_per_s,
        connections: limits.connections,
    }
}

fn role_json(role: RoleView) -> RoleJson {
    let grant = |grant: Grant| {
        let Text { plain, base64 } = Text::of(&grant.prefix);
        GrantJson { prefix: plain, prefix_base64: base64, classes: grant.classes.names().collect() }
    };
    RoleJson {
        name: role.name,
        built_in: role.built_in,
        grants: role.grants.into_iter().map(grant).collect(),
        cluster: role.cluster.names().collect(),
    }
}

fn token_json(token: TokenView) -> TokenJson {
    let TokenView { id, user, roles, expires_at_ms } = token;
    TokenJson { id: id.to_string(), user, roles, expires_at_ms }
}

/// The node's own certificate, and the authorities that it trusts.
fn certificates(certificates: &NodeCertificates, own: &Path, ca: &Path) -> Vec<CertificateJson> {
    let in_force = certificates.in_force();
    let json = |kind, file: &Path, der: &[u8]| {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(CertificateJson {
            kind,
            file: file.display().to_string(),
            not_before_ms: Some(parsed.validity().not_before.timestamp() * 1_000),
            not_after_ms: Some(parsed.validity().not_after.timestamp() * 1_000),
            subject: parsed.subject().to_string(),
            serial: hexadecimal::encode(parsed.raw_serial()),
        })
    };
    let node = in_force.identity().chain().iter().take(1).filter_map(|der| json("node", own, der));
    let authorities = in_force.identity().authorities().iter().filter_map(|der| json("ca", ca, der));
    node.chain(authorities).collect()
}

fn audit(api: &Api) -> AuditJson {
    let desk = api.inspector.router().audit();
    if !desk.is_on() {
        return AuditJson { on: false, failing: None, dropped: None, lines: None };
    }
    let line = |event: AuditEvent| AuditLineJson {
        at_ms: event.at_ms,
        event: event.kind,
        door: event.door.map(Door::name),
        from: event.from.map(|address| address.to_string()),
        user: event.user,
        what: event.what,
        repeats: event.repeats,
    };
    let lines = api.inspector.audit_tail().newest(AUDIT_LINES).into_iter().map(line).collect();
    AuditJson { on: true, failing: Some(desk.fails()), dropped: Some(desk.dropped()), lines: Some(lines) }
}

fn encryption(api: &Api) -> Option<EncryptionJson> {
    let router = api.inspector.router();
    let ring = router.ring();
    if ring.sealing.active == 0 && ring.sealing.keys.is_empty() {
        return None;
    }
    let topology = api.topology();
    let place = |node: &NodeId| topology.nodes.iter().position(|known| known.id == *node).map(|at| at as u16);
    let memory = api.console.memory.lock();
    let outlook = memory.heard.plan().and_then(|plan| plan.sealing.as_ref());
    Some(EncryptionJson {
        sealed: ring.sealing.active != 0,
        active_key: ring.sealing.active,
        newest_key: outlook.map(|outlook| outlook.newest),
        keys: ring.sealing.keys.len(),
        wrapped: outlook.map(|outlook| outlook.wrapped),
        waits_for: outlook.map(|outlook| outlook.waits_for.iter().filter_map(place).collect()),
        old_key_bytes: router.all_local().iter().map(|handle| handle.upkeep.lock().old_key_bytes).sum(),
    })
}
