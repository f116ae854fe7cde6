//! Makes a failing plan small: fewer faults, fewer steps, simpler options, a shorter phase of faults, as long as it fails.
//!
//! Lists shrink by delta debugging (Zeller and Hildebrandt, 2002): halves are taken away, then quarters, and so on down to
//! single elements. A plan is deterministic but not monotonous: taking one fault away may move every event after it. So
//! what comes out is small, not the smallest.

use crate::plan::{Act, Options, Plan, Step};

/// A plan that fails as the one it was made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    /// The smallest plan found that fails.
    pub plan: Plan,
    /// How many plans were run to find it.
    pub runs: u32,
}

/// Shrinks `plan`, which is known to fail, with at most `runs_max` calls of `fails`. That says whether a plan breaks the same
/// property; it is not called for plans that are certain to be as before.
pub fn shrink(plan: &Plan, runs_max: u32, fails: impl FnMut(&Plan) -> bool) -> Shrunk {
    let mut shrinking = Shrinking { plan: plan.clone(), runs_left: runs_max, fails };
    // Each pass may make room for the ones before it.
    loop {
        let before = shrinking.plan.clone();
        shrinking.shorten();
        shrinking.drop_faults();
        shrinking.drop_clients();
        shrinking.drop_steps();
        shrinking.simplify_options();
        if shrinking.plan == before || shrinking.runs_left == 0 {
            return Shrunk { plan: shrinking.plan, runs: runs_max - shrinking.runs_left };
        }
    }
}

struct Shrinking<F> {
    /// The smallest plan so far that fails.
    plan: Plan,
    runs_left: u32,
    fails: F,
}

impl<F: FnMut(&Plan) -> bool> Shrinking<F> {
    /// Goes on with `smaller` if it still fails. Returns whether it does.
    fn keep_if_failing(&mut self, smaller: Plan) -> bool {
        if self.runs_left == 0 || smaller == self.plan {
            return false;
        }
        self.runs_left -= 1;
        let fails = (self.fails)(&smaller);
        if fails {
            self.plan = smaller;
        }
        fails
    }

    /// Heals earlier: what was to come later is left out.
    fn shorten(&mut self) {
        // The longest phase that is known to be too short.
        let mut too_short_ms = 0;
        while self.plan.options.safety_ms - too_short_ms > 1_000 && self.runs_left > 0 {
            let safety_ms = too_short_ms.midpoint(self.plan.options.safety_ms);
            if !self.keep_if_failing(ended_at(&self.plan, safety_ms)) {
                too_short_ms = safety_ms;
            }
        }
    }

    fn drop_faults(&mut self) {
        let faults = self.plan.faults.clone();
        self.drop_elements(faults.len(), |plan, kept| {
            plan.faults = kept.iter().map(|&index| faults[index].clone()).collect();
        });
    }

    fn drop_clients(&mut self) {
        let clients = self.plan.clients.clone();
        self.drop_elements(clients.len(), |plan, kept| {
            plan.clients = kept.iter().map(|&index| clients[index].clone()).collect();
        });
    }

    fn drop_steps(&mut self) {
        let mut steps: Vec<(u64, usize, Act)> = Vec::new();
        for (client, script) in self.plan.clients.iter().enumerate() {
            let mut at_ms = 0;
            for step in script {
                at_ms += u64::from(step.after_ms);
                steps.push((at_ms, client, step.act));
            }
        }
        // By time, so that what is dropped together happened together.
        steps.sort_by_key(|(at_ms, client, _)| (*at_ms, *client));
        let count = self.plan.clients.len();
        self.drop_elements(steps.len(), |plan, kept| {
            let mut clients = vec![Vec::new(); count];
            let mut last_ms = vec![0; count];
            for &index in kept {
                let (at_ms, client, act) = steps[index];
                let after_ms = u32::try_from(at_ms - last_ms[client]).unwrap_or(u32::MAX);
                clients[client].push(Step { after_ms, act });
                last_ms[client] = at_ms;
            }
            plan.clients = clients;
        });
        let idle_dropped = Plan {
            clients: self.plan.clients.iter().filter(|steps| !steps.is_empty()).cloned().collect(),
            ..self.plan.clone()
        };
        self.keep_if_failing(idle_dropped);
    }

