//! What a connection does next.

use crate::draw::Draw;
use crate::keys::KeySpace;
use crate::limits::FILL_CLAIM;
use crate::options::Route;
use crate::routes::Routes;
use rand::Rng;
use rand::rngs::StdRng;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One operation of the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// Of the [`KeySpace`]: the key's number, and its position.
    pub(crate) key: u32,
    pub(crate) position: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Get,
    Put,
    /// A PUT of a key that was not there.
    Insert,
    /// A GET, and after its answer a PUT of the same key; one operation.
    ReadModifyWrite,
}

/// Where a connection's operations come from.
#[derive(Debug)]
pub(crate) enum Work {
    Load(Load),
    Fill(Fill),
}

impl Work {
    /// The next operation for a connection to the node at position `node`; `None` if nothing is left.
    pub(crate) fn next(
        &mut self,
        routes: &Routes,
        node: Option<usize>,
        measuring: bool,
        random: &mut StdRng,
    ) -> Option<Operation> {
        match self {
            Self::Load(load) => load.next(routes, node, measuring, random),
            Self::Fill(fill) => fill.next(routes, node),
        }
    }

    /// An operation did not work. Filling tries it again; load goes on with the next.
    pub(crate) fn failed(&mut self, operation: Operation) {
        if let Self::Fill(fill) = self {
            fill.again.push(operation);
        }
    }

    /// A write took effect.
    pub(crate) fn written(&mut self, operation: Operation) {
        if let (Self::Load(Load { draw: Draw::Latest(latest), keys, .. }), Kind::Insert) = (self, operation.kind) {
            latest.inserts.written(keys, operation.position);
        }
    }
}

/// Keys drawn by a distribution, reads and other operations by their ratio.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) keys: Arc<KeySpace>,
    pub(crate) draw: Draw,
    pub(crate) read_ratio: f64,
    /// What is done that is not a read.
    pub(crate) other: Kind,
    pub(crate) route: Route,
    /// Measured operations that are left for the whole fleet; none is no limit.
    pub(crate) budget: Option<Arc<AtomicU64>>,
}

impl Load {
    fn next(&self, routes: &Routes, node: Option<usize>, measuring: bool, random: &mut StdRng) -> Option<Operation> {
        if let (true, Some(budget)) = (measuring, &self.budget) {
            let take = |left: u64| left.checked_sub(1);
            budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        }
        let node = node.filter(|_| self.route == Route::Leaders);
        let kind = if random.random::<f64>() < self.read_ratio { Kind::Get } else { self.other };
        // A node that leads nothing is sent any key and forwards it: the report shows how many were.
        let position = self.draw.position(&self.keys, routes, node, kind, random);
        Some(Operation { kind, key: self.keys.key_at(position), position })
    }
}

/// Every key written once: connections claim keys of shards that their node leads first, then whatever is left.
#[derive(Debug)]
pub(crate) struct Fill {
    keys: Arc<KeySpace>,
    claims: Arc<FillClaims>,
    claimed: Range<u32>,
    /// Keys whose write failed; at most a pipeline of them, since they go before new claims.
    again: Vec<Operation>,
}

/// The next unclaimed position of each shard.
#[derive(Debug)]
pub(crate) struct FillClaims(Vec<AtomicU32>);

impl FillClaims {
    pub(crate) fn new(keys: &KeySpace) -> Self {
        Self((0..keys.shards()).map(|shard| AtomicU32::new(keys.positions_of(shard).start)).collect())
    }

    fn claim(&self, shard: usize, end: u32) -> Option<Range<u32>> {
        let next = &self.0[shard];
        // Read first, so that a finished shard costs no write to a shared cache line.
        if next.load(Ordering::Relaxed) >= end {
            return None;
        }
        let start = next.fetch_add(FILL_CLAIM, Ordering::Relaxed);
        (start < end).then(|| start..end.min(start + FILL_CLAIM))
    }
}

impl Fill {
    pub(crate) fn new(keys: Arc<KeySpace>, claims: Arc<FillClaims>) -> Self {
        Self { keys, claims, claimed: 0..0, again: Vec::new() }
    }

    fn next(&mut self, routes: &Routes, node: Option<usize>) -> Option<Operation> {
        if let Some(operation) = self.again.pop() {
            return Some(operation);
        }
        if self.claimed.is_empty() {
            self.claimed = self.claim(routes, node)?;
        }
        let position = self.claimed.next().expect("a claim holds at least one key");
        Some(Operation { kind: Kind::Put, key: self.keys.key_at(position), position })
    }

    fn claim(&self, routes: &Routes, node: Option<usize>) -> Option<Range<u32>> {
        let led = node.map_or(&[][..], |node| routes.shards_led(node)).iter().map(|&shard| usize::from(shard));
        led.chain(0..self.keys.shards()).find_map(|shard| self.claims.claim(shard, self.keys.initial_of(shard).end))
    }
}
