//! Addresses, as the ring map and a configuration name them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use kvorum_protocol::limits::NAME_BYTES_MAX;

/// Whether a text is `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets. It is resolved when
/// it is used, again each time, so that a node may move. Others are told it, so it must lead to one node from wherever they are.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_fine = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().is_ok() && !is_unspecified(bare),
        None if looks_like_a_number(host) => host.parse::<Ipv4Addr>().is_ok() && !is_unspecified(host),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    host_is_fine && port.parse().is_ok_and(|port: u16| port != 0) && text.len() <= NAME_BYTES_MAX
}

/// Whether a host, without brackets, stands for all interfaces of whatever machine uses it: who dials it reaches itself.
pub fn is_unspecified(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_unspecified())
}

/// Resolvers take `0`, `0.0` or `0x0` for IPv4 addresses, too. No name ends like that.
fn looks_like_a_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_hexadecimal = last
        .strip_prefix("0x")
        .or(last.strip_prefix("0X"))
        .is_some_and(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()));
    is_hexadecimal || !last.is_empty() && last.chars().all(|digit| digit.is_ascii_digit())
}
