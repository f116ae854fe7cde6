//! Which handshakes are begun, of all that are asked for. Pure: [`super::incoming`] carries it out.
//!
//! Whoever reaches the UDP port can ask, with a packet that was recorded elsewhere or names another sender; who it is shows
//! only when the handshake is over. So that strangers can't keep the members of the cluster out:
//!
//! - While more than a few handshakes are open, an address has to prove that it receives what is sent to it (QUIC's Retry).
//!   That takes no memory here.
//! - One source has a small share of what strangers may have open. Only handshakes count whose address has proved itself: else who
//!   names another one's address would use that one's share up.
//! - A part of all handshakes is kept for the addresses at which the configuration says that members are. A member dials
//!   from the port at which it listens.

use super::limits::{
    INCOMING_HANDSHAKES_MAX, INCOMING_OF_SOURCE_MAX, INCOMING_OF_STRANGERS_MAX, INCOMING_UNPROVED_MAX,
};
use kvorum_protocol::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What to do about a handshake that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AdmissionVerdict {
    /// Begin it.
    Begin,
    /// Have the address prove that it receives what is sent to it.
    Prove,
    /// Say that there is no room.
    Refuse,
}

/// Who counts as one stranger: an IPv4 address, or a network of IPv6 that one host may have to itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Source(IpAddr);

impl Source {
    fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
            address => Self(address),
        }
    }
}

/// The handshakes that are open.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Where members are, as far as their names could ever be resolved.
    members: BTreeMap<NodeId, BTreeSet<SocketAddr>>,
    open: usize,
    /// Those whose address has not proved itself.
    unproved: usize,
    /// Those of strangers who have, by source. No more entries than handshakes.
    strangers: BTreeMap<Source, usize>,
}

/// A handshake that was begun, to be given back when it is over.
#[derive(Debug)]
pub(super) struct Begun {
    proved: bool,
    stranger: Option<Source>,
}

impl Admission {
    /// These are the addresses of a member from now on. None at all is no news: an outage of the name service must not make
    /// strangers of members.
    pub(super) fn set_member(&mut self, member: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) {
        let addresses: BTreeSet<SocketAddr> = addresses.into_iter().collect();
        if !addresses.is_empty() {
            self.members.insert(member, addresses);
        }
    }

    /// Forgets where nodes are that are no members any more.
    pub(super) fn keep_members(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.members.retain(|member, _| is_member(*member));
    }

    fn is_members(&self, address: SocketAddr) -> bool {
        self.members.values().any(|addresses| addresses.contains(&address))
    }

    /// Judges a handshake that `address` asks for. `proved`: it receives what is sent to it.
    pub(super) fn judge(&self, address: SocketAddr, proved: bool) -> AdmissionVerdict {
        if !proved {
            return if self.open < INCOMING_UNPROVED_MAX { AdmissionVerdict::Begin } else { AdmissionVerdict::Prove };
        }
        let has_room = if self.is_members(address) {
            self.open < INCOMING_HANDSHAKES_MAX
        } else {
            let of_source = self.strangers.get(&Source::of(address)).copied().unwrap_or(0);
            let of_strangers = self.unproved + self.strangers.values().sum::<usize>();
            of_strangers < INCOMING_OF_STRANGERS_MAX && of_source < INCOMING_OF_SOURCE_MAX
        };
        if has_room { AdmissionVerdict::Begin } else { AdmissionVerdict::Refuse }
    }

    /// A handshake with `address` is begun.
    pub(super) fn begin(&mut self, address: SocketAddr, proved: bool) -> Begun {
        self.open += 1;
        self.unproved += usize::from(!proved);
        let stranger = (proved && !self.is_members(address)).then(|| Source::of(address));
        if let Some(source) = stranger {
            *self.strangers.entry(source).or_insert(0) += 1;
        }
        Begun { proved, stranger }
    }

