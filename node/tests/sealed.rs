//! Encryption at rest with real processes: switched on while a cluster works, nothing in the clear in any file or log line afterwards, a
//! wrong key that changes nothing, and both kinds of keys rotated.

use crate::common;
use crate::common::cluster::{OPERATION_DEADLINE, config_path};
use crate::common::http::HttpConnection;
use crate::common::process::run;
use crate::common::resp::Wire;
use crate::common::{ClusterOptions, TestCluster, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvorum_client::{AuthVerb, Client, ClusterVerb, Credentials, EncryptVerb, SealingOutlook, verifier_of};
use kvorum_scram::{ITERATIONS_MIN, SALT_BYTES, Verifier};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::iter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// How many keys and values are planted.
const PLANTED: usize = 1_000;
/// How many users have a password. Those of the first are hashed as often as programs hash them; the others as seldom as is allowed, to
/// save half a minute.
const USERS: usize = 50;
/// How many wrong ones are typed for each: a thousand passwords reach a node as they are.
const WRONG_PASSWORDS: usize = 19;
/// What no file may hold: the beginnings of keys, values and passwords.
const MARKS: [&str; 5] = ["planted-key-", "planted-value-", "planted-before-", "planted-password-", "planted-wrong-"];
/// What is written before the switch.
const BEFORE: &str = "in-the-clear-";
const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

fn key_file(folder: &Path, name: &str, fill: u8) -> String {
    let path = folder.join(name);
    std::fs::write(&path, [fill; 32]).expect("the folder is there");
    format!("file:{}", path.display())
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    paths.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect()
}

/// The files of a folder with all their bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = all_files(folder).into_iter();
    files.map(|path| (path.clone(), std::fs::read(&path).expect("it can be read"))).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    let (first, text) = (text.as_bytes()[0], text.as_bytes());
    let begins = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    begins.into_iter().any(|(at, _)| bytes[at..].starts_with(text))
}

/// Which of these texts are in the files of the nodes' folders: their data, and their audit logs.
fn found(cluster: &TestCluster, texts: &[String]) -> Vec<(PathBuf, String)> {
    let files = cluster.nodes().flat_map(|node| all_files(&cluster.node_dir(node)));
    let found_in = |path: PathBuf| {
        let mut bytes = std::fs::read(&path).expect("it can be read");
        // Most of a segment may be zeros that are yet to be written.
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        let there: Vec<_> = texts.iter().filter(|text| holds(&bytes, text)).cloned().collect();
        there.into_iter().map(move |text| (path.clone(), text))
    };
    files.flat_map(found_in).collect()
}

/// What of a text any base64 shows, at whichever place it begins.
fn in_base64(text: &str) -> [String; 3] {
    [0, 1, 2].map(|front| {
        let whole = STANDARD.encode([&b"xx"[..front], text.as_bytes()].concat());
        // What a byte before the text or behind it would change.
        whole[if front == 0 { 0 } else { front + 1 }..(front + text.len()) / 3 * 4].to_owned()
    })
}

/// Waits until all nodes do as is wanted.
async fn sealing(client: &Client, wanted: fn(&SealingOutlook) -> bool) -> SealingOutlook {
    eventually("the cluster seals", PATIENCE, async || {
        let plan = client.admin().plan(None).await.map_err(|error| error.to_string())?;
        let there = plan.sealing.as_ref().is_some_and(|sealing| wanted(sealing) && sealing.waits_for.is_empty());
        plan.sealing.clone().filter(|_| there).ok_or_else(|| format!("it does not yet: {:?}", plan.sealing))
    })
    .await
}

async fn encrypt(client: &Client, what: EncryptVerb) {
    eventually("the keys are as asked", PATIENCE, async || {
        client.admin().ask(ClusterVerb::Encrypt(what)).await.map_err(|error| error.to_string())
    })
    .await;
}

fn value(number: usize) -> String {
    let long = if number.is_multiple_of(10) { 300 } else { 1 };
    format!("planted-value-{number};").repeat(long)
}

