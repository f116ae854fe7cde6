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
fn a_put_may_keep_the_time_to_live() {
    accept(
        "what has a time to live keeps it, and what has none gets none",
        "client 1: [0..1] put x=1 expiring ok v1
         client 1: [2..3] put x=2 keeping ok v2
         client 1: [4..5] get x = 2 v2 expiring
         client 1: [6..7] persist x ok v3
         client 1: [8..9] put x=3 keeping ok v4
         client 1: [10..11] get x = 3 v4 lasting",
    );
    accept(
        "a value whose time is over has none to keep",
        "client 1: [0..1] put x=1 expiring ok v1
         client 1: [2..3] put x=2 keeping ok v2
         client 1: [4..5] get x = 2 v2 lasting",
    );
    accept(
        "two puts that keep it may vanish",
        "client 1: [0..1] put x=1 expiring ok v1
         client 1: [2..3] put x=2 keeping ok v2
         client 1: [4..5] put x=3 keeping ok v3
         client 1: [6..7] get x none",
    );
    reject(
        "the time to live was forgotten, though the key was there",
        "get x = 2",
        "client 1: [0..1] put x=1 expiring ok v1
         client 1: [2..3] put x=2 keeping ok v2 before some
         client 1: [4..5] get x = 2 v2 lasting",
    );
    reject(
        "it was made up",
        "get x = 2",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] put x=2 keeping ok v2
         client 1: [4..5] get x = 2 v2 expiring",
    );
}

#[test]
fn a_write_may_be_told_whether_its_key_existed() {
    accept(
        "it is told what is there at its place, in any order of what overlaps",
        "client 1: [0..1] put x=1 ok v1 before none
         client 1: [2..3] put x=2 ok v2 before some
         client 1: [4..5] put x=3 if absent failed v2 before some
         client 1: [6..20] put x=4 ok before none
         client 2: [7..19] delete x ok",
    );
    accept(
        "a value whose time is over is no key",
        "client 1: [0..1] put x=1 expiring ok v1\nclient 1: [2..3] put x=2 ok v2 before none",
    );
    reject("there was a key", "put x=2", "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] put x=2 ok v2 before none");
    reject("there was none", "put x=1", "client 1: [0..1] put x=1 ok v1 before some");
}

