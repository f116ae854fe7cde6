//! Histories that are known to be linearizable, and ones that are known not to be, as text.

use kvorum_sim::checker::{Completion, History, Limits, Verdict, check};

fn judge(text: &str) -> Verdict {
    check(&text.parse::<History>().expect("the history is well formed"), Limits::default())
}

fn accept(what: &str, text: &str) {
    let verdict = judge(text);
    assert!(verdict.is_linearizable(), "{what} is linearizable, the checker says {verdict:?}");
}

/// Asserts that the history is rejected, and that the answer which is blamed is the line that holds `culprit`.
fn reject(what: &str, culprit: &str, text: &str) {
    match judge(text) {
        Verdict::NotLinearizable(report) => {
            assert!(report.culprit.to_string().contains(culprit), "{what}: blamed the wrong answer\n{report}");
        }
        verdict => panic!("{what} is not linearizable, the checker says {verdict:?}"),
    }
}

#[test]
fn sequential_histories() {
    accept("nothing at all", "");
    accept("one client alone", "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] get x = 1 v1");
    accept("a key never written", "client 1: [0..1] get x none\nclient 1: [2..3] delete x missing v0");
    accept(
        "every kind of write",
        "client 1: [0..1] put x=1 if absent ok v1
         client 1: [2..3] incr x 41 ok v2 = 42
         client 1: [4..5] append x 0 ok v3 = 3
         client 1: [6..7] get x = 420 v3
         client 1: [8..9] put x=2 if v3 ok v4
         client 1: [10..11] put x=3 if v3 failed v4
         client 1: [12..13] put x=3 if absent failed v4
         client 1: [14..15] delete x if present ok v5
         client 1: [16..17] put x=3 if present failed v0
         client 1: [18..19] incr x -1 ok v6 = -1
         client 1: [20..21] get x = -1 v6",
    );
    reject("a value never written", "get x = 2", "client 1: [0..1] put x=1 ok\nclient 1: [2..3] get x = 2");
}

#[test]
fn keys_are_independent() {
    accept("writes of two keys", "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] get y none");
    reject(
        "one broken key of three",
        "get y = 9",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] put y=1 ok v2
         client 1: [4..5] get y = 9 v2
         client 1: [6..7] get z none",
    );
}

#[test]
fn concurrent_writes_may_go_either_way() {
    for last in ["1", "2"] {
        accept(
            "either of two writes may be the last",
            &format!(
                "client 1: [0..10] put x=1 ok
                 client 2: [0..10] put x=2 ok
                 client 3: [11..12] get x = {last}"
            ),
        );
    }
    accept(
        "reads under writes, in the reverse order of calls",
        "client 1: [0..100] put x=1 ok
         client 2: [1..100] put x=2 ok
         client 3: [2..100] put x=3 ok
         client 4: [10..20] get x = 3
         client 4: [30..40] get x = 2
         client 4: [50..60] get x = 1",
    );
    reject(
        "two readers that see two writes in different orders",
        "get x = ",
        "client 1: [0..100] put x=1 ok
         client 2: [0..100] put x=2 ok
         client 3: [10..20] get x = 1
         client 3: [30..40] get x = 2
         client 4: [10..20] get x = 2
         client 4: [30..40] get x = 1",
    );
}

#[test]
fn answers_at_the_instant_of_a_call_are_concurrent_with_it() {
    accept("a read called when the write returns", "client 1: [0..5] put x=1 ok\nclient 2: [5..6] get x none");
    reject("a read called after it", "none", "client 1: [0..5] put x=1 ok\nclient 2: [6..7] get x none");
}

#[test]
fn a_stale_read_is_caught() {
    let stale = "client 1: [0..1] put x=1 ok v1
                 client 1: [2..3] put x=2 ok v2
                 client 2: [4..5] get x = 1 v1";
    reject("a stale read", "get x = 1 v1", stale);
    reject("a stale read without versions", "get x = 1", &stale.replace(" v1", "").replace(" v2", ""));
    reject(
        "a read that goes back behind another read",
        "client 3: [30..40] get x none",
        "client 1: [0..100] put x=1 ok
         client 2: [10..20] get x = 1
         client 3: [30..40] get x none",
    );
}