async fn stop_all(cluster: &mut TestCluster) {
    let client = cluster.client().await;
    let topology = client.topology().await.expect("it answers");
    for node in cluster.nodes() {
        let client = cluster.client_of([node]).await;
        client.admin().shutdown(cluster.id_of(&topology, node)).await.expect("it stops");
        assert!(cluster.wait_exit(node, PATIENCE).await.success(), "node {node} stops cleanly");
    }
}

fn password(user: usize) -> String {
    format!("planted-password-{user}")
}

/// Gives every user a password. All nodes know them when this ends.
async fn plant_passwords(cluster: &TestCluster, client: &Client) {
    for user in 0..USERS {
        let text = password(user);
        let seldom = || Verifier::new(text.as_bytes(), [user as u8; SALT_BYTES], ITERATIONS_MIN).to_string();
        let verb = AuthVerb::PutUser {
            name: format!("user-{user}"),
            exists: None,
            verifier: Some(if user == 0 { verifier_of(&text) } else { seldom() }),
            roles: Some(vec!["readonly".to_owned()]),
            disabled: None,
        };
        client.admin().change_auth(verb).await.expect("the administrator may");
    }
    let last = USERS - 1;
    for node in cluster.nodes() {
        eventually("the last password is known", PATIENCE, async || {
            let mut wire = Wire::open(cluster.resp_address(node)).await;
            wire.send(&format!("AUTH user-{last} {}\r\n", password(last))).await;
            let answer = wire.line().await;
            if answer == "+OK" { Ok(()) } else { Err(answer) }
        })
        .await;
    }
}

/// Logs every user in, once with the password and then with wrong ones, at the doors to which passwords come as they are: at RESP
/// and, as every other user, at HTTP.
async fn type_passwords(cluster: &TestCluster) {
    let typed = |user: usize| {
        let wrong = (0..WRONG_PASSWORDS).map(move |number| (format!("planted-wrong-{user}-{number}"), false));
        iter::once((password(user), true)).chain(wrong)
    };
    let at_resp = async {
        let mut wire = Wire::open(cluster.resp_address(1)).await;
        for user in (0..USERS).step_by(2) {
            for (text, is_right) in typed(user) {
                let expected = if is_right { "+OK\r\n" } else { WRONG };
                wire.exchange(&format!("AUTH user-{user} {text}"), expected).await;
            }
        }
    };
    let at_http = async {
        let mut http = HttpConnection::open(cluster.http_address(2)).await.expect("the door is open");
        for user in (1..USERS).step_by(2) {
            for (text, is_right) in typed(user) {
                let header = format!("authorization: Basic {}", STANDARD.encode(format!("user-{user}:{text}")));
                let answer = http.request("GET", "/kv/nothing", &[&header], "").await.expect("it is answered");
                assert_eq!(answer.status, if is_right { 404 } else { 401 }, "user {user}, {text}: {answer:?}");
            }
        }
    };
    tokio::join!(at_resp, at_http);
    // At the binary door a wrong password does not come at all: one is enough.
    let wrong = Credentials::Password { user: "user-1".to_owned(), password: "planted-wrong-1".to_owned() };
    let builder = Client::builder().url(&cluster.url([3])).credentials(wrong);
    assert!(builder.connect().await.is_err(), "nobody is let in by a wrong password");
}

