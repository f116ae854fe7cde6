//! Small files of JSON that say when they are damaged: a line of JSON, and a line with its CRC-32. A person can read them
//! with `cat`.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file's bytes.
///
/// # Panics
/// If the value has no form in JSON.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    seal(&serde_json::to_string(value).expect("what is kept in such a file has a form in JSON"))
}

/// A file around a line of JSON.
pub fn seal(json: &str) -> Vec<u8> {
    format!("{json}\n{:08x}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// The line of JSON; `None` if the file is damaged.
pub fn unseal(bytes: &[u8]) -> Option<&str> {
    let (json, crc) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once('\n')?;
    (crc == format!("{:08x}", crc32fast::hash(json.as_bytes()))).then_some(json)
}

/// As [`unseal`], or all of a file of one line: those that are from before they had a checksum.
pub fn unseal_or_plain(bytes: &[u8]) -> Option<&str> {
    if bytes.contains(&b'\n') { unseal(bytes) } else { std::str::from_utf8(bytes).ok() }
}

/// The value; `None` if the file is damaged, or holds something else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_str(unseal(bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_and_every_cut_is_noticed() {
        let bytes = encode(&vec!["one", "two"]);
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), "[\"one\",\"two\"]\nfdb8b241\n");
        assert_eq!(decode::<Vec<String>>(&bytes).unwrap(), ["one", "two"]);
        for at in 0..bytes.len() {
            assert_eq!(unseal(&bytes[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(unseal(&damaged), None, "byte {at} bit {bit}");
            }
        }
    }
}
