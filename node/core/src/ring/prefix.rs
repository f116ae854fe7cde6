//! What the first bytes of a stored ring map say. A map may be some megabytes of JSON, and who has a later one need not read the rest.
//!
//! The first two fields are the map's epoch and the cluster's level. A later program may write them elsewhere: a map that does not
//! begin with them is read as a whole. A peer gains nothing by a lie there, since no map is taken that was not read as a whole.

use super::{RingError, RingMap};

/// How every map begins that this program and 0.1.0 have written.
const EPOCH: &[u8] = b"{\"epoch\":";
const LEVEL: &[u8] = b",\"level\":";

/// What a stored map says first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapPrefix {
    /// The map's epoch.
    pub epoch: u64,
    /// The cluster's level, if it comes next.
    pub level: Option<u16>,
}

impl MapPrefix {
    /// Reads what a stored map says first; `None` if it does not begin as this program writes it.
    pub fn read(map: &[u8]) -> Option<Self> {
        let (epoch, rest) = number(map.strip_prefix(EPOCH)?)?;
        // A number that the bytes end in may be longer than it looks.
        rest.first().filter(|next| b",}".contains(next))?;
        let level = rest.strip_prefix(LEVEL).and_then(number).and_then(|(level, _)| level.try_into().ok());
        Some(Self { epoch, level })
    }
}

/// The digits that the bytes begin with, and what comes after them.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

impl RingMap {
    /// Reads the stored form of a map, unless its first bytes say that its epoch is not above `known`: that costs next to nothing.
    ///
    /// # Errors
    /// As [`RingMap::from_bytes`].
    pub fn from_bytes_if_newer(bytes: &[u8], known: Option<u64>) -> Result<Option<Self>, RingError> {
        let is_old = |known: u64| MapPrefix::read(bytes).is_some_and(|first| first.epoch <= known);
        if known.is_some_and(is_old) { Ok(None) } else { Self::from_bytes(bytes).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::elastic_tests::cluster;

    #[test]
    fn a_stored_map_says_its_epoch_and_level_first() {
        let map = RingMap { epoch: 4_294_967_297, ..cluster(3, 4) };
        let first = MapPrefix { epoch: 4_294_967_297, level: Some(map.level) };
        assert_eq!(MapPrefix::read(&map.to_bytes()), Some(first));
        assert_eq!(MapPrefix::read(b"{\"epoch\":7,\"nodes\":[]}"), Some(MapPrefix { epoch: 7, level: None }));
        assert_eq!(MapPrefix::read(b"{\"epoch\":7}"), Some(MapPrefix { epoch: 7, level: None }));
        let others: [&[u8]; 8] = [
            b"",
            b"{}",
            b"{ \"epoch\":7}",
            b"{\"level\":2,\"epoch\":7}",
            b"{\"epoch\":,",
            b"{\"epoch\":-7,",
            b"{\"epoch\":7",
            b"{\"epoch\":99999999999999999999,",
        ];
        for other in others {
            assert_eq!(MapPrefix::read(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_map_that_is_no_news_is_not_read() {
        let map = RingMap { epoch: 7, ..cluster(3, 4) };
        let read = |bytes: &[u8], known| RingMap::from_bytes_if_newer(bytes, known).map(|map| map.map(|map| map.epoch));
        assert!(matches!(read(&map.to_bytes(), Some(6)), Ok(Some(7))));
        assert!(matches!(read(&map.to_bytes(), Some(7)), Ok(None)));
        assert!(matches!(read(&map.to_bytes(), None), Ok(Some(7))), "a node that has agreed on none takes any");
        let garbage = b"{\"epoch\":7,\"nodes\":garbage";
        assert!(matches!(read(garbage, Some(7)), Ok(None)), "it was not looked at");
        assert!(read(garbage, Some(6)).is_err() && read(garbage, None).is_err());
        // A map that another program has written otherwise.
        let mut other = serde_json::Map::new();
        other.extend(serde_json::from_slice::<serde_json::Map<_, _>>(&map.to_bytes()).unwrap().into_iter().rev());
        let other = format!(" {}", serde_json::Value::Object(other));
        assert_eq!(MapPrefix::read(other.as_bytes()), None);
        assert!(matches!(read(other.as_bytes(), Some(7)), Ok(Some(7))), "who reads it all sees that it is no news");
    }
}
