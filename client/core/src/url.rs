//! The address of a cluster: `kv://host:port,host:port`, or `kvs://` for TLS. Pure.

use crate::error::Error;
use crate::limits::SEEDS_MAX;
use kvorum_protocol::limits::NAME_BYTES_MAX;

/// What the tools connect to when nothing else is said: the three nodes of `kvorum dev`.
pub const URL_DEFAULT: &str = "kv://127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403";

/// The port of a seed that names none.
const PORT_DEFAULT: u16 = 7400;

/// The seeds of a URL, each as `host:port`. Names are not resolved here but at each connect. The scheme may be left
/// out, and so may a port (7400); an IPv6 address stands in brackets.
///
/// # Errors
/// `InvalidArgument` with the part that can't be understood.
pub fn parse(url: &str) -> Result<Vec<String>, Error> {
    let invalid = |problem: String| {
        Error::InvalidArgument(format!(
            "\"{url}\" is not a cluster address such as kv://host:7400,host:7400: {problem}"
        ))
    };
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("kv") || scheme.eq_ignore_ascii_case("kvs") => rest,
        Some((scheme, _)) => return Err(invalid(format!("the scheme is \"{scheme}\", not \"kv\" or \"kvs\""))),
        None => url,
    };
    let seeds = rest
        .trim_end_matches('/')
        .split(',')
        .map(|seed| parse_seed(seed.trim()).map_err(|problem| invalid(format!("\"{seed}\" {problem}"))))
        .collect::<Result<Vec<_>, _>>()?;
    if seeds.len() > SEEDS_MAX {
        return Err(invalid(format!("it has {} seeds, the limit is {SEEDS_MAX}", seeds.len())));
    }
    Ok(seeds)
}

/// Whether an address says that TLS is spoken.
pub fn is_encrypted(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("kvs"))
}

fn parse_seed(seed: &str) -> Result<String, &'static str> {
    if seed.len() > NAME_BYTES_MAX {
        return Err("is too long");
    }
    if seed.contains('@') {
        return Err("names a user, and clients need none");
    }
    if seed.contains([';', ' ']) {
        return Err("is no address; several are separated by commas");
    }
    if seed.contains('/') {
        return Err("has a path, and a cluster has none");
    }
    let (host, port) = match seed.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (&seed[..address.len() + 2], port.strip_prefix(':')),
            None => return Err("has no closing bracket"),
        },
        None => match seed.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err("is an IPv6 address without brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (seed, None),
        },
    };
    if host.is_empty() {
        return Err("has no host");
    }
    match port.map_or(Ok(PORT_DEFAULT), str::parse::<u16>) {
        Ok(port) if port > 0 => Ok(format!("{host}:{port}")),
        _ => Err("has no port between 1 and 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_people_write() {
        for (url, seeds) in [
            (URL_DEFAULT, vec!["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"]),
            ("kv://a.example:1,b", vec!["a.example:1", "b:7400"]),
            ("localhost:7401", vec!["localhost:7401"]),
            ("kv://[::1]:7401/", vec!["[::1]:7401"]),
            ("kv://[fe80::1]", vec!["[fe80::1]:7400"]),
            ("kv://a:1, b:2", vec!["a:1", "b:2"]),
            ("KV://a:1", vec!["a:1"]),
            ("kvs://a:1", vec!["a:1"]),
        ] {
            assert_eq!(parse(url).unwrap(), seeds, "{url}");
        }
    }

    #[test]
    fn only_kvs_is_encrypted() {
        assert!(is_encrypted("kvs://a") && is_encrypted("KVS://a:1,b"));
        assert!(!is_encrypted("kv://a") && !is_encrypted("kvs") && !is_encrypted("kvs:1"));
    }

    #[test]
    fn names_what_it_does_not_understand() {
        for (url, part) in [
            ("redis://a:1", "scheme"),
            ("kv://", "has no host"),
            ("kv://a:1,,b:2", "has no host"),
            ("kv://a:0", "port"),
            ("kv://a:99999", "port"),
            ("kv://::1", "without brackets"),
            ("kv://[::1", "closing bracket"),
            ("kv://user:pw@host", "\"user:pw@host\" names a user"),
            ("kv://a:1;b:2", "separated by commas"),
            ("kv://a:1 b:2", "separated by commas"),
            ("kv://a:1/0", "has a path"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
