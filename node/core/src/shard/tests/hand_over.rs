//! Hand-overs that nobody takes up, and ones that had better not begin.

use super::*;

#[test]
fn a_hand_over_closes_the_gate_first_and_loses_nothing() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    assert!(group.gate_is_open(0));
    assert!(group.hand_over(0));
    assert!(!group.gate_is_open(0), "before anything has left");
    group.settle();
    let leader = group.leader().expect("a hand-over needs no time-out");
    assert_ne!(leader, 0);
    group.written(leader, "k", put("w"));
    assert!(!group.gate_is_open(0));
}

#[test]
fn a_hand_over_to_the_leader_itself_costs_it_nothing() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    group.shard(0).transfer_to(id(0));
    group.settle();
    assert!(group.gate_is_open(0));
}

#[test]
fn a_hand_over_that_nobody_takes_up_is_given_up_and_the_lease_comes_back() {
    let mut group = Group::led();
    let term = group.shard(0).status().term;
    group.cut.insert(1);
    group.shard(0).transfer_to(id(1));
    assert!(!group.gate_is_open(0));
    group.advance(u64::from(ELECTION_TICKS + 1) * TICK_MS);
    assert_eq!(group.leader(), Some(0));
    assert_eq!(group.shard(0).status().term, term);
    group.written(0, "k", put("taken after one election timeout"));
    assert!(!group.gate_is_open(0), "`campaign now` may be under way still, and followers would heed it");
    group.advance(u64::from(ELECTION_TICKS + 2) * TICK_MS);
    assert_eq!(group.leader(), Some(0));
    assert_eq!(group.shard(0).status().term, Term(term.0 + 1), "it has begun a term in which nobody was asked");
    assert!(group.gate_is_open(0));
    // The one that was asked is back, and hears of it only now.
    group.cut.clear();
    group.advance(4 * TICK_MS);
    assert_eq!((group.leader(), group.shard(0).status().term), (Some(0), Term(term.0 + 1)));
}

#[test]
fn leadership_is_not_given_back_to_a_replica_that_has_just_gone() {
    let mut group = Group::led();
    group.shard(0).transfer_to(id(1));
    assert_eq!(group.await_leader(&[1]), 1);
    // It is the preferred one, and goes right before it would be given the shard back.
    group.advance(BALANCE_EVERY_MS - 12 * TICK_MS);
    let term = group.shard(1).status().term;
    assert_eq!(group.leader(), Some(1), "not given back yet");
    group.cut.insert(0);
    group.advance(2 * BALANCE_EVERY_MS);
    assert_eq!((group.leader(), group.shard(1).status().term), (Some(1), term));
    assert!(group.gate_is_open(1), "it has tried nothing that would have cost it the lease");
}

#[test]
fn leadership_is_not_given_back_to_a_replica_that_has_just_started() {
    let handed_over = || {
        let mut group = Group::led();
        group.shard(0).transfer_to(id(1));
        assert_eq!(group.await_leader(&[1]), 1);
        group
    };
    // When it is given back to one that has not.
    let mut group = handed_over();
    let mut ticks = 0;
    while group.leader() == Some(1) {
        group.advance(TICK_MS);
        ticks += 1;
    }
    // It answers writes before it answers the first heartbeat, or after.
    for goes_at in [ticks - 7, ticks - 6] {
        let mut group = handed_over();
        group.advance(goes_at * TICK_MS);
        let term = group.shard(1).status().term;
        assert_eq!(group.leader(), Some(1), "not given back yet");
        group.kill(0);
        group.advance(5 * TICK_MS);
        // For one election timeout it ignores "campaign now".
        group.restart(0);
        for _ in 0..2 * ELECTION_TICKS {
            group.tick();
            let leader = group.leader().expect("somebody serves");
            // Goes back if leadership does.
            group.write(leader, "k", put("v"));
            group.settle();
            assert!(!group.shard(leader).is_handing_over(), "nobody waits for a replica that does not campaign");
        }
        let given_back = (group.leader(), group.shard(0).status().term);
        assert_eq!(given_back, (Some(0), Term(term.0 + 1)), "it is given back then");
    }
}