#[test]
fn a_write_may_want_no_key_or_one_version() {
    accept(
        "it goes through without a key and with the version, and fails with another",
        "client 1: [0..1] put x=1 if absent or v7 ok v1
         client 1: [2..3] put x=2 if absent or v1 ok v2
         client 1: [4..5] put x=3 if absent or v1 failed v2
         client 1: [6..7] delete x ok v3
         client 1: [8..9] put x=4 if absent or v2 ok v4",
    );
    accept(
        "a value whose time is over is no key",
        "client 1: [0..1] put x=1 expiring ok v1\nclient 1: [2..3] put x=2 if absent or v9 ok v2",
    );
    accept(
        "of two that saw one version, one goes through",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..9] put x=2 if absent or v1 failed v2
         client 2: [2..9] put x=3 if absent or v1 ok v2",
    );
    reject(
        "it went through with another version",
        "if absent or v1 ok v3",
        "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] put x=2 ok v2\nclient 2: [4..5] put x=3 if absent or v1 ok v3",
    );
    reject("it failed without a key", "failed v0", "client 1: [0..1] put x=1 if absent or v1 failed v0");
    reject(
        "it failed with the very version",
        "failed v1",
        "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] put x=2 if absent or v1 failed v1",
    );
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
fn a_value_with_a_time_to_live_may_vanish_and_stays_away() {
    let put = "client 1: [0..1] put x=1 expiring ok v1\n";
    for (what, after) in [
        ("lives", "client 1: [2..3] get x = 1 v1 expiring\nclient 1: [900..901] get x = 1 v1"),
        ("vanishes", "client 1: [2..3] get x = 1 v1\nclient 1: [4..5] get x none\nclient 1: [6..7] get x none"),
        ("vanishes before a delete", "client 1: [2..3] delete x missing v0"),
        ("vanishes before an expire", "client 1: [2..3] expire x missing v0"),
        ("vanishes before a persist", "client 1: [2..3] persist x missing v0"),
        ("vanishes before a put-if-absent", "client 1: [2..3] put x=2 if absent ok v2\nclient 1: [4..5] get x = 2 v2"),
        ("vanishes before a put-if-present", "client 1: [2..3] put x=2 if present failed v0"),
        ("vanishes before a compare-and-set", "client 1: [2..3] put x=2 if v1 failed v0"),
        ("vanishes before an incr", "client 1: [2..3] incr x 5 ok v2 = 5\nclient 1: [4..5] get x = 5 v2 lasting"),
        ("lives through an incr", "client 1: [2..3] incr x 5 ok v2 = 6\nclient 1: [4..5] get x = 6 v2 expiring"),
        ("lives through an append", "client 1: [2..3] append x 0 ok v2 = 2\nclient 1: [4..5] get x none"),
        ("vanishes or not before an open incr", "client 1: [2..?] incr x 5 unknown\nclient 2: [4..5] get x = 5"),
        ("is overwritten", "client 1: [2..3] put x=2 ok v2\nclient 1: [4..5] get x = 2 v2 lasting"),
        (
            "vanishes unseen",
            "client 1: [2..3] get x none\nclient 1: [4..5] put x=1 ok v2\nclient 1: [6..7] get x = 1 v2",
        ),
    ] {
        accept(what, &format!("{put}{after}"));
    }
    for (what, culprit, after) in [
        ("a value that comes back", "[4..5] get x = 1", "client 1: [2..3] get x none\nclient 1: [4..5] get x = 1 v1"),
        (
            "a value that comes back after a delete missed it",
            "[4..5] get x = 1",
            "client 1: [2..3] delete x missing\nclient 1: [4..5] get x = 1",
        ),
        (
            "a value that comes back after a condition failed",
            "[4..5] get x = 1",
            "client 1: [2..3] put x=2 if present failed v0\nclient 1: [4..5] get x = 1",
        ),
        (
            "an incr of a value that had expired",
            "incr x 5 ok v2 = 6",
            "client 1: [2..3] get x none\nclient 1: [4..5] incr x 5 ok v2 = 6",
        ),
        ("a time to live that is denied", "lasting", "client 1: [2..3] get x = 1 v1 lasting"),
        ("a version used again", "put x=2 ok v1", "client 1: [2..3] get x none\nclient 1: [4..5] put x=2 ok v1"),
    ] {
        reject(what, culprit, &format!("{put}{after}"));
    }
    accept(
        "a reader that sees the expiry while another still sees the value",
        &format!("{put}client 2: [2..9] get x none\nclient 3: [2..9] get x = 1 v1"),
    );
}

#[test]
fn a_value_without_a_time_to_live_never_vanishes() {
    reject("a value put for ever", "get x none", "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] get x none");
    reject(
        "a time to live that outlives its value",
        "[4..5] get x none",
        "client 1: [0..1] put x=1 expiring ok v1
         client 1: [2..3] put x=2 ok v2
         client 1: [4..5] get x none",
    );
    reject(
        "a persisted value",
        "[4..5] get x none",
        "client 1: [0..1] put x=1 expiring ok v1
         client 1: [2..3] persist x ok v2
         client 1: [4..5] get x none",
    );
    reject(
        "a persist that was acknowledged blindly",
        "[4..5] get x none",
        "client 1: [0..1] put x=1 expiring ok v1
         client 1: [2..3] persist x applied
         client 1: [4..5] get x none",
    );
    reject(
        "a persist that finds nothing to do on an expiring value",
        "persist x missing v1",
        "client 1: [0..1] put x=1 expiring ok v1\nclient 1: [2..3] persist x missing v1",
    );
}

