//! What each fuzz target does with its bytes. `tests/fuzz_smoke.rs` runs the very same functions over mutations of what is genuine, so
//! that a plain `cargo test` covers some of what a fuzzer would.
//!
//! Each function takes any bytes, must not panic, and says whether they meant anything. What is sealed opens in the bytes only in
//! which it was sealed: whoever changes them may mend all checksums, and the targets do so, since a fuzzer does not find them.

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_core::auth::access::Access;
use kvorum_core::auth::table::{ADMIN, AuthTable, ROOT, UserRole};
use kvorum_core::auth::verbs::admit;
use kvorum_core::disk::memory::MemoryDisk;
use kvorum_core::disk::{Disk, HINT_FILE, MANIFEST_FILE};
use kvorum_core::log::inspect::{Hint, Layout};
use kvorum_core::log::operations::{Operations, OperationsBuilder, RECORD_HEADER_BYTES, RecordHeader};
use kvorum_core::log::remembered::Remembered;
use kvorum_core::log::session_section::SessionRecord;
use kvorum_core::log::{Base, Membership};
use kvorum_core::ring::sealing::WrappedKey;
use kvorum_core::ring::{RingMap, RingNode};
use kvorum_core::sealing::{DATA_KEY_BYTES, DataKey, KeyEpoch, KeyFailure, KeyWrap, Keyring, NodeKeys, ShardKeys};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::{
    AuthVerb, ClientId, ClusterClasses, ClusterId, Durability, Grant, KeyClasses, LogIndex, ReplicaId, ShardId, Term,
    UserLimits, UserTokenId, Version, hexadecimal,
};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

const SHARD: ShardId = ShardId(5);
/// Bytes of an entry's payload before its first record.
const HEADER_BYTES: usize = 24;

fn keys_of(shard: ShardId, active: u16) -> Arc<ShardKeys> {
    let ring = Keyring::default();
    for epoch in 1..=3 {
        ring.insert(KeyEpoch(epoch), DataKey::new([epoch as u8; DATA_KEY_BYTES]));
    }
    ring.activate(KeyEpoch(active));
    Arc::new(ShardKeys::new(shard, Arc::new(ring)))
}

static KEYS: LazyLock<Arc<ShardKeys>> = LazyLock::new(|| keys_of(SHARD, 3));
static KEYS_ELSEWHERE: LazyLock<Arc<ShardKeys>> = LazyLock::new(|| keys_of(ShardId(6), 3));
static PAYLOADS: LazyLock<[Bytes; 2]> = LazyLock::new(|| [1, 3].map(payload));
static RECORDS: LazyLock<BTreeSet<Bytes>> = LazyLock::new(|| PAYLOADS.iter().flat_map(records_of).collect());
static BASE: LazyLock<Base> = LazyLock::new(|| base().seal(&KEYS));

/// An entry with records of each shape, and answers.
fn payload(epoch: u16) -> Bytes {
    let mut builder = OperationsBuilder::new(1234, Version(9));
    builder.seal_at(&keys_of(SHARD, epoch), Term(3), LogIndex(9));
    let long = [7; 300];
    let first = builder.push_record(b"a key", Some(b"a value"), None);
    builder.push_record(b"an expiring one", Some(b""), Some(99));
    builder.push_record(b"", Some(&long), None);
    builder.push_record(b"a long one", Some(&long), Some(100));
    builder.push_record(b"gone", None, None);
    for client in 1..=2 {
        let client = ClientId(Uuid::from_u128(client));
        let reply = Remembered::Applied(first);
        builder.push_session(&SessionRecord { client, sequence: 3, first_unanswered: 2, reply, once: None });
    }
    builder.finish().into()
}

fn records_of(payload: &Bytes) -> Vec<Bytes> {
    let parsed = Operations::parse(payload.clone()).expect("a builder's own payload");
    let records = parsed.records().map(|found| {
        let (at, record) = found.expect("a builder's own record");
        payload.slice(at as usize..at as usize + record.bytes())
    });
    records.collect()
}

