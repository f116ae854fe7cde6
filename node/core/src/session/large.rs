//! A session's work that takes milliseconds: pages of scans, and large values.

use super::Offload;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// A piece of work; it answers for itself.
pub(super) type LargeWork = Box<dyn FnOnce() + Send>;

/// What waits, and what is under way. One piece at a time is where the node does such work: a client that asks for a thousand
/// pages at once has others wait for one of them, not for all. Bounded by the session's unanswered requests.
#[derive(Clone)]
pub(super) struct LargeQueue {
    offload: Arc<dyn Offload>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<LargeWork>,
    is_under_way: bool,
}

impl LargeQueue {
    pub(super) fn new(offload: Arc<dyn Offload>) -> Self {
        Self { offload, waiting: Arc::default() }
    }

    /// Does this after all that came before.
    pub(super) fn push(&self, work: LargeWork) {
        let mut waiting = self.waiting.lock();
        waiting.work.push_back(work);
        if !std::mem::replace(&mut waiting.is_under_way, true) {
            drop(waiting);
            self.begin();
        }
    }

    /// Has one piece done, and then the next.
    fn begin(&self) {
        let queue = self.clone();
        self.offload.run(Box::new(move || {
            // Dropped last, also if the work panics: those that wait behind it are done all the same.
            let next = Next(queue);
            let work = next.0.waiting.lock().work.pop_front();
            work.into_iter().for_each(|work| work());
        }));
    }
}

struct Next(LargeQueue);

impl Drop for Next {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.is_under_way = !waiting.work.is_empty();
        if waiting.is_under_way {
            drop(waiting);
            self.0.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what it is given, in order.
    #[derive(Default)]
    struct Later(Mutex<VecDeque<LargeWork>>);

    impl Offload for Later {
        fn run(&self, work: LargeWork) {
            self.0.lock().push_back(work);
        }
    }

    impl Later {
        fn run_next(&self) -> bool {
            let work = self.0.lock().pop_front();
            work.map(|work| work()).is_some()
        }
    }

    #[test]
    fn sessions_take_turns_and_each_keeps_its_order() {
        let (later, done) = (Arc::new(Later::default()), Arc::new(Mutex::new(Vec::new())));
        let queues = [(), (), ()].map(|()| LargeQueue::new(Arc::clone(&later) as _));
        let push = |session: usize, number: usize| {
            let done = Arc::clone(&done);
            queues[session].push(Box::new(move || done.lock().push((session, number))));
        };
        (0..4).for_each(|number| push(0, number));
        (0..2).for_each(|number| push(1, number));
        assert!(later.run_next());
        push(2, 0);
        while later.run_next() {}
        assert_eq!(*done.lock(), [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (0, 3)]);
        push(1, 9);
        assert!(later.run_next() && !later.run_next(), "it begins anew when it was empty");
    }

    #[test]
    fn work_that_panics_does_not_hold_up_the_next() {
        let (later, done) = (Arc::new(Later::default()), Arc::new(Mutex::new(0)));
        let queue = LargeQueue::new(Arc::clone(&later) as _);
        queue.push(Box::new(|| panic!("on purpose")));
        let counted = Arc::clone(&done);
        queue.push(Box::new(move || *counted.lock() += 1));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| later.run_next())).is_err());
        assert!(later.run_next());
        assert_eq!(*done.lock(), 1);
    }
}
