//! Tokens, by which nodes join that have no certificate yet: the map holds the public half of each, and who has used it. Pure.
//!
//! A token is used in the very change that adds its node, so of two nodes that come with one token the group's log lets one in. It
//! stays in the map until its time is over: the node that used it may have died before it got its certificate, and asks again. Then it
//! stays a little longer, good for nothing: whoever had it made may not have heard yet that it was, and asks again too.

use super::decide::Seen;
use super::verbs::{VerbRefusal, join, within};
use super::{RingMap, Unknown};
use kvorum_protocol::limits::{NAME_BYTES_MAX, TOKEN_MS_MAX, TOKENS_MAX};
use kvorum_protocol::{NewNode, NewToken, NodeId, NodeKey, TokenId, TokenKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// For how long the map keeps a token whose time is over. Whoever asks for one with a short life asks again until the map in force has
/// it: without this, it would be made again and again, and be over before each look.
const KEPT_OVER_MS: u64 = 10_000;

/// A token as the ring map knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RingToken {
    /// Which it is.
    pub id: Uuid,
    /// Its public half. Whoever reads the map can check a proof with it, and make none.
    #[serde(with = "text")]
    pub key: TokenKey,
    /// The name of the node that may join by it; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The zone of that node; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// For how long it is good, in milliseconds. Each leader of `meta` counts from when it sees it: nobody believes a wall clock.
    pub for_ms: u64,
    /// Who has joined by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<TokenUse>,
    /// What a newer version has added: kept as it is.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Who has joined by a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenUse {
    /// The node.
    pub node: Uuid,
    /// Its key: no other one gets a certificate of that node.
    #[serde(with = "text")]
    pub key: NodeKey,
}

impl RingMap {
    /// A token of which the cluster knows.
    pub fn token(&self, id: TokenId) -> Option<&RingToken> {
        self.tokens.iter().find(|token| token.id == id.0)
    }

    /// Whether a node has joined by a token with that key, and is a node of the cluster.
    pub fn admits(&self, id: TokenId, node: NodeId, key: NodeKey) -> bool {
        let used = self.token(id).and_then(|token| token.used);
        used == Some(TokenUse { node: node.0, key }) && self.has_node(node)
    }

    /// The map without the tokens whose time has been over for a while, and these; `None` if there are none.
    pub(super) fn without_old_tokens(&self, seen: &Seen) -> Option<(Self, Vec<TokenId>)> {
        let mut next = self.next_epoch();
        let old = next.tokens.extract_if(.., |token| is_over_since(token, seen, KEPT_OVER_MS));
        let old: Vec<TokenId> = old.map(|token| TokenId(token.id)).collect();
        (!old.is_empty()).then_some((next, old))
    }

    pub(super) fn check_tokens(&self) -> Result<(), &'static str> {
        let repeats = |(at, token): (usize, &RingToken)| self.tokens[..at].iter().any(|other| other.id == token.id);
        if self.tokens.len() > TOKENS_MAX || self.tokens.iter().enumerate().any(repeats) {
            return Err("its tokens");
        }
        Ok(())
    }
}

fn is_over(token: &RingToken, seen: &Seen) -> bool {
    is_over_since(token, seen, 0)
}

fn is_over_since(token: &RingToken, seen: &Seen, over_ms: u64) -> bool {
    seen.tokens.get(&TokenId(token.id)).is_some_and(|ms| *ms >= token.for_ms.saturating_add(over_ms))
}

/// A token is made known. Where there are too many, those whose time is over make room.
pub(super) fn add(ring: &RingMap, seen: &Seen, new: &NewToken) -> Result<Option<RingMap>, VerbRefusal> {
    within("the life of a token in milliseconds", new.for_ms, 1, TOKEN_MS_MAX)?;
    let unusable = |what, value: &str, why| Err(VerbRefusal::Unusable { what, value: value.to_owned(), why });
    if let Some(known) = ring.token(new.id) {
        let same = (known.key, &known.name, &known.zone, known.for_ms) == (new.key, &new.name, &new.zone, new.for_ms);
        // Asked again.
        return if same {
            Ok(None)
        } else {
            unusable("the token", &new.id.to_string(), "there is another one of that id")
        };
    }
    for (what, text) in [("the name", &new.name), ("the zone", &new.zone)] {
        if let Some(text) = text.as_ref().filter(|text| text.is_empty() || text.len() > NAME_BYTES_MAX) {
            return unusable(what, text, "it has 1 to 255 bytes");
        }
    }
    if let Some(name) = new.name.as_ref().filter(|name| ring.nodes.iter().any(|known| known.name == **name)) {
        return unusable("the name", name, "it is another node's");
    }
    let mut next = ring.next_epoch();
    if next.tokens.len() >= TOKENS_MAX {
        next.tokens.retain(|token| !is_over(token, seen));
    }
    if next.tokens.len() >= TOKENS_MAX {
        return Err(VerbRefusal::TooManyTokens);
    }
    next.tokens.push(RingToken {
        id: new.id.0,
        key: new.key,
        name: new.name.clone(),
        zone: new.zone.clone(),
        for_ms: new.for_ms,
        used: None,
        unknown: Unknown::new(),
    });
    Ok(Some(next))
}