fn base() -> Base {
    let membership = Membership { voters: vec![ReplicaId(1), ReplicaId(2)], ..Membership::default() };
    let state = Bytes::from_static(b"sessions and all");
    Base { index: LogIndex(90), term: Term(4), membership, state, sealed: false }
}

fn encoded(base: &Base) -> Vec<u8> {
    let mut out = BytesMut::new();
    base.encode(&mut out);
    out.into()
}

/// A manifest around a base, without segments.
fn manifest(base: &[u8]) -> Vec<u8> {
    let mut out = b"KVMAN\0\0\x03".to_vec();
    out.put_u16_le(SHARD.0);
    out.put_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
    out.put_slice(&[0; 24]);
    out.put_u32_le(1);
    out.put_slice(&[0; 20]);
    out.put_u32_le(0);
    out.put_slice(base);
    out.put_u32_le(0);
    mend_manifest(&mut out);
    out
}

/// A hint of that manifest. The key of epoch 3 has sealed what it holds, as `log/manifest.rs` has it in its tests.
fn hint(body: &[u8], is_sealed: bool) -> Vec<u8> {
    let mut out = b"KVHNT\0\0\x02".to_vec();
    out[7] += u8::from(is_sealed);
    out.put_u64_le(3);
    out.put_u16_le(SHARD.0);
    out.put_slice(&[0; 10]);
    out.put_slice(body);
    mend_hint(&mut out);
    out
}

/// `slots`, sealed.
const SEALED_HINT: &str = "03005c29ea5b744e8c15892259d91cf00f68538ba9acc97377635ae3a98c5b2b739893";

fn sealed_hint() -> Vec<u8> {
    hint(&hexadecimal::decode(SEALED_HINT).expect("digits"), true)
}

/// Inputs that the targets accept.
pub fn genuine(target: &str) -> Vec<Vec<u8>> {
    match target {
        "auth_table" => vec![table().to_bytes(), table().to_copy(), AuthTable::default().to_bytes()],
        "auth_verbs" => vec![verbs().iter().flat_map(framed).collect(), framed(&verbs()[0])],
        "ring_map" => {
            let map = ring_map();
            let next = map.with_key(wrapped(1)).with_newest_key_active().with_key(wrapped(2));
            vec![map.to_bytes(), next.to_bytes(), next.with_newest_key_active().to_copy()]
        }
        "sealed_entry" => PAYLOADS.iter().map(|payload| payload.to_vec()).collect(),
        "sealed_base" => vec![encoded(&BASE), encoded(&base())],
        "sealed_files" => {
            let files = |base: &Base, hint: Vec<u8>| {
                let manifest = manifest(&encoded(base));
                [&(manifest.len() as u16).to_le_bytes()[..], &manifest, &hint].concat()
            };
            vec![files(&BASE, sealed_hint()), files(&base(), hint(b"slots", false)), files(&BASE, Vec::new())]
        }
        _ => panic!("there is no target {target}"),
    }
}

const VERIFIER: &str = "SCRAM-SHA-256$4096:AwMDAwMDAwMDAwMDAwMDAw==$AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn verbs() -> Vec<AuthVerb> {
    let text = |text: &str| text.to_owned();
    let user = |name: &str, roles: &[&str]| AuthVerb::PutUser {
        name: text(name),
        exists: Some(false),
        verifier: Some(text(VERIFIER)),
        roles: Some(roles.iter().map(|role| text(role)).collect()),
        disabled: Some(false),
    };
    let grants = vec![Grant { prefix: "app/".into(), classes: KeyClasses::READ.with(KeyClasses::WRITE) }];
    vec![
        AuthVerb::PutRole { name: text("app"), grants, cluster: ClusterClasses::STATUS },
        user("ada", &["app", ROOT]),
        user("bob", &["readonly"]),
        AuthVerb::AddToken {
            id: UserTokenId(7),
            user: text("ada"),
            roles: Some(vec![text("app")]),
            digest: [5; 32],
            expires_at_ms: Some(9),
        },
        AuthVerb::Limit {
            name: text("bob"),
            limits: UserLimits { requests_per_s: 5, bytes_per_s: 1 << 20, connections: 3 },
        },
        AuthVerb::Deny { serial: Bytes::from_static(&[0, 1, 2]), denied: true },
        AuthVerb::RemoveUser(text(ADMIN)),
        AuthVerb::RemoveToken(UserTokenId(8)),
        AuthVerb::RemoveRole(text("none")),
    ]
}

