//! How the JSON files of a node name a data folder: by the UUID alone. For serde's `with`.

use kvorum_protocol::FolderId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

pub(crate) fn serialize<S: Serializer>(folder: &FolderId, serializer: S) -> Result<S::Ok, S::Error> {
    folder.0.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FolderId, D::Error> {
    Uuid::deserialize(deserializer).map(FolderId)
}

/// A data folder that is not known yet, perhaps.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(folder: &Option<FolderId>, serializer: S) -> Result<S::Ok, S::Error> {
        folder.map(|folder| folder.0).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FolderId>, D::Error> {
        Option::<Uuid>::deserialize(deserializer).map(|folder| folder.map(FolderId))
    }
}

/// Several data folders, in their order.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(folders: &[FolderId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(folders.iter().map(|folder| folder.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FolderId>, D::Error> {
        Vec::<Uuid>::deserialize(deserializer).map(|folders| folders.into_iter().map(FolderId).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Stored {
        #[serde(with = "super")]
        one: FolderId,
        #[serde(default, skip_serializing_if = "Option::is_none", with = "super::optional")]
        perhaps: Option<FolderId>,
        #[serde(default, with = "super::list")]
        several: Vec<FolderId>,
    }

    #[test]
    fn the_text_of_an_id_is_frozen() {
        let id = |number| FolderId(Uuid::from_u128(number));
        let stored = Stored { one: id(1), perhaps: Some(id(2)), several: vec![id(3), id(4)] };
        let golden = r#"{"one":"00000000-0000-0000-0000-000000000001","perhaps":"00000000-0000-0000-0000-000000000002","several":["00000000-0000-0000-0000-000000000003","00000000-0000-0000-0000-000000000004"]}"#;
        assert_eq!(serde_json::to_string(&stored).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Stored>(golden).unwrap(), stored);
        let golden = r#"{"one":"00000000-0000-0000-0000-000000000001","several":[]}"#;
        let stored = Stored { one: id(1), perhaps: None, several: Vec::new() };
        assert_eq!(serde_json::to_string(&stored).unwrap(), golden);
        let shorter = r#"{"one":"00000000-0000-0000-0000-000000000001"}"#;
        assert_eq!(serde_json::from_str::<Stored>(shorter).unwrap(), stored);
    }
}