#[test]
fn whoever_stops_prefers_a_successor_that_takes_over_at_once() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    group.kill(1);
    group.restart(1);
    group.advance(2 * TICK_MS);
    assert!(group.hand_over(0));
    group.settle();
    assert_eq!(group.leader(), Some(2), "the other one has just started, and is the first of two that hold as much");
}

#[test]
fn a_hand_over_ends_when_its_successor_is_not_fit_any_more() {
    let mut group = Group::led();
    let unfit = Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
    group.set_unfit(&unfit);
    group.cut.insert(1);
    for has_begun in [false, true] {
        if !has_begun {
            // On its way, so that the hand-over is in its first stage.
            group.write(0, "k", put("v"));
            group.poll(0);
        }
        group.shard(0).transfer_to(id(1));
        assert!(group.shard(0).is_handing_over());
        if has_begun {
            group.settle();
        }
        unfit.lock().insert(1);
        group.written(0, "k", put("taken at once"));
        assert!(!group.shard(0).is_handing_over());
        unfit.lock().clear();
    }
}

#[test]
fn a_batch_behind_an_append_without_entries_names_the_entry_before_it() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let first = group.write(0, "k", put("lost on its way to the third"));
    group.poll(0);
    group.network.retain(|message| message.to != id(2));
    group.settle();
    // In one turn the leader hears an answer to its heartbeat, which it follows up with an append without entries, and that
    // the third misses one. `round` fails if a replica refuses a message.
    group.tick();
    group.tick();
    let second = group.write(0, "k", put("refused by the third"));
    group.settle();
    for ticket in [first, second] {
        assert!(matches!(group.replies[&ticket], ShardReply::Written(_)), "{:?}", group.replies[&ticket]);
    }
    assert_eq!(group.shard(2).log().last_index(), group.shard(0).log().last_index());
}

impl Group {
    /// Answers a request for whoever leads in `term`.
    fn ask(&mut self, position: usize, term: Term, operation: Operation) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let deadline = self.now.monotonic.after_ms(DEADLINE_MS);
        let request = ShardRequest { ticket, client: client(), deadline, term, operation };
        self.shard(position).handle_requests([request]);
        self.poll(position);
        ticket
    }

    fn incr(&mut self) -> Operation {
        write(self.fresh_id(), Ack::Committed, "n", Action::Incr { by: 1 })
    }
}

fn returned(reply: Option<&ShardReply>) -> Option<Returned> {
    match reply {
        Some(ShardReply::Returned(returned)) => Some((**returned).clone()),
        _ => None,
    }
}

#[test]
fn a_hand_over_under_load_answers_nothing_with_an_error() {
    let mut group = Group::led();
    let (mut leader, mut asked, mut again) = (0, Vec::new(), Vec::new());
    for round in 0..200 {
        let incr = group.incr();
        let term = group.shard(leader).status().term;
        asked.push(group.ask(leader, term, incr));
        let read = group.ask(leader, term, Operation::Confirm);
        if round % 10 == 3 {
            let successor = (leader + 1) % 3;
            group.shard(leader).transfer_to(id(successor));
            // What comes while the hand-over runs, in each of its stages.
            for _ in 0..6 {
                let incr = group.incr();
                asked.push(group.ask(leader, term, incr));
                group.round();
            }
            leader = group.await_leader(&[successor]);
        }
        group.round();
        for ticket in asked.clone().into_iter().chain([read]) {
            if let Some(Returned { operation, term }) = returned(group.replies.get(&ticket)) {
                group.replies.remove(&ticket);
                let current = group.shard(leader).status().term;
                assert!(term < current, "it is of use to the leader of a later term only");
                again.push(group.ask(leader, current, operation));
            }
        }
        asked.append(&mut again);
    }
    group.settle();
    let answers: Vec<ShardReply> = std::mem::take(&mut group.replies).into_values().collect();
    let is_answer = |reply: &ShardReply| matches!(reply, ShardReply::MayRead | ShardReply::Written(_));
    let error = answers.iter().find(|reply| !is_answer(reply));
    assert!(error.is_none(), "{error:?}");
    let written = answers.iter().filter(|reply| matches!(reply, ShardReply::Written(_))).count();
    assert_eq!(written, 200 + 20 * 6, "each is answered once");
    // And each took effect once: what was returned had not been in any log.
    assert_eq!(group.value(leader, "n"), Some(written.to_string()));
}