#[test]
fn a_time_to_live_can_be_set_and_taken_away() {
    let put = "client 1: [0..1] put x=1 ok v1\n";
    for (what, after) in [
        ("set", "client 1: [2..3] expire x ok v2\nclient 1: [4..5] get x = 1 v2 expiring\nclient 1: [6..7] get x none"),
        (
            "set perhaps",
            "client 2: [2..?] expire x unknown\nclient 1: [4..5] get x = 1 v1\nclient 1: [6..7] get x none",
        ),
        ("not there", "client 1: [2..3] persist x missing v1\nclient 1: [4..5] get x = 1 v1 lasting"),
        (
            "set and taken away",
            "client 1: [2..3] expire x ok v2\nclient 1: [4..5] persist x ok v3\nclient 1: [6..7] get x = 1 v3 lasting",
        ),
        ("not set", "client 1: [2..3] expire x if v9 failed v1\nclient 1: [4..5] get x = 1 v1 lasting"),
    ] {
        accept(what, &format!("{put}{after}"));
    }
    reject(
        "a time to live that was not set",
        "get x none",
        &format!("{put}client 1: [2..3] expire x if v9 failed v1\nclient 1: [4..5] get x none"),
    );
    reject("an expire that finds nothing", "expire x missing", &format!("{put}client 1: [2..3] expire x missing v0"));
    reject(
        "an expire that keeps the version",
        "get x = 1",
        &format!("{put}client 1: [2..3] expire x ok v2\nclient 1: [4..5] get x = 1 v1"),
    );
}

#[test]
fn a_list_tells_which_open_appends_took_effect() {
    // Forty open appends, of which any may have taken effect at any time, and answers that tell lengths only.
    let mut lines: Vec<String> =
        (0..40).map(|number| format!("client 1: [0..?] append x {number:02} unknown")).collect();
    lines.extend((0..20).map(|number| {
        let (from, length) = (number * 10 + 1, (number + 1) * 4);
        format!("client 2: [{from}..{}] append x {} ok = {length}", from + 1, number + 50)
    }));
    let list: String = (0..20).map(|number| format!("{:02}{}", 39 - number, number + 50)).collect();
    let judged = |list: &str| format!("{}\nclient 3: [500..501] get x = {list}", lines.join("\n"));
    accept("the order that the list shows", &judged(&list));
    reject("a list that lacks an acknowledged append", "get x = ", &judged(&list.replace("69", "")));
    reject("a list that holds an append twice", "get x = ", &judged(&list.replace("30", "39")));
    reject(
        "a list in another order",
        "get x = ",
        &judged(&list.replace("68", "xx").replace("69", "68").replace("xx", "69")),
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
client 7: [9..10] put x=9 expiring if absent ok v8
client 7: [11..12] expire x if v8 ok v9
client 7: [13..14] get x = 9 v9 expiring
client 7: [15..16] persist x ok v10
client 7: [17..18] get x = 9 lasting
client 7: [19..20] persist x missing v10
";
    let history: History = text.parse().expect("the text is well formed");
    assert_eq!(history.to_string(), text);
    assert_eq!(history.operations().len(), 16);
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
        ("client 1: [0..1] put x=1 if v ok", "line 1: expected absent, present, a version or =VALUE after `if`"),
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

#[test]
fn what_is_done_together_is_done_at_one_instant_and_in_turn() {
    accept(
        "each step sees those before it, and one that fails does not stop the others",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] together x if v1 do get x = 1 v1 ; incr x 4 ok v2 = 5 ; append x a ok v3 = 2 ; incr x 1 refused ; put x=7 if absent failed v3 ; get x = 5a v3 end ok
         client 1: [4..5] get x = 5a v3",
    );
    accept(
        "one whose check fails has done nothing",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] together x if v2 do get x ; delete x end failed v1
         client 1: [4..5] get x = 1 v1",
    );
    accept(
        "of one without an answer each step is done that can be, or nothing is",
        "client 1: [0..1] put x=a ok v1
         client 1: [2..?] together x do incr x 1 ; put x=b end unknown
         client 1: [2..?] together x if v1 do put x=c end unknown
         client 2: [3..4] get x = b
         client 2: [5..6] get x = b",
    );
    reject(
        "nothing comes in between",
        "get x = 1 v1",
        "client 1: [0..1] put x=1 ok v1
         client 2: [2..5] put x=2 ok v2
         client 1: [2..6] together x do get x = 1 v1 ; get x = 2 v2 end ok",
    );
    reject(
        "a read sees the write before it",
        "get x = 1 v1 end",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] together x do put x=2 ok v2 ; get x = 1 v1 end ok",
    );
    reject(
        "a check that fails does not go through",
        "if v1",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] delete x ok v2
         client 1: [4..5] together x if v1 do get x none end ok",
    );
    reject(
        "none of it is left out",
        "get x = 2 v2",
        "client 1: [0..1] together x do put x=2 ok v2 ; incr x 1 ok v3 = 3 end ok
         client 1: [2..3] get x = 2 v2",
    );
    reject(
        "what can be done is not refused",
        "refused",
        "client 1: [0..1] together x do put x=2 ok v2 ; incr x 1 refused end ok",
    );
}

