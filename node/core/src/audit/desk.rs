//! Where events wait for their line.

use super::{AuditEvent, AuditKind};
use crate::auth::gate::network_of;
use crate::clock::{Nanos, Now};
use crate::measure::meter::Door;
use core::net::IpAddr;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Most events that wait. With [`super::AUDIT_TEXT_BYTES_MAX`] bytes in each of two texts that is 4 MiB.
const WAITING_MAX: usize = 4096;
/// Of these, places that only what operators ask for may take: nobody can have that left out by being refused often.
const WAITING_FOR_OPERATORS: usize = WAITING_MAX / 4;
/// Most different refusals of one address that are written in a second, and of all. Their texts are strangers' choice, and old lines make
/// room for new ones.
const REFUSED_PER_SECOND_MAX: u32 = 20;
const REFUSED_OF_ALL_MAX: u32 = 100;
/// Most different events that are known not to be repeated.
const KNOWN_MAX: usize = 4096;
/// A login that is like another one is written once in so long, in milliseconds: over HTTP each request is one.
const LOGIN_AGAIN_MS: u64 = 5 * 60_000;
/// What is refused is written once in so long, if it is alike.
const REFUSED_AGAIN_MS: u64 = 1_000;

/// Where events wait until their line is written. What is alike and comes often is written once, and counted.
#[derive(Default)]
pub struct AuditDesk {
    /// The last line could not be written.
    fails: AtomicBool,
    waiting: Mutex<Waiting>,
    dropped: AtomicU64,
    /// By door, whether somebody writes or not.
    login_failures: [AtomicU64; Door::ALL.len()],
    denials: [AtomicU64; Door::ALL.len()],
    /// Wakes whoever writes, if somebody does.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<AuditEvent>,
    /// By what an event is about: when it was written last, and how often it came since.
    known: HashMap<u64, (Nanos, u32)>,
    /// So many were dropped that no line tells of yet.
    untold: u64,
    /// The refusals of the second that began then, and of each network in it.
    refused: Refused,
}

#[derive(Debug, Default)]
struct Refused {
    since: Nanos,
    all: u32,
    by_network: HashMap<Option<IpAddr>, u32>,
}

impl Refused {
    /// One more refusal: whether there were enough in this second. The map holds no more than are written.
    fn is_enough(&mut self, from: Option<IpAddr>, now: Nanos) -> bool {
        if now.ms_since(self.since) >= 1_000 {
            *self = Self { since: now, ..Self::default() };
        }
        if self.all >= REFUSED_OF_ALL_MAX {
            return true;
        }
        let of_network = self.by_network.entry(from.map(network_of)).or_default();
        if *of_network >= REFUSED_PER_SECOND_MAX {
            return true;
        }
        *of_network += 1;
        self.all += 1;
        false
    }
}

impl AuditDesk {
    /// Somebody writes from here on, and is woken by `wake` when something waits.
    pub fn open(&self, now: Now, wake: Box<dyn Fn() + Send + Sync>) {
        if self.wake.set(wake).is_ok() {
            self.push(AuditEvent::of_log(AuditKind::Opened, format!("kvorum {}", env!("CARGO_PKG_VERSION"))), now);
        }
    }

    /// Whether anything is written at all.
    pub fn is_on(&self) -> bool {
        self.wake.get().is_some()
    }

    /// Whether what must be written down can't be: nothing may be changed then.
    pub fn fails(&self) -> bool {
        self.is_on() && self.fails.load(Ordering::Acquire)
    }

    /// Whether the last line could be written.
    pub fn note_written(&self, written: bool) {
        self.fails.store(!written, Ordering::Release);
    }