    /// A handshake is over, however it ended.
    pub(super) fn end(&mut self, begun: Begun) {
        self.open -= 1;
        self.unproved -= usize::from(!begun.proved);
        if let Some(source) = begun.stranger
            && let Some(of_source) = self.strangers.get_mut(&source)
        {
            *of_source -= 1;
            if *of_source == 0 {
                self.strangers.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn admission() -> Admission {
        let mut admission = Admission::default();
        admission.set_member(node(2), [address("10.0.0.2:7400")]);
        admission
    }

    #[test]
    fn a_few_are_begun_on_their_word_and_further_ones_prove_their_address() {
        let mut admission = admission();
        for number in 0..INCOMING_UNPROVED_MAX {
            let stranger = address(&format!("10.0.1.{number}:7400"));
            assert_eq!(admission.judge(stranger, false), AdmissionVerdict::Begin);
            admission.begin(stranger, false);
        }
        for asks in ["10.0.2.1:7400", "10.0.0.2:7400"] {
            assert_eq!(admission.judge(address(asks), false), AdmissionVerdict::Prove);
            assert_eq!(admission.judge(address(asks), true), AdmissionVerdict::Begin);
        }
        let named = address("10.0.1.0:7400");
        assert_eq!(
            admission.judge(named, true),
            AdmissionVerdict::Begin,
            "who only names its address takes nothing from it"
        );
    }

    #[test]
    fn one_source_has_a_share_and_gets_it_back() {
        let mut admission = admission();
        let of_one = |port: usize| address(&format!("10.0.1.1:{}", 1000 + port));
        let mut begun: Vec<Begun> =
            (0..INCOMING_OF_SOURCE_MAX).map(|port| admission.begin(of_one(port), true)).collect();
        assert_eq!(admission.judge(of_one(99), true), AdmissionVerdict::Refuse, "from whatever port");
        assert_eq!(admission.judge(address("10.0.1.2:1000"), true), AdmissionVerdict::Begin);
        admission.end(begun.pop().unwrap());
        assert_eq!(admission.judge(of_one(99), true), AdmissionVerdict::Begin);
        begun.into_iter().for_each(|begun| admission.end(begun));
        assert_eq!((admission.open, admission.strangers.len()), (0, 0));
        let network = |host: usize| address(&format!("[2001:db8:0:1::{}]:7400", 1 + host));
        for host in 0..INCOMING_OF_SOURCE_MAX {
            admission.begin(network(host), true);
        }
        assert_eq!(admission.judge(network(99), true), AdmissionVerdict::Refuse, "a host may have a whole network");
        assert_eq!(admission.judge(address("[2001:db8:0:2::1]:7400"), true), AdmissionVerdict::Begin);
        let mapped = |port: usize| address(&format!("[::ffff:10.0.3.1]:{}", 1 + port));
        for port in 0..INCOMING_OF_SOURCE_MAX {
            admission.begin(mapped(port), true);
        }
        assert_eq!(admission.judge(address("[::ffff:10.0.3.2]:1"), true), AdmissionVerdict::Begin);
    }

    #[test]
    fn a_member_is_where_it_was_until_its_name_says_otherwise() {
        let mut admission = admission();
        for number in 0..INCOMING_OF_STRANGERS_MAX {
            admission.begin(address(&format!("10.1.{number}.1:7400")), true);
        }
        let (second, third, moved) = (address("10.0.0.2:7400"), address("10.0.0.3:7400"), address("10.0.9.2:7400"));
        assert_eq!(admission.judge(third, true), AdmissionVerdict::Refuse, "nobody knows it yet");
        admission.set_member(node(3), [third]);
        admission.set_member(node(2), []);
        assert_eq!(
            (admission.judge(second, true), admission.judge(third, true)),
            (AdmissionVerdict::Begin, AdmissionVerdict::Begin)
        );
        admission.set_member(node(2), [moved]);
        assert_eq!(
            (admission.judge(moved, true), admission.judge(second, true)),
            (AdmissionVerdict::Begin, AdmissionVerdict::Refuse)
        );
    }

    #[test]
    fn strangers_leave_room_for_members() {
        let mut admission = admission();
        for number in 0..INCOMING_OF_STRANGERS_MAX {
            admission.begin(address(&format!("10.1.{number}.1:7400")), true);
        }
        assert_eq!(admission.judge(address("10.2.0.1:7400"), true), AdmissionVerdict::Refuse);
        let member = address("10.0.0.2:7400");
        for _ in INCOMING_OF_STRANGERS_MAX..INCOMING_HANDSHAKES_MAX {
            assert_eq!(admission.judge(member, true), AdmissionVerdict::Begin);
            admission.begin(member, true);
        }
        assert_eq!(admission.judge(member, true), AdmissionVerdict::Refuse, "the bound is one for all");
        assert_eq!(
            admission.judge(address("10.0.0.2:7401"), true),
            AdmissionVerdict::Refuse,
            "another port is another program"
        );
    }
}