#[test]
fn values_are_compared_and_changed_in_part() {
    accept(
        "ranges, bits and quarters",
        "client 1: [0..1] range x 2 ab ok v1 = 4
         client 1: [2..3] bit x 7 1 ok v2 = 0
         client 1: [4..5] bit x 7 1 ok v3 = 1
         client 1: [6..7] get x = \\x01\\x00ab v3
         client 1: [8..9] range x 3 cd ok v4 = 5
         client 1: [10..11] put x=y if =\\x01\\x00acd ok v5
         client 1: [12..13] delete x if =z failed v5
         client 1: [14..15] quarters y 3 ok v6 = 0.75
         client 1: [16..17] quarters y -7 ok v7 = -1
         client 1: [18..19] get y = -1 v7",
    );
    accept(
        "a value that nobody has read is not any other one that nobody has",
        "client 1: [0..?] put x=1 unknown
         client 2: [1..?] put x=2 unknown
         client 3: [5..6] put x=2 if =2 ok v3",
    );
    reject("a bit that is not set", "= 1", "client 1: [0..1] bit x 3 1 ok v1 = 1");
    reject("another sum", "= 1.5", "client 1: [0..1] quarters x 5 ok v1 = 1.5");
    reject(
        "a value that is another one, and as long",
        "if =3",
        "client 1: [0..1] put x=2 ok v1\nclient 1: [2..3] delete x if =3 ok v2",
    );
    accept(
        "a time to live that is set if the one that is there is as wanted",
        "client 1: [0..1] put x=1 ok v1
         client 1: [2..3] expire x if some failed v1
         client 1: [4..5] expire x if longer failed v1
         client 1: [6..7] expire x if none ok v2
         client 1: [8..9] get x = 1 v2 expiring
         client 1: [10..11] expire x if none failed v2
         client 1: [12..13] expire x if shorter failed v2
         client 1: [14..15] expire x if longer ok v3",
    );
    reject(
        "one that has none is not made longer",
        "longer",
        "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] expire x if longer ok v2",
    );
    reject(
        "one that has none is made shorter",
        "shorter",
        "client 1: [0..1] put x=1 ok v1\nclient 1: [2..3] expire x if shorter failed v1",
    );
}

#[test]
fn what_is_done_together_reads_as_it_was_written() {
    let text = "client 1: [2..3] together x if v1 do get x = 1 v1 ; incr x 4 ok v2 = 5 ; incr x 1 refused end ok
client 1: [2..3] together x if =a do get x ; delete x end failed v1
client 1: [2..?] together x do range x 2 ab ; bit x 9 1 ; quarters x -3 ; expire x if shorter end unknown
client 2: [4..5] quarters x 1 ok v3 = 0.25
client 2: [6..7] expire x if none if v3 failed v4
";
    assert_eq!(text.parse::<History>().expect("the history is well formed").to_string(), text);
}