    /// Drops as many of `count` elements as it can. `set` makes a plan hold the elements of these numbers, and no others.
    fn drop_elements(&mut self, count: usize, set: impl Fn(&mut Plan, &[usize])) {
        let mut kept: Vec<usize> = (0..count).collect();
        let mut chunk = kept.len();
        while chunk > 0 && self.runs_left > 0 {
            let mut start = 0;
            while start < kept.len() && self.runs_left > 0 {
                let end = (start + chunk).min(kept.len());
                let without: Vec<usize> = kept[..start].iter().chain(&kept[end..]).copied().collect();
                let mut smaller = self.plan.clone();
                set(&mut smaller, &without);
                if self.keep_if_failing(smaller) {
                    kept = without;
                } else {
                    start = end;
                }
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2).min(kept.len()) };
        }
    }

    /// The number of shards and nodes stays: with another, every key and replica would be elsewhere.
    fn simplify_options(&mut self) {
        const SIMPLER: [fn(&mut Options); 15] = [
            |options| options.peers.lost_permille = 0,
            |options| options.peers.duplicated_permille = 0,
            |options| options.peers.held_up_permille = 0,
            |options| options.peers.delay_max_us = options.peers.delay_min_us,
            |options| options.client_links.lost_permille = 0,
            |options| options.client_links.held_up_permille = 0,
            |options| options.client_links.delay_max_us = options.client_links.delay_min_us,
            |options| options.disk.sync_max_us = options.disk.sync_min_us,
            |options| options.clock_rate_ppm.fill(0),
            |options| options.wall_offset_ms.fill(0),
            |options| options.window = 1,
            |options| options.sessions_max = 0,
            |options| options.once_max = 0,
            |options| options.session_bytes_max = 0,
            |options| options.late_copies_permille = 0,
        ];
        for simplify in SIMPLER {
            let mut simpler = self.plan.clone();
            simplify(&mut simpler.options);
            self.keep_if_failing(simpler);
        }
    }
}

/// The plan without what is to happen at `end_ms` or later.
fn ended_at(plan: &Plan, end_ms: u64) -> Plan {
    let mut ended = plan.clone();
    ended.options.safety_ms = end_ms;
    ended.faults.retain(|fault| fault.at_ms < end_ms);
    for steps in &mut ended.clients {
        let mut at_ms = 0;
        steps.retain(|step| {
            at_ms += u64::from(step.after_ms);
            at_ms < end_ms
        });
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, FaultKind};

    fn has_kill(plan: &Plan, node: u16) -> bool {
        plan.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Kill { node: killed, .. } if killed == node))
    }

    /// A drawn plan with two faults of its own, far apart.
    fn plan() -> Plan {
        let mut plan = Plan::draw(3);
        plan.faults.retain(|fault| !matches!(fault.kind, FaultKind::Kill { .. }));
        for (at_ms, node) in [(4_000, 1), (11_000, 2)] {
            plan.faults.push(Fault { at_ms, kind: FaultKind::Kill { node, down_ms: 100 } });
        }
        plan.faults.sort_by_key(|fault| fault.at_ms);
        plan
    }

    fn moments(plan: &Plan) -> Vec<(u64, Act)> {
        let mut moments = Vec::new();
        for steps in &plan.clients {
            let mut at_ms = 0;
            for step in steps {
                at_ms += u64::from(step.after_ms);
                moments.push((at_ms, step.act));
            }
        }
        moments
    }

    #[test]
    fn what_does_not_matter_goes() {
        let shrunk = shrink(&plan(), 1_000, |plan| has_kill(plan, 1) && has_kill(plan, 2)).plan;
        assert_eq!(shrunk.faults.len(), 2);
        assert!(shrunk.clients.is_empty());
        assert!((11_001..12_500).contains(&shrunk.options.safety_ms), "{} ms", shrunk.options.safety_ms);
        assert_eq!(shrunk.options.client_links.lost_permille, 0);
        assert_eq!((shrunk.options.shards, shrunk.options.nodes), (plan().options.shards, plan().options.nodes));
    }

    #[test]
    fn steps_that_matter_stay_when_they_were() {
        let wanted: Vec<(u64, Act)> = moments(&plan()).into_iter().step_by(400).collect();
        let fails = |plan: &Plan| {
            let moments = moments(plan);
            wanted.iter().all(|step| moments.contains(step))
        };
        let shrunk = shrink(&plan(), 2_000, fails).plan;
        let mut left = moments(&shrunk);
        left.sort_by_key(|(at_ms, _)| *at_ms);
        let mut wanted = wanted.clone();
        wanted.sort_by_key(|(at_ms, _)| *at_ms);
        assert_eq!(left, wanted);
        assert!(shrunk.faults.is_empty());
    }

    #[test]
    fn it_ends_when_its_runs_are_used_up() {
        let mut runs = 0;
        let shrunk = shrink(&plan(), 25, |_| {
            runs += 1;
            runs % 2 == 0
        });
        assert_eq!((shrunk.runs, runs), (25, 25));
    }

    #[test]
    fn a_plan_that_stops_failing_when_touched_stays() {
        let shrunk = shrink(&plan(), 1_000, |_| false);
        assert_eq!(shrunk.plan, plan());
    }
}
