//! The web console of a cluster of real processes: what it shows while nodes go until there is no quorum, and who may look.

use crate::common::http::{HttpAnswer, request};
use crate::common::{ClusterOptions, TestCluster, eventually};
use kvorum_client::{AuthVerb, ClusterClasses, Credentials, Grant, KeyClasses, verifier_of};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(40);
/// A state is answered within this, whatever other nodes do.
const STATE_WITHIN: Duration = Duration::from_secs(4);
/// Lines of a point.
const LINES: usize = 24;

async fn get(address: SocketAddr, target: &str, headers: &[&str]) -> HttpAnswer {
    request(address, "GET", target, headers, "").await
}

async fn state(address: SocketAddr) -> Value {
    let answer = tokio::time::timeout(STATE_WITHIN, get(address, "/console/state", &[])).await;
    let answer = answer.expect("the state waits for nobody for long");
    assert_eq!(answer.status, 200);
    answer.json()
}

/// A page that listens.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn open(address: SocketAddr, headers: &[&str]) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the node listens");
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!("GET /console/events HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.expect("the node reads");
        Self(BufReader::new(stream))
    }

    /// The next second; `None` once the node ends the stream.
    async fn next(&mut self) -> Option<Value> {
        let reading = async {
            loop {
                let mut line = Vec::new();
                if self.0.read_until(b'\n', &mut line).await.expect("the connection holds") == 0 || line == b"0\r\n" {
                    return None;
                }
                if let Some(data) = line.strip_prefix(b"data: ") {
                    return Some(serde_json::from_slice(data).expect("JSON in one line"));
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("a frame comes each second")
    }
}

fn word_of(state: &Value, name: &str) -> String {
    let nodes = state["nodes"].as_array().expect("nodes");
    nodes.iter().find(|node| node["name"] == name).map_or_else(String::new, |node| node["word"].to_string())
}

fn place_of(state: &Value, name: &str) -> usize {
    let nodes = state["nodes"].as_array().expect("nodes");
    nodes.iter().position(|node| node["name"] == name).expect("it is one of them")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_shows_what_is_and_goes_on_without_a_quorum() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("index.html"), "<!doctype html><title>Kvorum</title>")
        .expect("it can be written");
    std::fs::write(folder.path().join("app.js"), "export {};").expect("it can be written");
    let environment = vec![("KVORUM_CONSOLE_DIR", folder.path().to_str().expect("UTF-8").to_owned())];
    let mut cluster = TestCluster::start(ClusterOptions { environment, ..ClusterOptions::default() }).await;
    let address = cluster.http_address(1);

    let index = get(address, "/", &[]).await;
    assert_eq!((index.status, &index.headers["content-type"]), (200, &"text/html; charset=utf-8".parse().unwrap()));
    let policy = index.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(get(address, "/console/app.js", &[]).await.status, 200);
    assert_eq!(get(address, "/console/no.js", &[]).await.status, 404);
    assert_eq!(get(address, "/console", &[]).await.status, 308);

    for number in 0..40 {
        let put = request(address, "PUT", &format!("/kv/key-{number}"), &["content-type: text/plain"], "value").await;
        assert!(put.status < 300, "{put:?}");
        assert_eq!(get(address, &format!("/kv/key-{number}"), &[]).await.status, 200);
    }
    let whole = eventually("all is well and told", PATIENCE, async || {
        let state = state(address).await;
        let well = state["verdict"]["level"] == "ok"
            && state["cluster"]["keys"].as_u64() >= Some(40)
            && state["ill"] == json!([]);
        if well { Ok(state) } else { Err(state.to_string()) }
    })
    .await;
    assert_eq!(whole["shards"].as_array().map(Vec::len), Some(usize::from(cluster.shards())));
    assert_eq!(whole["verdict"]["verdict"], get(address, "/cluster", &[]).await.json()["verdict"]);
    assert_eq!(whole["auth"]["required"], false);
    assert_eq!((&whole["who"]["name"], &whole["slow_ms"]), (&Value::Null, &json!(100)));
    let own = place_of(&whole, "node-1");
    assert_eq!((&whole["self"], &whole["heard_ms"][own]), (&json!(own), &json!(0)));

    let mut page = Events::open(address, &[]).await;
    let first = page.next().await.expect("a frame");
    assert_eq!(first["point"].as_array().map(Vec::len), Some(LINES));
    let second = page.next().await.expect("a frame");
    assert_eq!(second["seq"].as_u64(), first["seq"].as_u64().map(|seq| seq + 1));

    // One node less: it is told as it is, and what it told last stays.
    cluster.kill(3);
    let gone = eventually("the console shows that node-3 is gone", PATIENCE, async || {
        let state = state(address).await;
        let alarm = state["alarms"].as_array().is_some_and(|alarms| {
            alarms.iter().any(|alarm| alarm["code"] == "node_silent" || alarm["code"] == "node_down")
        });
        let told = alarm && word_of(&state, "node-3") != "\"Up\"" && state["verdict"]["level"] != "ok";
        if told { Ok(state) } else { Err(state.to_string()) }
    })
    .await;
    let third = place_of(&gone, "node-3");
    assert!(gone["nodes"][third]["connections"].is_u64() && gone["heard_ms"][third].as_u64() > Some(0), "{gone}");
    assert!(gone["ill"].as_array().is_some_and(|ill| !ill.is_empty()));
    let told = eventually("the page that listens hears of it", PATIENCE, async || {
        let frame = page.next().await.expect("the stream goes on");
        let events = frame["events"].as_array().cloned().unwrap_or_default();
        let down = events.into_iter().find(|event| event["kind"] == "node_down");
        down.ok_or("not yet")
    })
    .await;
    assert_eq!(told["node"], json!(third));

    // No quorum: this node tells what it knows, and says that it is alone.
    cluster.kill(2);
    let alone = eventually("the console shows that there is no quorum", PATIENCE, async || {
        let state = state(address).await;
        let told = state["verdict"]["verdict"] == "unavailable"
            && state["verdict"]["alone"] == true
            && state["verdict"]["spoken_for"] == false
            && state["shards"].as_array().is_some_and(|rows| rows.iter().all(|row| row[0].is_null()));
        if told { Ok(state) } else { Err(state.to_string()) }
    })
    .await;
    assert_eq!((&alone["cluster"]["keys"], &alone["nodes"][own]["word"]), (&Value::Null, &json!("Up")));
    let keys: u64 = alone["shards"].as_array().expect("shards").iter().filter_map(|row| row[3].as_u64()).sum();
    assert!(keys >= 40, "its own replicas tell: {keys}");
    assert!(page.next().await.is_some(), "seconds go on");
    for address_of_page in ["/console/history", "/console/heat", "/console/node", "/console/jobs", "/console/log"] {
        assert_eq!(get(address, address_of_page, &[]).await.status, 200, "{address_of_page}");
    }
}

async fn log_in(address: SocketAddr, name: &str, password: &str) -> HttpAnswer {
    let body = &json!({"name": name, "password": password}).to_string();
    // A node with too much to do says so, and is asked again.
    eventually("there is an answer", PATIENCE, async || {
        let headers = ["content-type: application/json"];
        let answer = request(address, "POST", "/console/login", &headers, body.clone()).await;
        if answer.status == 503 { Err(String::from_utf8_lossy(&answer.body).into_owned()) } else { Ok(answer) }
    })
    .await
}

fn cookie_of(answer: &HttpAnswer) -> String {
    let set = answer.headers["set-cookie"].to_str().expect("text");
    for attribute in ["__Host-kvorum=", "; Path=/;", "; Secure", "; HttpOnly", "; SameSite=Strict", "Max-Age=43200"] {
        assert!(set.contains(attribute), "{attribute}: {set}");
    }
    format!("cookie: {}", set.split(';').next().expect("there is a first part"))
}

/// A cluster that asks, whose administrator has a password.
async fn cluster_that_asks(folder: &tempfile::TempDir) -> TestCluster {
    let file = folder.path().join("password");
    std::fs::write(&file, "correct-horse\n").expect("the folder is there");
    let environment = vec![
        ("KVORUM_AUTH_MODE", "required".to_owned()),
        ("KVORUM_AUDIT_FILE", "stderr".to_owned()),
        ("KVORUM_AUTH_BOOTSTRAP_PASSWORD_FILE", file.to_str().expect("UTF-8").to_owned()),
    ];
    let credentials = Some(Credentials::Password { user: "admin".to_owned(), password: "correct-horse".to_owned() });
    TestCluster::start(ClusterOptions { shards: 4, environment, credentials, ..ClusterOptions::default() }).await
}

fn put_user(name: &str, password: &str, roles: &[&str]) -> AuthVerb {
    let roles = Some(roles.iter().map(|role| (*role).to_owned()).collect());
    AuthVerb::PutUser {
        name: name.to_owned(),
        exists: None,
        verifier: Some(verifier_of(password)),
        roles,
        disabled: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_look_has_to_say_who_he_is_where_that_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster_that_asks(&folder).await;
    let address = cluster.http_address(1);
    let admin = cluster.client().await;
    let grants = vec![Grant { prefix: "".into(), classes: KeyClasses::READ }];
    let reader = AuthVerb::PutRole { name: "reader".to_owned(), grants, cluster: ClusterClasses::NONE };
    admin.admin().change_auth(reader).await.expect("the administrator may");
    admin.admin().change_auth(put_user("ada", "lovelace", &["reader"])).await.expect("the administrator may");

    // Nobody: the files, and that he has to log in.
    let refused = get(address, "/console/state", &["sec-fetch-dest: empty"]).await;
    assert_eq!(
        (refused.status, &refused.headers["www-authenticate"]),
        (401, &"Bearer realm=\"kvorum\"".parse().unwrap())
    );
    assert_eq!(get(address, "/console/state", &[]).await.headers.get_all("www-authenticate").iter().count(), 2);
    for closed in ["history", "events", "node", "log", "heat", "jobs", "security"] {
        assert_eq!(get(address, &format!("/console/{closed}"), &[]).await.status, 401, "{closed}");
    }
    assert_eq!(get(address, "/console/who", &[]).await.json(), json!({"required": true, "who": null}));
    assert_eq!(log_in(address, "admin", "wrong").await.status, 401);
    assert_eq!(log_in(address, "nobody", "correct-horse").await.status, 401);
    assert_eq!(request(address, "POST", "/console/login", &["content-type: application/json"], "{}").await.status, 400);

    let entered = log_in(address, "admin", "correct-horse").await;
    assert_eq!((entered.status, &entered.json()["who"]["name"]), (200, &json!("admin")));
    let cookie = cookie_of(&entered);
    let whole = get(address, "/console/state", &[&cookie]).await;
    assert_eq!((whole.status, &whole.json()["who"]["name"]), (200, &json!("admin")));
    // The other addresses know him, too; to change something the browser must say that it is a page of this address.
    let put = ["PUT", "/kv/key"];
    let text = "content-type: text/plain";
    let put_with = async |headers: &[&str]| request(address, put[0], put[1], headers, "value").await.status;
    assert_eq!(put_with(&[&cookie, text]).await, 403);
    assert_eq!(put_with(&[&cookie, text, "sec-fetch-site: cross-site"]).await, 403);
    assert_eq!(put_with(&[&cookie, text, "origin: http://evil.example"]).await, 403);
    assert_eq!(put_with(&[&cookie, text, "sec-fetch-site: same-origin"]).await, 201);
    assert_eq!(get(address, "/kv/key", &[&cookie]).await.status, 200);
    assert_eq!(get(cluster.http_address(2), "/console/state", &[&cookie]).await.status, 401, "it is this node's login");

    let security = eventually("the logins are written down", PATIENCE, async || {
        let security = get(address, "/console/security", &[&cookie]).await;
        let text_of_it = String::from_utf8(security.body.to_vec()).expect("text");
        assert!(!text_of_it.contains("SCRAM") && !text_of_it.contains("digest"), "{text_of_it}");
        let security = security.json();
        let lines = security["audit"]["lines"].as_array().cloned().unwrap_or_default();
        let wrote = |kind: &str| lines.iter().any(|line| line["event"] == kind && line["user"] == "admin");
        if wrote("login") && wrote("login_failed") { Ok(security) } else { Err(text_of_it) }
    })
    .await;
    let security_users = security["users"].as_array().map(Vec::len);
    assert_eq!((security_users, security["certificates"].as_array().map(Vec::len)), (Some(2), Some(2)));
    let node = get(address, "/console/node", &[&cookie]).await.json();
    let setting = |name: &str| {
        let all = node["config"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|row| row[0] == name).unwrap_or_default()
    };
    assert_eq!(setting("tls.key"), json!(["tls.key", "[redacted]", "file"]));
    assert_eq!(setting("auth.mode"), json!(["auth.mode", "required", "environment"]));
    assert_eq!(setting("auth.bootstrap_password_file")[1], "[redacted]");
    assert_eq!(setting("journal.files"), json!(["journal.files", "4", "default"]));

    // Somebody who may read keys, and knows nothing of the cluster.
    let ada = eventually("the node knows ada", PATIENCE, async || {
        let answer = log_in(address, "ada", "lovelace").await;
        if answer.status == 200 { Ok(cookie_of(&answer)) } else { Err(answer.status) }
    })
    .await;
    for closed in ["state", "events", "log", "security"] {
        assert_eq!(get(address, &format!("/console/{closed}"), &[&ada]).await.status, 403, "{closed}");
    }
    // It tells of this node's replica, which may be a moment behind.
    eventually("she may ask about a key that she may read", PATIENCE, async || {
        let told = get(address, "/explain?key=key", &[&ada]).await.json();
        if told["value_bytes"] == 5 { Ok(()) } else { Err(told.to_string()) }
    })
    .await;

    // Who has left stays out, whoever has a copy of the cookie; what he has opened ends.
    let mut page = Events::open(address, &[&cookie]).await;
    assert!(page.next().await.is_some());
    let left = request(address, "POST", "/console/logout", &[&cookie, "sec-fetch-site: same-origin"], "").await;
    assert_eq!(left.status, 204);
    assert!(left.headers["set-cookie"].to_str().is_ok_and(|set| set.contains("Max-Age=0")));
    assert_eq!(get(address, "/console/state", &[&cookie]).await.status, 401);
    while page.next().await.is_some() {}

    // Whose password is changed is out, and so is the page that listens.
    let cookie = cookie_of(&log_in(address, "admin", "correct-horse").await);
    let mut page = Events::open(address, &[&cookie]).await;
    assert!(page.next().await.is_some());
    admin.admin().change_auth(put_user("admin", "battery-staple", &["root"])).await.expect("the administrator may");
    while page.next().await.is_some() {}
    assert_eq!(get(address, "/console/state", &[&cookie]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_node_asks_nobody_and_a_stopping_one_ends_the_streams() {
    let mut cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 2, ..ClusterOptions::default() }).await;
    let address = cluster.http_address(1);
    let who = get(address, "/console/who", &[]).await.json();
    assert_eq!((&who["required"], &who["who"]["name"]), (&json!(false), &Value::Null));
    assert_eq!(log_in(address, "admin", "x").await.status, 409);
    let log = get(address, "/console/log?limit=3", &[]).await.json();
    assert!(log["lines"].as_array().is_some_and(|lines| lines.len() == 3 && lines[0][3].is_string()), "{log}");
    let after = log["next"].as_u64().expect("a number") - 1;
    assert_eq!(get(address, &format!("/console/log?after={after}"), &[]).await.json()["lines"], json!([]));
    assert_eq!(get(address, "/console/log?limit=0", &[]).await.status, 400);
    let put = request(address, "PUT", "/kv/hot", &["content-type: text/plain"], "x").await;
    assert_eq!(put.status, 201);
    let page = get(address, "/kv?prefix=none", &[]).await.json();
    assert_eq!((&page["shards_done"], &page["shards"], &page["cursor"]), (&json!(2), &json!(2), &Value::Null));
    let moved = request(address, "POST", "/shards/0/leader?to=node-9", &[], "").await;
    assert_eq!(moved.status, 404);
    let mut listening = Events::open(address, &[]).await;
    assert!(listening.next().await.is_some());
    let process = rustix::process::Pid::from_raw(cluster.process(1).id() as i32).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it is a child of ours");
    while listening.next().await.is_some() {}
    assert!(cluster.wait_exit(1, PATIENCE).await.success());
}
