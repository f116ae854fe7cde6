//! The newest events of the audit log, for the console: the file itself is not read for it.

use kvorum_core::audit::AuditEvent;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Events that are kept. Each has two texts of 512 bytes at most.
const EVENTS_MAX: usize = 256;

/// The newest events, whether their lines could be written or not.
#[derive(Debug, Default)]
pub struct AuditTail(Mutex<VecDeque<AuditEvent>>);

impl AuditTail {
    /// These came, the newest last.
    pub fn add(&self, events: &[AuditEvent]) {
        let mut kept = self.0.lock();
        for event in &events[events.len().saturating_sub(EVENTS_MAX)..] {
            if kept.len() == EVENTS_MAX {
                kept.pop_front();
            }
            kept.push_back(event.clone());
        }
    }

    /// Up to so many, the newest first.
    pub fn newest(&self, many: usize) -> Vec<AuditEvent> {
        self.0.lock().iter().rev().take(many).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::audit::AuditKind;
    use kvorum_core::measure::meter::Door;

    #[test]
    fn the_newest_are_kept() {
        let event = |number: usize| AuditEvent::at_door(AuditKind::Asked, Door::Http, None, "", &number.to_string());
        let tail = AuditTail::default();
        tail.add(&(0..10).map(event).collect::<Vec<_>>());
        tail.add(&(10..EVENTS_MAX * 3).map(event).collect::<Vec<_>>());
        tail.add(&[event(1_000_000)]);
        let newest: Vec<String> = tail.newest(2).into_iter().map(|event| event.what).collect();
        assert_eq!(newest, ["1000000".to_owned(), (EVENTS_MAX * 3 - 1).to_string()]);
        assert_eq!(tail.newest(usize::MAX).len(), EVENTS_MAX);
    }
}
