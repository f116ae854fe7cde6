//! What sessions write down: see [`crate::audit`].

use super::Session;
use crate::audit::{AuditEvent, AuditKind, change};
use crate::auth::Principal;
use crate::auth::rates::Spent;
use crate::clock::Nanos;
use crate::measure::monitor::WATCHED_MS;
use core::net::IpAddr;
use kvorum_protocol::{AdminCommand, ErrorCode, Outcome, ResponseBody, ServerError};
use std::sync::Arc;

/// What a session knows for that.
#[derive(Debug, Default)]
pub(super) struct Audited {
    from: Option<IpAddr>,
    /// What came from that address lately, if there is a limit.
    usage: Option<Arc<Spent>>,
    /// What the request asks for that is being begun: the user, and in words what.
    begun: Option<(String, String)>,
    /// The same of what waits for its answer, by the number of its request.
    waiting: Vec<(u64, (String, String))>,
    /// It has been written down that this user watches requests, who asked for them last then.
    watches: Option<(String, Nanos)>,
}

impl Audited {
    pub(super) fn usage(&self) -> &Option<Arc<Spent>> {
        &self.usage
    }
}

impl<Origin: Copy> Session<Origin> {
    /// The address of its client.
    pub fn comes_from(&mut self, from: IpAddr) {
        self.audited.from = Some(from);
        self.audited.usage = self.context.router.auth().usage_from(from);
    }

    /// Writes down what the client does.
    pub fn note(&mut self, kind: AuditKind, what: &str) {
        self.context.router.audit().count(kind, self.door);
        if self.context.router.audit().is_on() {
            let user = self.access().user().to_owned();
            self.note_of(kind, &user, what);
        }
    }

    /// Writes down that the client was not let in as this user.
    pub fn note_refused(&self, user: &str, why: &str) {
        self.context.router.audit().count(AuditKind::LoginFailed, self.door);
        self.note_of(AuditKind::LoginFailed, user, why);
    }

    pub(super) fn note_login(&mut self) {
        // Over HTTP each request logs in.
        if !self.context.router.audit().is_on() {
            return;
        }
        let how = match &self.caller.principal() {
            Principal::Nobody => return,
            Principal::Certificate { serial, .. } => {
                format!("certificate {}", kvorum_protocol::hexadecimal::encode(serial))
            }
            Principal::Password { .. } => "password".to_owned(),
            Principal::Token(id) => format!("token {id}"),
        };
        self.note(AuditKind::Login, &how);
    }

    fn note_of(&self, kind: AuditKind, user: &str, what: &str) {
        let router = &self.context.router;
        let desk = router.audit();
        if desk.is_on() {
            desk.note(router.clock().now(), AuditEvent::at_door(kind, self.door, self.audited.from, user, what));
        }
    }

    /// Writes down what the client changes at this node, of which the door knows alone.
    ///
    /// # Errors
    /// `Unavailable`: it can't be written down, and must not be done.
    pub fn note_change(&mut self, what: &str) -> Result<(), ServerError> {
        if self.context.router.audit().is_on() {
            self.check_audit()?;
            self.note(AuditKind::Asked, what);
        }
        Ok(())
    }

    /// Whether what an operator asks for can be written down.
    ///
    /// # Errors
    /// `Unavailable`: it can't.
    fn check_audit(&self) -> Result<(), ServerError> {
        if !self.context.router.audit().refuses() {
            return Ok(());
        }
        let detail = "the audit log of this node can't be written, so nothing is changed through it: see its log";
        Err(ServerError::new(ErrorCode::Unavailable, detail).with_outcome(Outcome::NotApplied))
    }

    /// Writes down what a command changes, before it does.
    ///
    /// # Errors
    /// `Unavailable`: it can't be written down, and is not done.
    pub(super) fn note_asked(&mut self, command: &AdminCommand) -> Result<(), ServerError> {
        let desk = self.context.router.audit();
        if !desk.is_on() {
            return Ok(());
        }
        let Some(what) = change(command) else { return Ok(()) };
        self.check_audit()?;
        if matches!(command, AdminCommand::Monitor(_)) && self.watches_on() {
            return Ok(());
        }
        let user = self.access().user().to_owned();
        self.note_of(AuditKind::Asked, &user, &what);
        self.audited.begun = Some((user, what));
        Ok(())
    }

    /// A client asks for requests as they come in. Returns whether that was written down: whoever watches asks some times a second.
    fn watches_on(&mut self) -> bool {
        let now = self.context.router.clock().monotonic();
        let user = self.access().user().to_owned();
        let before = self.audited.watches.replace((user.clone(), now));
        before.is_some_and(|(who, asked)| who == user && now.ms_since(asked) < WATCHED_MS)
    }

    /// The request that is being begun was answered at once, or waits under this number.
    pub(super) fn note_begun(&mut self, answered: Option<&ResponseBody>, number: u64) {
        match (self.audited.begun.take(), answered) {
            (None, _) => {}
            (Some(asked), Some(body)) => self.note_ended(&asked, body),
            (Some(asked), None) => self.audited.waiting.push((number, asked)),
        }
    }

    /// A request was answered.
    pub(super) fn note_answered(&mut self, number: u64, body: &ResponseBody) {
        if let Some(at) = self.audited.waiting.iter().position(|(of, _)| *of == number) {
            let (_, asked) = self.audited.waiting.swap_remove(at);
            self.note_ended(&asked, body);
        }
    }

    fn note_ended(&mut self, (user, what): &(String, String), body: &ResponseBody) {
        if matches!(body, ResponseBody::Error(_)) {
            // What is refused has not begun.
            self.audited.watches = None;
        }
        let what = match body {
            ResponseBody::Error(error) => format!("{what}: {}, {}", error.code, error.detail),
            _ => format!("{what}: done"),
        };
        self.note_of(AuditKind::Answered, user, &what);
    }
}
