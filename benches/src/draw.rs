//! Which key comes next: evenly, or as in YCSB (Cooper et al., *Benchmarking cloud serving systems with YCSB*, 2010).
//!
//! A connection that follows the leaders draws from the keys that its node leads. Such a draw has the same distribution as
//! one from all keys, given that the node leads it; which connection draws next does not follow how popular the keys of
//! its node are, though, since each connection keeps its own loop.

use crate::keys::KeySpace;
use crate::routes::Routes;
use crate::work::Kind;
use rand::Rng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Zipf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The exponent that YCSB uses.
pub(crate) const ZIPF_EXPONENT: f64 = 0.99;
/// Draws of a popular key until one is led by the node; then any of its keys is taken.
const DRAWS_MAX: u32 = 256;

/// Where the next key is drawn from.
#[derive(Clone, Debug)]
pub(crate) enum Draw {
    /// Each key is as likely as any other.
    Even,
    /// The key of rank r is drawn in proportion to 1 / r^0.99.
    Zipf(Popular),
    /// Of each shard, the newest key is the most popular one.
    Latest(Latest),
}

/// Ranks, spread over the positions.
#[derive(Clone, Debug)]
pub(crate) struct Popular {
    zipf: Zipf<f64>,
    /// Has no divisor in common with the number of keys, so that each rank has a position of its own.
    stride: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Latest {
    zipf: Zipf<f64>,
    pub(crate) inserts: Arc<Inserts>,
}

/// How far each shard's keys have been inserted; shared by all connections.
#[derive(Debug)]
pub(crate) struct Inserts {
    /// Positions that were given out.
    claimed: Vec<AtomicU32>,
    /// Positions up to which reads go. Writes that were passed by later ones may still be under way.
    written: Vec<AtomicU32>,
}

impl Draw {
    pub(crate) fn zipf(keys: &KeySpace) -> Self {
        let count = keys.count();
        let near_golden = (f64::from(count) * 0.618_034) as u64;
        let stride = (near_golden.max(1)..).find(|&stride| divisor(stride, count.into()) == 1);
        Self::Zipf(Popular { zipf: zipf(count), stride: stride.expect("a prime number comes some time") })
    }

    pub(crate) fn latest(keys: &KeySpace) -> Self {
        let ends = |shard| AtomicU32::new(keys.initial_of(shard).end);
        let inserts = Inserts {
            claimed: (0..keys.shards()).map(ends).collect(),
            written: (0..keys.shards()).map(ends).collect(),
        };
        let per_shard = keys.initial() / keys.shards() as u32;
        Self::Latest(Latest { zipf: zipf(per_shard.max(1)), inserts: Arc::new(inserts) })
    }

    /// The next position, of a shard that `node` leads if it is given and leads any.
    pub(crate) fn position(
        &self,
        keys: &KeySpace,
        routes: &Routes,
        node: Option<usize>,
        kind: Kind,
        random: &mut StdRng,
    ) -> u32 {
        let even = |random: &mut StdRng| {
            let led = node.and_then(|node| routes.draw(node, random));
            led.unwrap_or_else(|| random.random_range(0..keys.count()))
        };
        match self {
            Self::Even => even(random),
            Self::Zipf(popular) => {
                let node = node.filter(|&node| routes.leads(node));
                for _ in 0..DRAWS_MAX {
                    let position = popular.position(keys.count(), random);
                    if node.is_none_or(|node| routes.leads_position(node, position)) {
                        return position;
                    }
                }
                even(random)
            }
            Self::Latest(latest) => {
                let shard = keys.shard_at(even(random));
                match kind {
                    Kind::Insert => latest.inserts.claim(keys, shard),
                    _ => latest.recent(keys, shard, random),
                }
            }
        }
    }
}

impl Popular {
    fn position(&self, count: u32, random: &mut StdRng) -> u32 {
        let rank = self.zipf.sample(random) as u64 - 1;
        (rank * self.stride % u64::from(count)) as u32
    }
}

impl Latest {
    fn recent(&self, keys: &KeySpace, shard: usize, random: &mut StdRng) -> u32 {
        let end = self.inserts.written[shard].load(Ordering::Relaxed);
        let age = self.zipf.sample(random) as u32 - 1;
        // A shard that had no key to begin with is read where the first one will be.
        end.saturating_sub(age + 1).max(keys.positions_of(shard).start)
    }
}

impl Inserts {
    /// The next key of the shard; once there is no room for more, the last one again.
    fn claim(&self, keys: &KeySpace, shard: usize) -> u32 {
        let last = keys.positions_of(shard).end - 1;
        let next = |claimed: u32| (claimed <= last).then_some(claimed + 1);
        self.claimed[shard].fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(last)
    }