fn table() -> AuthTable {
    let admitted = |table: AuthTable, verb: &AuthVerb| admit(&table, verb).ok().flatten().unwrap_or(table);
    verbs().iter().fold(AuthTable::initial(None), admitted)
}

fn framed(verb: &AuthVerb) -> Vec<u8> {
    let mut out = BytesMut::new();
    verb.encode(&mut out);
    out.into()
}

fn wrapped(epoch: u16) -> WrappedKey {
    WrappedKey { epoch, kek: 9, wrapped: hexadecimal::encode(&[epoch as u8; DATA_KEY_BYTES]), made_ms: 0 }
}

fn ring_map() -> RingMap {
    let node = |number| RingNode {
        client: format!("127.0.0.1:{}", 7400 + number),
        peer: format!("127.0.0.1:{}", 7410 + number),
        ..RingNode::new(Uuid::from_u128(number), format!("node-{number}"))
    };
    let nodes = (1..=3).map(node).collect();
    RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes, 2, 3).expect("three nodes are enough")
}

/// The table of users, as the `meta` group or a node's folder holds it.
pub fn auth_table(data: &[u8]) -> bool {
    let Ok(table) = AuthTable::from_copy(data).or_else(|_| AuthTable::from_bytes(data)) else { return false };
    assert_eq!(AuthTable::from_bytes(&table.to_bytes()).expect("it was read before"), table);
    assert_eq!(AuthTable::from_copy(&table.to_copy()).expect("it was read before"), table);
    let view = table.view(true);
    assert_eq!(view.users.len(), table.users.len());
    for (name, user) in &table.users {
        if let Some(access) = Access::of_user(&table, name, None, 1) {
            assert!(!user.disabled && !access.is_nobody() && access.user() == name);
        }
        // What no verifier is lets nobody in.
        let verifier = user.verifier();
        assert!(verifier.is_none_or(|verifier| Some(verifier.to_string()) == user.verifier));
    }
    for role in table.roles.values() {
        let again = UserRole::of(&role.known_grants(), role.known_cluster());
        assert_eq!(again.known_cluster(), role.known_cluster());
    }
    // No secret is shown.
    let shown = format!("{view:?}");
    let verifiers = table.users.values().filter_map(|user| user.verifier());
    assert!(verifiers.into_iter().all(|verifier| !shown.contains(&verifier.to_string())));
    true
}

/// Verbs of operators, one after the other, against a table. Whatever they are, somebody may change it afterwards, and it can be
/// stored and read again.
pub fn auth_verbs(data: &[u8]) -> bool {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let mut table = AuthTable::initial(None);
    let mut is_changed = false;
    while let Ok(verb) = AuthVerb::decode(&mut reader) {
        let Ok(Some(next)) = admit(&table, &verb) else { continue };
        assert_eq!(next.epoch, table.epoch + 1);
        assert!(next.has_root(), "nobody could change it any more");
        assert_eq!(AuthTable::from_bytes(&next.to_bytes()).expect("it can be stored"), next);
        assert_eq!(admit(&next, &verb), Ok(None), "whoever asks again hears that it is done");
        for name in next.users.keys() {
            Access::of_user(&next, name, None, 1);
        }
        (table, is_changed) = (next, true);
    }
    is_changed
}

/// Unwraps what is the key itself, in digits.
struct Digits;

impl KeyWrap for Digits {
    fn kek(&self) -> u64 {
        9
    }

    fn draw(&self) -> Result<[u8; DATA_KEY_BYTES], KeyFailure> {
        Err(KeyFailure("nothing is drawn here".to_owned()))
    }