#[test]
fn a_leader_lets_what_it_proposed_commit_before_it_hands_over() {
    let mut group = Group::led();
    let term = group.shard(0).status().term;
    group.hanging = BTreeSet::from([1, 2]);
    let proposed = group.write(0, "k", put("proposed"));
    group.settle();
    group.shard(0).transfer_to(id(1));
    let held = group.write(0, "k", put("held"));
    group.settle();
    assert!(group.gate_is_open(0), "nobody else may lead yet");
    assert_eq!((group.leader(), group.replies.len()), (Some(0), 0));
    group.hanging.clear();
    group.settle();
    assert!(matches!(group.replies.get(&proposed), Some(ShardReply::Written(_))), "{:?}", group.replies);
    assert_eq!(group.leader(), Some(1));
    let back = returned(group.replies.get(&held)).expect("it was not proposed");
    assert!(matches!(back.operation, Operation::Write { .. }));
    assert!(!group.gate_is_open(0) && group.shard(1).status().term > term);
}

#[test]
fn entries_that_do_not_commit_hold_a_hand_over_up_for_an_election_timeout() {
    let mut group = Group::led();
    let term = group.shard(0).status().term;
    group.hanging = BTreeSet::from([0, 2]);
    group.cut = BTreeSet::from([2]);
    let proposed = group.write(0, "k", put("v"));
    group.settle();
    group.shard(0).transfer_to(id(1));
    group.cut = BTreeSet::from([1, 2]);
    group.advance(u64::from(ELECTION_TICKS - 1) * TICK_MS);
    group.hanging.clear();
    group.cut.clear();
    let leader = group.await_leader(&[0, 1, 2]);
    group.advance(4 * TICK_MS);
    assert!(group.shard(leader).status().term >= term);
    assert!(matches!(group.replies.get(&proposed), Some(ShardReply::Written(_))), "{:?}", group.replies);
}

#[test]
fn a_request_for_the_leader_of_another_term_goes_back_to_the_one_that_leads() {
    let mut group = Group::led();
    let before = group.shard(0).status().term;
    group.shard(0).transfer_to(id(1));
    group.await_leader(&[1]);
    group.shard(1).transfer_to(id(0));
    group.await_leader(&[0]);
    let incr = group.incr();
    let late = group.ask(0, before, incr);
    group.settle();
    let back = returned(group.replies.get(&late)).expect("one that was sent before it may have gone back");
    assert_eq!(back.term, before);
    assert_eq!(group.value(0, "n"), None);
    let anybody = group.ask(0, Term(0), back.operation);
    group.settle();
    assert!(matches!(group.replies.get(&anybody), Some(ShardReply::Written(_))));
}

#[test]
fn a_hand_over_that_nobody_takes_up_holds_requests_and_goes_on_with_them() {
    let mut group = Group::led();
    group.cut.insert(1);
    group.shard(0).transfer_to(id(1));
    let incr = group.incr();
    let term = group.shard(0).status().term;
    let held = group.ask(0, term, incr);
    group.advance(u64::from(ELECTION_TICKS - 2) * TICK_MS);
    assert_eq!(group.replies.get(&held), None);
    group.advance(4 * TICK_MS);
    assert!(matches!(group.replies.get(&held), Some(ShardReply::Written(_))), "{:?}", group.replies.get(&held));
}