/// A node joins by a token. That it has the secret was looked at before.
pub(super) fn join_by(
    ring: &RingMap,
    seen: &Seen,
    id: TokenId,
    key: NodeKey,
    new: &NewNode,
) -> Result<Option<RingMap>, VerbRefusal> {
    let token = ring.token(id).ok_or(VerbRefusal::UnknownToken)?;
    if ring.was_removed(new.id) {
        return Err(VerbRefusal::Removed(new.id));
    }
    match token.used {
        Some(used) if used == (TokenUse { node: new.id.0, key }) && ring.has_node(new.id) => return Ok(None),
        Some(_) => return Err(VerbRefusal::TokenUsed),
        None if is_over(token, seen) => return Err(VerbRefusal::UnknownToken),
        None => {}
    }
    if ring.has_node(new.id) {
        let (what, value, why) = ("the node's id", new.id.to_string(), "it is another node's");
        return Err(VerbRefusal::Unusable { what, value, why });
    }
    let name = allowed("the name", token.name.as_deref(), &new.name)?;
    let zone = allowed("the zone", token.zone.as_deref(), &new.zone)?.unwrap_or_default();
    let name = name.unwrap_or_else(|| free_name(ring));
    let Some(mut next) = join(ring, &NewNode { name, zone, ..new.clone() })? else { return Ok(None) };
    let token = next.tokens.iter_mut().find(|token| token.id == id.0).ok_or(VerbRefusal::UnknownToken)?;
    token.used = Some(TokenUse { node: new.id.0, key });
    Ok(Some(next))
}

/// What a node wants, or what its token says if it wants nothing; it may want nothing else than that.
fn allowed(what: &'static str, of_token: Option<&str>, wanted: &str) -> Result<Option<String>, VerbRefusal> {
    match of_token {
        Some(of_token) if !wanted.is_empty() && wanted != of_token => {
            let why = "the token is for another one";
            Err(VerbRefusal::Unusable { what, value: wanted.to_owned(), why })
        }
        Some(of_token) => Ok(Some(of_token.to_owned())),
        None => Ok((!wanted.is_empty()).then(|| wanted.to_owned())),
    }
}

/// A name that no node and no token has.
fn free_name(ring: &RingMap) -> String {
    let is_taken = |name: &String| {
        let of_token = ring.tokens.iter().filter_map(|token| token.name.as_ref());
        ring.nodes.iter().map(|node| &node.name).chain(of_token).any(|taken| taken == name)
    };
    let mut names = (u64::from(ring.slots_made) + 1..).map(|number| format!("node-{number}"));
    names.find(|name| !is_taken(name)).expect("there are more numbers than nodes")
}