    fn wrap(&self, _: KeyEpoch, key: &DataKey) -> Result<String, KeyFailure> {
        Ok(hexadecimal::encode(key.bytes()))
    }

    fn unwrap(&self, key: &WrappedKey) -> Result<DataKey, KeyFailure> {
        let bytes = hexadecimal::decode(&key.wrapped).and_then(|bytes| bytes.try_into().ok());
        bytes.map(DataKey::new).ok_or_else(|| KeyFailure("no digits of a key".to_owned()))
    }
}

/// The ring map with its wrapped keys, and a node that follows it.
pub fn ring_map_with_keys(data: &[u8]) -> bool {
    let Ok(map) = RingMap::from_copy(data) else { return false };
    if map.sealing.is_plain() && map.sealing.since > 0 {
        // Nobody writes it: what never was is not stored.
        return false;
    }
    assert_eq!(RingMap::from_bytes(&map.to_bytes()).expect("it was read before"), map);
    assert_eq!(RingMap::from_copy(&map.to_copy()).expect("it was read before"), map);
    let plain = NodeKeys::default();
    assert_eq!(plain.follow(&map.sealing).is_ok(), map.sealing.is_plain(), "keys are not opened by nobody");
    let keys = NodeKeys::new(Some(Box::new(Digits)));
    if keys.follow(&map.sealing).is_ok() {
        assert_eq!(keys.newest(), map.sealing.newest());
        assert_eq!(keys.ring().active().unwrap_or_default(), KeyEpoch(map.sealing.active));
        assert_eq!(keys.ring().epochs().len(), map.sealing.keys.len());
    }
    true
}