#[test]
fn a_lost_write_is_caught() {
    reject("a lost put", "get x none", "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] get x none");
    reject(
        "a delete undone",
        "get x = 1",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] delete x ok v2
         client 1: [4..5] get x = 1 v1",
    );
    reject(
        "a lost increment",
        "= 1",
        "client 1: [0..5] incr x 1 ok = 1
         client 2: [0..5] incr x 1 ok = 1",
    );
    reject(
        "two winners of one compare-and-set",
        "if v1 ok",
        "client 1: [0..1] put x=1 ok v1
         client 2: [2..9] put x=2 if v1 ok v2
         client 3: [2..9] put x=3 if v1 ok v3",
    );
    reject(
        "a put that was acknowledged blindly and lost",
        "get x none",
        "client 1: [0..1] put x=1 applied\nclient 2: [2..3] get x none",
    );
}

#[test]
fn an_increment_that_takes_effect_twice_is_caught() {
    reject(
        "a double increment",
        "get x = 2",
        "client 1: [0..1] incr x 1 ok v1 = 1
         client 1: [2..3] get x = 2 v2",
    );
    reject(
        "an open increment that takes effect twice",
        "get x = 3",
        "client 1: [0..1] incr x 1 ok v1 = 1
         client 2: [2..?] incr x 1 unknown
         client 1: [4..5] get x = 3 v3",
    );
}

#[test]
fn an_open_write_may_take_effect_at_any_time_or_never() {
    let before = "client 1: [0..1] put x=1 ok v1\nclient 2: [2..?] put x=2 unknown\n";
    for (what, after) in [
        ("never", "client 1: [3..4] get x = 1 v1\nclient 1: [5..6] put x=3 ok v2"),
        ("at once", "client 1: [3..4] get x = 2 v2\nclient 1: [5..6] put x=3 ok v3"),
        ("much later", "client 1: [3..4] get x = 1 v1\nclient 1: [500..600] get x = 2 v9"),
        ("unseen", "client 1: [3..4] get x = 1 v1\nclient 1: [5..6] put x=3 ok v3\nclient 1: [7..8] get x = 3 v3"),
        ("over a later write", "client 1: [3..4] put x=3 ok v2\nclient 1: [5..6] get x = 2 v3"),
    ] {
        accept(what, &format!("{before}{after}"));
    }
    reject(
        "an open write that takes effect, is overwritten, and takes effect again",
        "client 1: [7..8] get x = 2",
        &format!(
            "{before}client 1: [3..4] get x = 2 v2\nclient 1: [5..6] put x=3 ok v3\nclient 1: [7..8] get x = 2 v4"
        ),
    );
    reject(
        "an open write seen before it was called",
        "get x = 1",
        "client 1: [0..1] get x = 1\nclient 2: [2..?] put x=1 unknown",
    );
}

#[test]
fn an_open_conditional_write_needs_its_condition() {
    reject(
        "an open put-if-absent over an existing key",
        "get x = 2",
        "client 1: [0..1] put x=1 ok v1
         client 2: [2..?] put x=2 if absent unknown
         client 1: [3..4] get x = 2",
    );
    accept(
        "an open compare-and-set whose version was never told",
        "client 1: [0..1] put x=1 applied
         client 2: [2..?] put x=2 if v7 unknown
         client 1: [3..4] get x = 2 v8",
    );
    reject(
        "the same, with a version that does not grow",
        "get x = 2",
        "client 1: [0..1] put x=1 applied
         client 2: [2..?] put x=2 if v7 unknown
         client 1: [3..4] get x = 2 v7",
    );
}

