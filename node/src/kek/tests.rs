use super::*;
use std::os::unix::fs::PermissionsExt as _;
use uuid::Uuid;

const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(7));

fn file(folder: &Path, name: &str, bytes: &[u8]) -> KekSource {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    KekSource::File(path)
}

fn keys(key: &KekSource, old_key: Option<&KekSource>) -> Arc<NodeKeys> {
    open(&EncryptionConfig { key: Some(key.clone()), old_key: old_key.cloned() }, CLUSTER).unwrap()
}

fn wrapped(keys: &NodeKeys, epoch: u16) -> (WrappedKey, DataKey) {
    let wrap = keys.wrap().unwrap();
    let key = DataKey::new(wrap.draw().unwrap());
    let wrapped = wrap.wrap(KeyEpoch(epoch), &key).unwrap();
    (WrappedKey { epoch, kek: wrap.kek(), wrapped, made_ms: 0 }, key)
}

#[test]
fn a_data_key_is_unwrapped_with_the_key_that_wrapped_it() {
    let folder = tempfile::tempdir().unwrap();
    let one = file(folder.path(), "one", &[1; 32]);
    let same = file(folder.path(), "same", format!("{}\n", "01".repeat(32)).as_bytes());
    let two = file(folder.path(), "two", &[2; 32]);
    let (wrapped, key) = wrapped(&keys(&one, None), 3);
    for opens in [keys(&one, None), keys(&same, None), keys(&two, Some(&one))] {
        assert_eq!(opens.wrap().unwrap().unwrap(&wrapped).unwrap(), key);
    }
    let refused = keys(&two, None).wrap().unwrap().unwrap(&wrapped).unwrap_err().to_string();
    assert_eq!(refused, "data key 3 is wrapped with another encryption.key");
    let elsewhere = WrappedKey { epoch: 4, ..wrapped.clone() };
    assert!(keys(&one, None).wrap().unwrap().unwrap(&elsewhere).is_err(), "it is bound to its number");
    let other = open(&EncryptionConfig { key: Some(one), old_key: None }, ClusterId(Uuid::from_u128(8))).unwrap();
    assert!(other.wrap().unwrap().unwrap(&wrapped).is_err(), "and to its cluster");
}

/// Ring maps hold such bytes; the fuzz targets begin with them.
#[test]
fn wrapped_bytes_are_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&file(folder.path(), "one", &[1; 32]), None);
    let wrap = keys.wrap().unwrap();
    let wrapped = "000102030405060708090a0b57c929d1bfce22090821e6b2d208c714884d634ebaa1ca2d400f83de6d2b65005198c3d57e8cd640384fa347ba3de6ba";
    let key = WrappedKey { epoch: 3, kek: wrap.kek(), wrapped: wrapped.to_owned(), made_ms: 0 };
    assert_eq!(*wrap.unwrap(&key).unwrap().bytes(), [7; DATA_KEY_BYTES]);
}

#[test]
fn a_program_may_have_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("helper");
    std::fs::write(&path, "#!/bin/sh\nrev\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let keys = keys(&KekSource::Program(path.clone()), None);
    let (wrapped, key) = wrapped(&keys, 1);
    assert_eq!(wrapped.wrapped, hexadecimal::encode(key.bytes()).chars().rev().collect::<String>());
    assert_eq!(keys.wrap().unwrap().unwrap(&wrapped).unwrap(), key);
    std::fs::write(&path, "#!/bin/sh\nexit 3\n").unwrap();
    let refused = keys.wrap().unwrap().unwrap(&wrapped).unwrap_err().to_string();
    assert!(refused.ends_with("it has ended with exit status: 3"), "{refused}");
}

#[test]
fn what_is_no_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [&b""[..], b"short", &[7; 33]] {
        let source = file(folder.path(), "bad", bytes);
        assert!(open(&EncryptionConfig { key: Some(source), old_key: None }, CLUSTER).is_err());
    }
}