/// Makes the checksums of all records right.
fn mend_entry(payload: &mut [u8]) {
    let sessions_at = payload.get(20..24).and_then(|bytes| bytes.first_chunk());
    let Some(end) = sessions_at.map(|at| (u32::from_le_bytes(*at) as usize).min(payload.len())) else { return };
    // The shard's secret, if the entry brings it.
    let mut at = HEADER_BYTES + if payload[19] & 0x80 != 0 { 16 } else { 0 };
    while let Some(first) = payload.get(at..end).and_then(|rest| rest.first_chunk::<RECORD_HEADER_BYTES>()) {
        let Ok(header) = RecordHeader::parse(first) else { return };
        let Some(record) = payload[..end].get_mut(at..at + header.record_bytes()) else { return };
        let value_at = record.len() - header.value_bytes();
        if let Some(crc_at) = header.value_crc_at() {
            let crc = crc32fast::hash(&record[value_at..]);
            record[crc_at as usize..][..4].copy_from_slice(&crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&record[4..header.head_bytes()]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        at += header.record_bytes();
    }
}

/// An entry with sealed records and sealed answers, as a follower, a start or a reader meets it. True if all of it opens.
pub fn sealed_entry(data: &[u8]) -> bool {
    let mut payload = data.to_vec();
    mend_entry(&mut payload);
    let payload = Bytes::from(payload);
    let Ok(entry) = Operations::parse(payload.clone()) else { return false };
    let mut opens = true;
    for found in entry.records() {
        let Ok((at, record)) = found else {
            opens = false;
            break;
        };
        let bytes = payload.slice(at as usize..at as usize + record.bytes());
        let opened = record.open(&KEYS);
        let header = RecordHeader::parse(bytes.first_chunk().expect("it was parsed")).expect("it was parsed");
        assert_eq!(header.is_sealed(), record.sealed.is_some());
        if !header.is_sealed() {
            let (key, value) = opened.expect("what is plain is open");
            assert_eq!((&*key, &*value), (record.key, record.value));
            continue;
        }
        assert!(record.key.is_empty() && record.value.is_empty(), "nothing is shown that was not opened");
        assert_eq!(opened.is_ok(), RECORDS.contains(&bytes), "only what was sealed opens");
        // The key alone of a long record opens without its value.
        let key = record.open_key(&KEYS);
        assert!(key.is_ok() || opened.is_err());
        if let Ok((whole, _)) = &opened {
            assert_eq!(key.as_deref().ok(), Some(&**whole));
        }
        let head = header.head(&bytes[..header.head_bytes()]).expect("it was looked at");
        let look = header.open_head(&head, &bytes[..header.look_bytes()], &KEYS);
        assert_eq!(look.is_ok(), key.is_ok());
        if let Ok((look, value)) = look {
            let stored = &bytes[header.record_bytes() - header.value_bytes()..];
            let value = value.map_or_else(|| Ok(look.value().to_vec()), |value| value.open(stored, &KEYS));
            assert_eq!(value.ok(), opened.as_ref().ok().map(|(_, value)| value.to_vec()));
        }
        assert!(record.open_key(&KEYS_ELSEWHERE).is_err(), "it belongs to one shard");
        assert!(record.open_key(&ShardKeys::default()).is_err(), "nobody opens it without a key");
        opens &= opened.is_ok();
    }
    let sessions = entry.sessions(&KEYS);
    if entry.sessions_sealed_with().is_some() {
        let section = |payload: &Bytes| {
            let at = u32::from_le_bytes(*payload[20..].first_chunk().expect("it was parsed"));
            [&payload[..HEADER_BYTES], &payload[at as usize..]].concat()
        };
        let is_genuine = PAYLOADS.iter().any(|genuine| section(genuine) == section(&payload));
        assert_eq!(sessions.is_ok(), is_genuine, "only what was sealed opens");
        assert!(entry.sessions(&KEYS_ELSEWHERE).is_err(), "it belongs to one shard");
    }
    opens && sessions.is_ok()
}

/// Looks at a base; true if it opens.
fn check_base(found: &Base) -> bool {
    let opened = found.open_state(&KEYS);
    if found.sealed {
        let is_genuine = found.state == BASE.state && (found.index, found.term) == (BASE.index, BASE.term);
        assert_eq!(opened.is_ok(), is_genuine, "only what was sealed opens");
        assert!(found.open_state(&KEYS_ELSEWHERE).is_err(), "it belongs to one shard");
    }
    opened.is_ok()
}

/// A base, as a manifest or a snapshot brings it.
pub fn sealed_base(data: &[u8]) -> bool {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let Ok(found) = Base::decode(&mut reader) else { return false };
    if reader.finish().is_err() {
        return false;
    }
    assert_eq!(encoded(&found), data, "a base has one encoding");
    check_base(&found)
}

fn mend_manifest(bytes: &mut [u8]) {
    let Some(end) = bytes.len().checked_sub(4) else { return };
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

fn mend_hint(bytes: &mut [u8]) {
    if bytes.len() < 28 {
        return;
    }
    let crc = crc32fast::hash(&bytes[28..]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
}

/// A shard's manifest and its hint, as a start finds them: the length of the first, and both.
pub fn sealed_files(data: &[u8]) -> bool {
    let Some((length, files)) = data.split_first_chunk::<2>() else { return false };
    let (manifest, hint) = files.split_at(usize::from(u16::from_le_bytes(*length)).min(files.len()));
    let (mut manifest, mut hint) = (manifest.to_vec(), hint.to_vec());
    mend_manifest(&mut manifest);
    mend_hint(&mut hint);
    let disk = MemoryDisk::new();
    for (name, file) in [(MANIFEST_FILE, &manifest), (HINT_FILE, &hint)] {
        disk.write_shard_file(SHARD, name, &[file]).expect("memory takes it");
    }
    let Ok(layout) = Layout::read(&*disk, SHARD) else { return false };
    layout.listed().iter().for_each(|place| _ = layout.is_of_log(place.number));
    let found = layout.hint(&*disk, &KEYS).expect("memory gives it");
    if let Hint::Fresh(body) = found {
        let is_sealed = hint[7] == 3;
        let is_genuine = || body == b"slots"[..] && hint[28..] == sealed_hint()[28..];
        assert!(!is_sealed || is_genuine(), "only what was sealed opens");
    }
    layout.base().is_some_and(check_base)
}