async fn read_all(client: &Client) {
    for number in 0..PLANTED {
        let read = client.get(format!("planted-key-{number}")).await.expect("it is served").expect("it is there");
        assert_eq!(read.value, value(number), "key {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_in_the_clear_and_another_key_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (right, wrong) = (key_file(folder.path(), "right", 1), key_file(folder.path(), "wrong", 2));
    let password = folder.path().join("password");
    std::fs::write(&password, "planted-password-of-admin\n").expect("the folder is there");
    let credentials =
        Credentials::Password { user: "admin".to_owned(), password: "planted-password-of-admin".to_owned() };
    let environment = vec![
        ("KVORUM_ENCRYPTION_KEY", right.clone()),
        ("KVORUM_LOG", "info".to_owned()),
        ("KVORUM_AUTH_MODE", "required".to_owned()),
        ("KVORUM_AUTH_BOOTSTRAP_PASSWORD_FILE", password.to_str().expect("UTF-8").to_owned()),
    ];
    let options =
        ClusterOptions { shards: 4, environment, credentials: Some(credentials), ..ClusterOptions::default() };
    let mut cluster = TestCluster::laid_out(options);
    for node in cluster.nodes() {
        let path = config_path(&cluster.node_dir(node));
        let text = std::fs::read_to_string(&path).expect("the configuration");
        std::fs::write(&path, format!("{text}\n[audit]\nfile = \"audit.jsonl\"\n")).expect("it can be written");
        cluster.start_node(node);
    }
    cluster.wait_ready().await;
    let client = cluster.client().await;
    client.put(format!("{BEFORE}key"), "1").await.expect("it is written");
    assert_eq!(client.admin().plan(None).await.expect("it answers").sealing, None, "nothing is sealed yet");

    encrypt(&client, EncryptVerb::On).await;
    let now = sealing(&client, |sealing| sealing.active == 1).await;
    assert_eq!((now.newest, now.keys, now.wrapped), (1, 1, true));
    for number in 0..PLANTED {
        let key = format!("planted-key-{number}");
        if number.is_multiple_of(4) {
            client.put(&*key, format!("planted-before-{number}")).await.expect("it is written");
        }
        // What a write replaces is remembered with its answer.
        client.put(&*key, value(number)).return_previous().await.expect("it is written");
    }
    plant_passwords(&cluster, &client).await;
    type_passwords(&cluster).await;
    read_all(&client).await;
    // A node whose disk is gone is given all of it by the others.
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.node_dir(3).join("data")).expect("it is gone");
    cluster.start_node(3);
    cluster.wait_caught_up(3).await;
    read_all(&client).await;

    stop_all(&mut cluster).await;
    assert!(!found(&cluster, &[BEFORE.to_owned()]).is_empty(), "the search finds what is in the clear");
    let audited = found(&cluster, &["user-49".to_owned()]);
    assert!(audited.iter().any(|(path, _)| path.ends_with("audit.jsonl")), "and who has logged in");
    let marks: Vec<String> =
        MARKS.iter().flat_map(|mark| [vec![(*mark).to_owned()], in_base64(mark).into()].concat()).collect();
    assert_eq!(found(&cluster, &marks), []);
    for node in cluster.nodes() {
        let holds_one = |line: &String| marks.iter().any(|mark| line.contains(mark));
        let told: Vec<String> = cluster.log(node).lines().into_iter().filter(holds_one).collect();
        assert!(told.is_empty(), "node {node} has logged {told:?}");
    }

    // Another key, and none.
    let data = cluster.node_dir(1).join("data");
    let before = contents(&data);
    let config = config_path(&cluster.node_dir(1));
    for arguments in [&["start", "--config", &config, "--encryption-key", &wrong][..], &["start", "--config", &config]]
    {
        let (status, text) = run(arguments);
        assert_eq!(status.code(), Some(78), "{text}");
        assert!(text.contains("encryption.key"), "{text}");
        assert!(contents(&data) == before, "the folder is as it was");
    }
    // Looking needs no key, and with the key everything opens.
    let data = data.to_str().expect("UTF-8");
    let (status, text) = run(&["verify", data]);
    assert!(status.success(), "{text}");
    let (status, text) = run(&["verify", data, "--key", &right]);
    assert!(status.success() && text.contains("records are sealed and open"), "{text}");
    let (status, text) = run(&["verify", data, "--key", &wrong]);
    assert!(!status.success() && text.contains("another encryption.key"), "{text}");

    for node in cluster.nodes() {
        cluster.start_node(node);
    }
    cluster.wait_ready().await;
    read_all(&cluster.client().await).await;
}

/// A data key, then the key-encryption key, while the cluster works and is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_kinds_of_keys_are_rotated_while_the_cluster_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (key_file(folder.path(), "old", 1), key_file(folder.path(), "new", 2));
    let environment = vec![("KVORUM_ENCRYPTION_KEY", old.clone())];
    let mut cluster = TestCluster::start(ClusterOptions { shards: 2, environment, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    encrypt(&client, EncryptVerb::On).await;
    sealing(&client, |sealing| sealing.active == 1).await;
    client.put("first", "1").await.expect("it is written");
    encrypt(&client, EncryptVerb::Rotate).await;
    sealing(&client, |sealing| sealing.active == 2 && sealing.keys == 2).await;
    client.put("second", "2").await.expect("it is written");
    let refused = client.admin().ask(ClusterVerb::Encrypt(EncryptVerb::Rewrap)).await;
    assert!(refused.is_ok(), "all are wrapped with the key of now: {refused:?}");

    // The new key-encryption key, on one node after the other; until the last has it, nothing is wrapped anew.
    let both = [("KVORUM_ENCRYPTION_KEY", new.clone()), ("KVORUM_ENCRYPTION_OLD_KEY", old)];
    for node in cluster.nodes() {
        cluster.kill(node);
        cluster.start_node_with(node, &both, common::process::Surroundings::default());
        cluster.wait_caught_up(node).await;
    }
    encrypt(&client, EncryptVerb::Rewrap).await;
    sealing(&client, |sealing| sealing.wrapped).await;
    let only_new = [("KVORUM_ENCRYPTION_KEY", new)];
    cluster.kill_all();
    for node in cluster.nodes() {
        cluster.start_node_with(node, &only_new, common::process::Surroundings::default());
    }
    cluster.wait_ready().await;
    let client = cluster.client().await;
    for (key, value) in [("first", "1"), ("second", "2")] {
        let read = tokio::time::timeout(OPERATION_DEADLINE, client.get(key)).await.expect("in time");
        assert_eq!(read.expect("it is served").expect("it is there").value, value);
    }
}

/// It stands for a key management service that is out of reach for one node: that node must not storm it, and goes on when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_is_asked_again_once_a_second() {
    const CALLS: usize = 7;
    /// So many more than seconds there may be: a newer ring map is a reason of its own.
    const MORE: usize = 4;
    let folder = tempfile::tempdir().expect("a folder");
    let (program, calls, mended) =
        (folder.path().join("kek"), folder.path().join("calls"), folder.path().join("mended"));
    let script = format!(
        "#!/bin/sh\nif [ -n \"$FAR_AWAY\" ]; then echo \"$1\" >> {calls}; [ -e {mended} ] || exit 1; fi\ncat\n",
        calls = calls.display(),
        mended = mended.display()
    );
    std::fs::write(&program, script).expect("the folder is there");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
    std::fs::write(&mended, "").expect("the folder is there");
    let environment = vec![("KVORUM_ENCRYPTION_KEY", format!("exec:{}", program.display()))];
    let mut cluster = TestCluster::start(ClusterOptions { shards: 2, environment, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    encrypt(&client, EncryptVerb::On).await;
    sealing(&client, |sealing| sealing.active == 1).await;
    cluster.kill(3);
    cluster.start_node_with(3, &[("FAR_AWAY", "1".to_owned())], common::process::Surroundings::default());
    cluster.wait_caught_up(3).await;

    std::fs::remove_file(&mended).expect("it is there");
    std::fs::write(&calls, "").expect("the folder is there");
    let began = Instant::now();
    encrypt(&client, EncryptVerb::Rotate).await;
    let count = eventually("the program is asked again", PATIENCE, async || {
        let count = std::fs::read_to_string(&calls).expect("it is there").lines().count();
        if count >= CALLS { Ok(count) } else { Err(format!("{count} calls")) }
    })
    .await;
    let seconds = began.elapsed().as_secs() as usize;
    assert!(count <= seconds + MORE, "{count} calls in {seconds} s");
    client.put("meanwhile", "1").await.expect("the key before seals what is written meanwhile");
    std::fs::write(&mended, "").expect("the folder is there");
    sealing(&client, |sealing| sealing.active == 2).await;
    assert!(cluster.process(3).is_running(), "node 3 has ended: {}", cluster.log(3).last_line());
}