#[test]
fn versions_grow_with_every_write_of_a_key() {
    reject(
        "a version that goes back",
        "put x=2 ok v4",
        "client 1: [0..1] put x=1 ok v5
         client 1: [2..3] put x=2 ok v4",
    );
    reject(
        "a version used twice",
        "put x=2 ok v5",
        "client 1: [0..1] put x=1 ok v5
         client 1: [2..3] put x=2 ok v5",
    );
    reject(
        "a read of the right value under the wrong version",
        "get x = 1 v2",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] get x = 1 v2",
    );
    reject(
        "a key that comes back with an older version than its removal's",
        "put x=2 ok v6",
        "client 1: [0..1] put x=1 ok v5
         client 1: [2..3] delete x ok v7
         client 1: [4..5] put x=2 ok v6",
    );
    accept(
        "versions order concurrent writes",
        "client 1: [0..9] put x=1 ok v2
         client 2: [0..9] put x=2 ok v1
         client 3: [10..11] get x = 1 v2",
    );
    reject(
        "and only in that order",
        "get x = 2",
        "client 1: [0..9] put x=1 ok v2
         client 2: [0..9] put x=2 ok v1
         client 3: [10..11] get x = 2",
    );
}

#[test]
fn text_is_read_and_written_alike() {
    let text = "\
client 1: [0..10] put x=1 ok v3
client 1: [0..10] put x=\"\" if absent failed v4
client 2: [5..20] get x = a\\x20b\\x00\\x3d v3
client 2: [5..20] get x none
client 3: [6..7] delete x if v3 missing
client 4: [8..9] incr x -2 if present ok v6 = -2
client 4: [8..9] append x yz ok = 3
client 5: [9..9] put x=9 applied
client 5: [9..?] put x=9 unknown
client 6: [9..?] get x unknown
";
    let history: History = text.parse().expect("the text is well formed");
    assert_eq!(history.to_string(), text);
    assert_eq!(history.operations().len(), 10);
    assert_eq!(history.operations()[7].completion, Completion::AppliedUnseen { at: 9 });
}

#[test]
fn text_that_is_no_history_is_refused_with_its_line() {
    for (text, message) in [
        ("hello", "line 1: expected `client NUMBER: [CALLED..RETURNED] OPERATION`"),
        ("\nclient 1: [0..1] put x ok", "line 2: expected `KEY=VALUE`"),
        ("client 1: [5..1] get x none", "line 1: expected an answer that is not before its call"),
        ("client 1: [0..1] get x none none", "line 1: expected the end of the line"),
        ("client 1: [0..?] get x none", "line 1: expected `unknown` after `..?`"),
        ("client 1: [0..1] put x=\\x2 ok", "line 1: expected `\\x` and two digits"),
        ("client 1: [0..1] put x=1 if v ok", "line 1: expected absent, present or a version after `if`"),
    ] {
        assert_eq!(text.parse::<History>().expect_err("not a history").to_string(), message);
    }
}

#[test]
fn a_report_shows_the_answer_and_what_was_known_before_it() {
    let verdict = judge(
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] put x=2 ok v2
         client 3: [2..9] put x=3 ok v3
         client 2: [4..5] get x = 1 v1
         client 2: [20..25] get x = 3 v3",
    );
    let Verdict::NotLinearizable(report) = verdict else { panic!("a stale read passed") };
    let expected = "\
key x is not linearizable
nothing explains this answer (4 of 5 operations seen):
  client 2: [4..5] get x = 1 v1
an order that explains every answer before it ends:
  client 1: [0..1] put x=1 ok v1
  client 1: [2..3] put x=2 ok v2
and leaves the key at 2 with version 2
operations at the same time:
  client 3: [2..9] put x=3 ok v3
";
    assert_eq!(report.to_string(), expected);
}

#[test]
fn the_step_limit_leaves_a_history_undecided() {
    let history: History = "client 1: [0..1] put x=1 ok\nclient 1: [2..3] get x = 1".parse().expect("well formed");
    let verdict = check(&history, Limits { steps_per_key_max: 1 });
    assert_eq!(verdict, Verdict::Undecided { key: b"x".to_vec(), steps: 1 });
}