/// Keys as the hexadecimal digits that they are printed as.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("a key has 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decide::{Change, MapDecision, decide};
    use super::super::elastic_tests::{cluster, node, seen};
    use super::super::verbs::{Verb, admit};
    use super::*;
    use kvorum_protocol::FolderId;
    use kvorum_protocol::limits::NODES_MAX;
    use kvorum_protocol::peer::Levels;

    const LIFE_MS: u64 = 3_600_000;

    fn id(number: u128) -> TokenId {
        TokenId(Uuid::from_u128(number))
    }

    fn token(number: u128) -> NewToken {
        NewToken { id: id(number), key: TokenKey([number as u8; 32]), name: None, zone: None, for_ms: LIFE_MS }
    }

    fn joiner(number: u128) -> NewNode {
        NewNode {
            id: node(number),
            name: String::new(),
            zone: String::new(),
            client: format!("10.0.0.{number}:7400"),
            peer: format!("10.0.0.{number}:7410"),
            folder: FolderId(Uuid::from_u128(9_000 + number)),
            levels: Levels::OWN,
        }
    }

    fn by(number: u128, key: u8, new: NewNode) -> Verb {
        Verb::JoinByToken { token: id(number), key: NodeKey([key; 32]), node: Box::new(new) }
    }

    /// Asks of a cluster in which all is well; `age_ms`: how old its tokens are.
    fn ask(ring: &RingMap, age_ms: u64, verb: &Verb) -> Result<Option<RingMap>, VerbRefusal> {
        let ages = ring.tokens.iter().map(|token| (TokenId(token.id), age_ms)).collect();
        admit(ring, &Seen { tokens: ages, ..seen(ring, &[]) }, verb)
    }

    #[track_caller]
    fn done(ring: &RingMap, verb: &Verb) -> RingMap {
        let next = ask(ring, 0, verb).unwrap().expect("it is not so yet");
        assert_eq!(next.epoch, ring.epoch + 1);
        assert_eq!(RingMap::from_bytes(&next.to_bytes()).unwrap(), next, "it can be stored");
        assert_eq!(ask(&next, 0, verb), Ok(None), "it is so by now");
        next
    }

    fn with_token(new: NewToken) -> RingMap {
        done(&cluster(3, 4), &Verb::Token(Box::new(new)))
    }

    #[test]
    fn one_node_joins_by_a_token_and_hears_the_same_when_it_asks_again() {
        let ring = with_token(token(1));
        assert_eq!(ring.token(id(1)).map(|known| known.used), Some(None));
        let first = by(1, 4, joiner(4));
        let joined = done(&ring, &first);
        let new = joined.nodes.last().unwrap();
        assert_eq!((new.id, &*new.name, new.disk), (node(4).0, "node-4", Some(joiner(4).folder)));
        assert!(joined.admits(id(1), node(4), NodeKey([4; 32])) && !joined.admits(id(1), node(4), NodeKey([5; 32])));
        for other in [by(1, 4, joiner(5)), by(1, 5, joiner(4)), by(1, 5, joiner(5))] {
            assert_eq!(ask(&joined, 0, &other), Err(VerbRefusal::TokenUsed));
        }
        assert_eq!(ask(&joined, LIFE_MS, &first), Ok(None), "it may take long to come back");
        assert_eq!(ask(&ring, 0, &by(2, 4, joiner(4))), Err(VerbRefusal::UnknownToken));
    }

    #[test]
    fn of_two_nodes_with_one_token_the_log_lets_one_in() {
        let ring = with_token(token(1));
        let both = [4, 5].map(|number| by(1, number as u8, joiner(number)));
        // Both were decided on the same map: one takes effect, and the other is decided anew.
        let [one, two] = both.each_ref().map(|verb| ask(&ring, 0, verb).unwrap().unwrap());
        assert_eq!(one.epoch, two.epoch);
        assert_eq!(ask(&one, 0, &both[1]), Err(VerbRefusal::TokenUsed));
        assert_eq!(ask(&two, 0, &both[0]), Err(VerbRefusal::TokenUsed));
    }

    #[test]
    fn a_token_is_good_for_its_time_and_goes_then() {
        let ring = with_token(token(1));
        let aged = |ring: &RingMap, ms| Seen { tokens: [(id(1), ms)].into(), ..seen(ring, &[]) };
        assert!(ask(&ring, LIFE_MS - 1, &by(1, 4, joiner(4))).is_ok_and(|next| next.is_some()));
        assert_eq!(ask(&ring, LIFE_MS, &by(1, 4, joiner(4))), Err(VerbRefusal::UnknownToken));
        let over_ms = LIFE_MS + KEPT_OVER_MS;
        assert_eq!(decide(&ring, &aged(&ring, over_ms - 1)), MapDecision::Rest);
        let MapDecision::Change(next, change) = decide(&ring, &aged(&ring, over_ms)) else { panic!("it is to go") };
        assert_eq!((change, next.tokens.len()), (Change::TokensOver(vec![id(1)]), 0));
        assert_eq!(ask(&next, 0, &by(1, 4, joiner(4))), Err(VerbRefusal::UnknownToken));
        for for_ms in [0, TOKEN_MS_MAX + 1] {
            let verb = Verb::Token(Box::new(NewToken { for_ms, ..token(2) }));
            assert!(matches!(ask(&ring, 0, &verb), Err(VerbRefusal::OutOfRange { .. })));
        }
    }

    #[test]
    fn whoever_asks_again_for_a_token_of_a_millisecond_hears_that_it_was_made() {
        let brief = Verb::Token(Box::new(NewToken { for_ms: 1, ..token(1) }));
        let ring = done(&cluster(3, 4), &brief);
        let later = Seen { tokens: [(id(1), 5_000)].into(), ..seen(&ring, &[]) };
        // Neither is it forgotten at once, and so made again, nor is it good for anything.
        assert_eq!(decide(&ring, &later), MapDecision::Rest);
        assert_eq!(admit(&ring, &later, &brief), Ok(None));
        assert_eq!(admit(&ring, &later, &by(1, 4, joiner(4))), Err(VerbRefusal::UnknownToken));
    }

    #[test]
    fn a_token_may_be_for_one_name_and_one_zone() {
        let ring = with_token(NewToken { name: Some("db-7".into()), zone: Some("b".into()), ..token(1) });
        let wrong_name = NewNode { name: "db-8".into(), ..joiner(4) };
        let wrong_zone = NewNode { zone: "c".into(), ..joiner(4) };
        for wrong in [wrong_name, wrong_zone] {
            let refused = ask(&ring, 0, &by(1, 4, wrong)).unwrap_err().to_string();
            assert!(refused.ends_with("can't be used: the token is for another one"), "{refused}");
        }
        let same = NewNode { name: "db-7".into(), zone: "b".into(), ..joiner(4) };
        for right in [joiner(4), same] {
            let joined = done(&ring, &by(1, 4, right));
            let new = joined.nodes.last().unwrap();
            assert_eq!((&*new.name, &*new.zone), ("db-7", "b"));
        }
        // A name that the cluster gives is nobody's.
        let ring = with_token(NewToken { name: Some("node-4".into()), ..token(1) });
        let ring = done(&ring, &Verb::Token(Box::new(token(2))));
        let joined = done(&ring, &by(2, 5, joiner(5)));
        assert_eq!(joined.nodes.last().unwrap().name, "node-5");
    }

    #[test]
    fn what_keeps_a_node_out_keeps_it_out_with_a_token_too() {
        let ring = with_token(token(1));
        let refused = |ring: &RingMap, new: NewNode| ask(ring, 0, &by(1, 4, new)).unwrap_err();
        let taken = NewNode { name: "node-2".into(), ..joiner(4) };
        assert!(refused(&ring, taken).to_string().contains("it is another node's"));
        let spoken = NewNode { levels: Levels { min: 7, max: 9 }, ..joiner(4) };
        assert!(matches!(refused(&ring, spoken), VerbRefusal::Level { .. }));
        let retired = RingMap { retired_folders: vec![joiner(4).folder], ..ring.clone() };
        assert!(refused(&retired, joiner(4)).to_string().contains("it was replaced, and never returns"));
        let removed = RingMap { removed: vec![node(4).0], ..ring.clone() };
        assert_eq!(refused(&removed, joiner(4)), VerbRefusal::Removed(node(4)));
        let known = refused(&ring, NewNode { id: node(2), ..joiner(4) });
        assert!(known.to_string().contains("the node's id"), "{known}");
        let mut full = ring;
        for number in 4..=NODES_MAX as u128 {
            let slot = super::super::NodeSlot(full.slots_made);
            full.nodes.push(super::super::RingNode { slot, ..full.nodes[0].clone() });
            full.nodes.last_mut().unwrap().id = Uuid::from_u128(100 + number);
            full.slots_made += 1;
        }
        assert_eq!(refused(&full, joiner(4)), VerbRefusal::TooManyNodes);
    }

    #[test]
    fn a_map_has_a_bounded_number_of_tokens_each_once() {
        let mut ring = cluster(3, 4);
        for number in 0..TOKENS_MAX as u128 {
            ring = done(&ring, &Verb::Token(Box::new(token(number))));
        }
        let more = Verb::Token(Box::new(token(99)));
        assert_eq!(ask(&ring, 0, &more), Err(VerbRefusal::TooManyTokens));
        let roomy = ask(&ring, LIFE_MS, &more).unwrap().expect("those that are over make room");
        assert_eq!((roomy.tokens.len(), roomy.token(id(99)).is_some()), (1, true));
        let other = Verb::Token(Box::new(NewToken { key: TokenKey([200; 32]), ..token(1) }));
        assert!(matches!(ask(&ring, 0, &other), Err(VerbRefusal::Unusable { .. })));
        let named = NewToken { name: Some("node-2".into()), ..token(99) };
        assert!(matches!(ask(&cluster(3, 4), 0, &Verb::Token(Box::new(named))), Err(VerbRefusal::Unusable { .. })));
        let mut twice = ring.clone();
        twice.tokens[1] = twice.tokens[0].clone();
        assert!(RingMap::from_bytes(&twice.to_bytes()).is_err());
        ring.tokens.push(RingToken { id: Uuid::from_u128(99), ..ring.tokens[0].clone() });
        assert!(RingMap::from_bytes(&ring.to_bytes()).is_err());
    }

    #[test]
    fn the_stored_form_of_a_token_is_frozen() {
        let used = Some(TokenUse { node: Uuid::from_u128(4), key: NodeKey([0xcd; 32]) });
        let stored = RingToken { used, ..with_token(token(0xab)).tokens[0].clone() };
        let golden = format!(
            r#"{{"id":"{}","key":"{}","for_ms":3600000,"used":{{"node":"{}","key":"{}"}}}}"#,
            id(0xab),
            "ab".repeat(32),
            node(4),
            "cd".repeat(32)
        );
        assert_eq!(serde_json::to_string(&stored).unwrap(), golden);
        assert_eq!(serde_json::from_str::<RingToken>(&golden).unwrap(), stored);
    }
}
