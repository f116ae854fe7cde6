//! Where long work is done.

/// Where work that takes milliseconds is done, so that it keeps no one waiting.
pub trait Offload: Send + Sync {
    /// Runs `work`, now or later, here or on another thread: what came first begins first. A session has one piece of work here at
    /// a time, so that each waits for no more than one of every other.
    fn run(&self, work: Box<dyn FnOnce() + Send>);
}

/// Does everything at once.
#[derive(Clone, Copy, Debug)]
pub struct Inline;

impl Offload for Inline {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}