    /// Counts what was refused at a door, whether it is written down or not. Other kinds are not counted.
    pub fn count(&self, kind: AuditKind, door: Door) {
        let counts = match kind {
            AuditKind::LoginFailed => &self.login_failures,
            AuditKind::Denied => &self.denials,
            _ => return,
        };
        counts[door as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Logins that failed at a door, since the start.
    pub fn login_failures(&self, door: Door) -> u64 {
        self.login_failures[door as usize].load(Ordering::Relaxed)
    }

    /// Requests at a door that were refused for want of a right, since the start.
    pub fn denials(&self, door: Door) -> u64 {
        self.denials[door as usize].load(Ordering::Relaxed)
    }

    /// Takes down an event. Costs little if nobody writes.
    pub fn note(&self, now: Now, mut event: AuditEvent) {
        if !self.is_on() {
            return;
        }
        let again_ms = match event.kind {
            AuditKind::Login => LOGIN_AGAIN_MS,
            AuditKind::LoginFailed | AuditKind::Denied => REFUSED_AGAIN_MS,
            AuditKind::Opened | AuditKind::Asked | AuditKind::Answered | AuditKind::Dropped => 0,
        };
        if again_ms > 0 {
            let mut hasher = DefaultHasher::new();
            (event.kind, event.from, &event.user, &event.what).hash(&mut hasher);
            let mut waiting = self.waiting.lock();
            if waiting.known.len() >= KNOWN_MAX {
                let is_fresh = |at: Nanos| now.monotonic.ms_since(at) < again_ms;
                waiting.known.retain(|_, (at, _)| is_fresh(*at));
                if waiting.known.len() >= KNOWN_MAX {
                    waiting.known.clear();
                }
            }
            match waiting.known.get_mut(&hasher.finish()) {
                Some((at, repeats)) if now.monotonic.ms_since(*at) < again_ms => {
                    *repeats = repeats.saturating_add(1);
                    return;
                }
                Some((at, repeats)) => {
                    event.repeats = std::mem::take(repeats);
                    *at = now.monotonic;
                }
                None => drop(waiting.known.insert(hasher.finish(), (now.monotonic, 0))),
            }
        }
        self.push(event, now);
    }

    /// Whether an operator's change can't be written down: the log fails, or too much waits for it.
    pub fn refuses(&self) -> bool {
        // It is asked for, and answered.
        self.fails() || self.waiting.lock().events.len() + 2 > WAITING_MAX
    }

    fn push(&self, mut event: AuditEvent, now: Now) {
        let wall_ms = now.wall_ms;
        event.at_ms = wall_ms;
        let mut waiting = self.waiting.lock();
        let is_operators = matches!(event.kind, AuditKind::Opened | AuditKind::Asked | AuditKind::Answered);
        let most = if is_operators { WAITING_MAX } else { WAITING_MAX - WAITING_FOR_OPERATORS };
        let is_refusal = matches!(event.kind, AuditKind::LoginFailed | AuditKind::Denied);
        if waiting.events.len() >= most || is_refusal && waiting.refused.is_enough(event.from, now.monotonic) {
            waiting.untold += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if waiting.untold > 0 && waiting.events.len() < WAITING_MAX / 2 {
            let untold = std::mem::take(&mut waiting.untold);
            let mut told = AuditEvent::of_log(AuditKind::Dropped, format!("{untold} events"));
            told.at_ms = wall_ms;
            waiting.events.push_back(told);
        }
        waiting.events.push_back(event);
        drop(waiting);
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Takes what waits.
    pub fn take(&self) -> VecDeque<AuditEvent> {
        std::mem::take(&mut self.waiting.lock().events)
    }

    /// Events of which no line was written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Events that were taken, of which no line could be written.
    pub fn note_dropped(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
        self.waiting.lock().untold += events;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { monotonic: Nanos(0).after_ms(ms), wall_ms: 1_000_000 + ms, agreed_ms: None }
    }

    fn event(kind: AuditKind, what: &str) -> AuditEvent {
        AuditEvent::at_door(kind, Door::Http, None, "ada", what)
    }

    fn open() -> AuditDesk {
        let desk = AuditDesk::default();
        desk.open(at(0), Box::new(|| {}));
        desk.take();
        desk
    }

    #[test]
    fn what_is_refused_is_counted_though_nobody_writes() {
        let desk = AuditDesk::default();
        (0..3).for_each(|_| desk.count(AuditKind::LoginFailed, Door::Resp));
        desk.count(AuditKind::Denied, Door::Http);
        desk.count(AuditKind::Login, Door::Http);
        assert_eq!(Door::OF_CLIENTS.map(|door| desk.login_failures(door)), [0, 0, 3]);
        assert_eq!(Door::OF_CLIENTS.map(|door| desk.denials(door)), [0, 1, 0]);
    }

    #[test]
    fn nothing_waits_where_nobody_writes() {
        let desk = AuditDesk::default();
        desk.note(at(0), event(AuditKind::Asked, "NODE REMOVE"));
        desk.note_written(false);
        assert!(desk.take().is_empty() && !desk.fails());
    }

    #[test]
    fn what_is_alike_is_written_once_and_counted() {
        let desk = open();
        for ms in 0..500 {
            desk.note(at(ms), event(AuditKind::Denied, "GET"));
        }
        desk.note(at(500), event(AuditKind::Denied, "PUT"));
        desk.note(at(1_000), event(AuditKind::Denied, "GET"));
        desk.note(at(1_000), event(AuditKind::Asked, "DRAIN"));
        desk.note(at(1_000), event(AuditKind::Asked, "DRAIN"));
        let told: Vec<_> = desk.take().into_iter().map(|event| (event.what, event.repeats, event.at_ms)).collect();
        let expected = [
            ("GET", 0, 1_000_000),
            ("PUT", 0, 1_000_500),
            ("GET", 499, 1_001_000),
            ("DRAIN", 0, 1_001_000),
            ("DRAIN", 0, 1_001_000),
        ];
        assert_eq!(told, expected.map(|(what, repeats, at_ms)| (what.to_owned(), repeats, at_ms)));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told() {
        let desk = open();
        for _ in 0..WAITING_MAX + 7 {
            desk.note(at(0), event(AuditKind::Asked, "DRAIN"));
        }
        assert_eq!((desk.take().len(), desk.dropped()), (WAITING_MAX, 7));
        desk.note(at(1), event(AuditKind::Asked, "DRAIN"));
        let told: Vec<_> = desk.take().into_iter().map(|event| (event.kind, event.what)).collect();
        assert_eq!(told[0], (AuditKind::Dropped, "7 events".to_owned()));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn many_different_events_take_no_more_room() {
        let desk = open();
        for number in 0..3 * KNOWN_MAX {
            desk.note(at(0), event(AuditKind::Denied, &number.to_string()));
            desk.take();
        }
        assert!(desk.waiting.lock().known.len() <= KNOWN_MAX);
    }

    #[test]
    fn strangers_leave_room_for_what_operators_ask_and_for_old_lines() {
        let desk = open();
        let refuse = |from_ms: u64| {
            (0..1_000)
                .for_each(|user| desk.note(at(from_ms), event(AuditKind::LoginFailed, &format!("{from_ms} {user}"))));
        };
        refuse(0);
        assert_eq!((desk.take().len(), desk.dropped()), (REFUSED_PER_SECOND_MAX as usize, 980));
        // Logins are no refusals, and fill their part of the queue while nobody writes.
        (0..WAITING_MAX).for_each(|user| desk.note(at(5_000), event(AuditKind::Login, &user.to_string())));
        assert!(!desk.refuses());
        for number in 0..WAITING_FOR_OPERATORS {
            assert_eq!(desk.refuses(), number > WAITING_FOR_OPERATORS - 2, "{number}");
            desk.note(at(5_000), event(AuditKind::Asked, "USER ADD ada"));
        }
        assert!(desk.refuses(), "nothing is changed that is not written down");
        let asked = desk.take().into_iter().filter(|event| event.kind == AuditKind::Asked).count();
        assert_eq!((asked, desk.refuses()), (WAITING_FOR_OPERATORS, false));
    }
}