    pub(crate) fn written(&self, keys: &KeySpace, position: u32) {
        self.written[keys.shard_at(position)].fetch_max(position + 1, Ordering::Relaxed);
    }
}

fn zipf(count: u32) -> Zipf<f64> {
    Zipf::new(f64::from(count), ZIPF_EXPONENT).expect("there is a key, and the exponent is positive")
}

/// The greatest common one.
fn divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    #[test]
    fn each_rank_has_a_position_of_its_own() {
        for count in [1, 2, 7, 100, 1000, 65_536] {
            let keys = KeySpace::new(count, 8, 4);
            let Draw::Zipf(popular) = Draw::zipf(&keys) else { panic!("another draw") };
            let positions: HashSet<u64> =
                (0..u64::from(count)).map(|rank| rank * popular.stride % u64::from(count)).collect();
            assert_eq!(positions.len(), count as usize);
        }
    }

    /// Expected shares follow from the definition: 1 / r^0.99 over the sum of all.
    #[test]
    fn popular_keys_have_their_share() {
        let (count, draws) = (1000u32, 200_000);
        let keys = KeySpace::new(count, 8, 1);
        let Draw::Zipf(popular) = Draw::zipf(&keys) else { panic!("another draw") };
        let mut random = StdRng::seed_from_u64(5);
        let mut seen = vec![0u32; count as usize];
        (0..draws).for_each(|_| seen[popular.position(count, &mut random) as usize] += 1);
        let sum: f64 = (1..=count).map(|rank| f64::from(rank).powf(-ZIPF_EXPONENT)).sum();
        for rank in [1u64, 2, 10, 100] {
            let expected = (rank as f64).powf(-ZIPF_EXPONENT) / sum * f64::from(draws);
            let got = f64::from(seen[((rank - 1) * popular.stride % u64::from(count)) as usize]);
            // Five standard deviations of a binomial distribution.
            assert!((got - expected).abs() < 5.0 * expected.sqrt(), "rank {rank}: {got}, expected {expected}");
        }
    }

    #[test]
    fn the_newest_keys_of_a_shard_are_read_most_and_inserts_move_them() {
        let keys = KeySpace::with_room(1000, 2000, 8, 2);
        let Draw::Latest(latest) = Draw::latest(&keys) else { panic!("another draw") };
        let mut random = StdRng::seed_from_u64(5);
        let initial = keys.initial_of(1);
        let reads: Vec<u32> = (0..5000).map(|_| latest.recent(&keys, 1, &mut random)).collect();
        assert!(reads.iter().all(|position| initial.contains(position)));
        let newest = |reads: &[u32], end: u32| reads.iter().filter(|&&position| position == end - 1).count();
        assert!(newest(&reads, initial.end) > 400, "about one in seven");
        let claimed = latest.inserts.claim(&keys, 1);
        assert_eq!(claimed, initial.end);
        let reads: Vec<u32> = (0..5000).map(|_| latest.recent(&keys, 1, &mut random)).collect();
        assert!(!reads.contains(&claimed), "it is not written yet");
        latest.inserts.written(&keys, claimed);
        let reads: Vec<u32> = (0..5000).map(|_| latest.recent(&keys, 1, &mut random)).collect();
        assert!(newest(&reads, initial.end + 1) > 400);
        let room = keys.positions_of(1).end - initial.end;
        let all: Vec<u32> = (0..room + 5).map(|_| latest.inserts.claim(&keys, 1)).collect();
        assert!(all.iter().all(|&position| position < keys.positions_of(1).end), "full is full");
    }
}
