//! What followers hear of commits.

use super::*;

/// The leader's disk is the slowest: it knows of the commit, and has not applied it.
#[test]
fn followers_apply_nothing_before_their_leader() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([0]);
    let ticket = group.write(0, "k", put("v"));
    group.settle();
    let (committed, applied) = (group.shard(0).status().committed, group.shard(0).status().applied);
    assert!(committed > applied, "two followers have synced entry {committed}, and the leader has applied {applied}");
    group.advance(4 * TICK_MS);
    for follower in [1, 2] {
        assert_eq!(group.value(follower, "k"), None, "replica {follower} is ahead of its leader");
    }
    assert_eq!(group.replies.get(&ticket), None);
    group.hanging.clear();
    group.settle();
    assert!(matches!(group.replies.get(&ticket), Some(ShardReply::Written(_))));
    // The next heartbeat tells of the rest.
    group.advance(4 * TICK_MS);
    for follower in [1, 2] {
        assert_eq!(group.value(follower, "k").as_deref(), Some("v"));
    }
}
