//! Who may do what, at every door of a cluster that asks: nobody, the wrong one, a user of some keys, and the administrator; and what
//! becomes of a user whose rights are taken away.

use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::http::HttpConnection;
use crate::common::resp::{Wire, encoded};
use crate::common::wire::new_client;
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually};
use kvorum_client::{
    AuthVerb, Client, ClusterClasses, Credentials, ErrorCode, Grant, KeyClasses, UserLimits, draw_token, verifier_of,
};
use kvorum_protocol::{AuthRequest, RequestBody, ResponseBody};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// What every node must know by then.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

fn password(user: &str, password: &str) -> Credentials {
    Credentials::Password { user: user.to_owned(), password: password.to_owned() }
}

fn user(name: &str, verifier: Option<String>, roles: &[&str]) -> AuthVerb {
    let roles = Some(roles.iter().map(|role| (*role).to_owned()).collect());
    AuthVerb::PutUser { name: name.to_owned(), exists: None, verifier, roles, disabled: None }
}

/// A cluster that asks, whose administrator has a password.
async fn cluster(folder: &tempfile::TempDir) -> TestCluster {
    let file = folder.path().join("password");
    std::fs::write(&file, "correct-horse\n").expect("the folder is there");
    let environment = vec![
        ("KVORUM_AUTH_MODE", "required".to_owned()),
        ("KVORUM_AUTH_BOOTSTRAP_PASSWORD_FILE", file.to_str().expect("UTF-8").to_owned()),
    ];
    let credentials = Some(password("admin", "correct-horse"));
    TestCluster::start(ClusterOptions { shards: 4, environment, credentials, ..ClusterOptions::default() }).await
}

/// The administrator makes a role, a user who has it, and a token of that user. Gives the token.
async fn make_ada(admin: &Client) -> String {
    let grant = |prefix: &'static str, classes| Grant { prefix: prefix.into(), classes };
    let writes = KeyClasses::READ.with(KeyClasses::WRITE).with(KeyClasses::SCAN);
    let role = AuthVerb::PutRole {
        name: "app".to_owned(),
        grants: vec![grant("app/", writes), grant("shared/", KeyClasses::READ)],
        cluster: ClusterClasses::NONE,
    };
    admin.admin().change_auth(role).await.expect("the administrator may");
    admin.admin().change_auth(user("ada", Some(verifier_of("lovelace")), &["app"])).await.expect("he may");
    let (token, verb) = draw_token("ada", None, None);
    admin.admin().change_auth(verb).await.expect("he may");
    token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_may_do_what_his_roles_say_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(&folder).await;
    let admin = cluster.client().await;
    assert_eq!(admin.admin().who_am_i().await.expect("he has logged in"), "admin");
    let token = make_ada(&admin).await;
    admin.put("shared/x", "1").await.expect("he may write everywhere");
    admin.put("other/x", "1").await.expect("he may write everywhere");

    // Nobody, and the wrong one.
    let nobody = cluster.client_as([1], None).await;
    let code = |error: kvorum_client::Error| error.code();
    assert_eq!(nobody.get("app/x").await.map_err(code), Err(ErrorCode::Unauthenticated));
    assert_eq!(nobody.put("app/x", "1").await.map_err(code).err(), Some(ErrorCode::Unauthenticated));
    for wrong in [
        password("ada", "byron"),
        password("nobody", "lovelace"),
        Credentials::Token(format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { "1" } else { "0" })),
        Credentials::Token("kvt_".to_owned()),
    ] {
        let url = cluster.url([1]);
        let refused = eventually("the node knows the newest table", PATIENCE, async || {
            let builder = Client::builder().url(&url).connect_timeout(PATIENCE).credentials(wrong.clone());
            let refused = builder.connect().await.map_err(code).err();
            if refused == Some(ErrorCode::Unavailable) { Err("it has not heard of it") } else { Ok(refused) }
        })
        .await;
        assert_eq!(refused, Some(ErrorCode::Unauthenticated), "{wrong:?}");
    }

    // A user, by password and by token, at every node: each knows him soon. A client turns to whichever node leads, so all have to.
    let credentials = [password("ada", "lovelace"), Credentials::Token(token.clone())];
    let mut clients = Vec::new();
    for node in cluster.nodes() {
        for credentials in &credentials {
            let ada = eventually("the node knows ada", PATIENCE, async || {
                let builder = Client::builder().url(&cluster.url([node])).deadline(OPERATION_DEADLINE);
                builder.credentials(credentials.clone()).connect().await
            });
            clients.push(ada.await);
        }
    }
    for ada in &clients {
        assert_eq!(ada.admin().who_am_i().await.expect("she has logged in"), "ada");
        ada.put("app/x", "1").await.expect("her key");
        assert_eq!(ada.get("shared/x").await.expect("she may read it").expect("it is there").value, "1");
        let denied = Some(ErrorCode::PermissionDenied);
        assert_eq!(ada.put("shared/x", "2").await.map_err(code).err(), denied);
        assert_eq!(ada.get("other/x").await.map_err(code).err(), denied);
        assert_eq!(ada.delete("app/x").await.map_err(code).err(), denied);
        assert_eq!(ada.status().await.map_err(code).err(), denied);
        assert_eq!(ada.admin().auth().await.map_err(code).err(), denied);
        assert_eq!(
            ada.admin().change_auth(user("ada", None, &["root"])).await.map_err(code),
            Err(ErrorCode::PermissionDenied)
        );
        assert_eq!(ada.admin().check_access("ada", KeyClasses::READ, "app/1").await.map_err(code), Ok(()));
        assert_eq!(ada.admin().check_access("ada", KeyClasses::DELETE, "app/1").await.map_err(code).err(), denied);
        let listed: Vec<_> = ada.scan("app/").try_collect_all().await.expect("she may list hers");
        assert_eq!(listed.len(), 1);
        assert_eq!(
            ada.scan("").try_collect_all().await.map_err(code).err(),
            denied,
            "not all keys, and none left out silently"
        );
    }
    over_http(&cluster, &token).await;
    over_resp(&cluster, &token).await;

    let copy = std::fs::read_to_string(cluster.node_dir(1).join("data/auth.json.metadata")).expect("a copy is kept");
    assert!(
        copy.contains("\"ada\"")
            && !copy.contains("lovelace")
            && !copy.contains("horse")
            && !copy.contains(&token[21..])
    );
}

async fn over_http(cluster: &TestCluster, token: &str) {
    use base64::Engine as _;
    let basic = |text: &str| format!("authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let ada = basic("ada:lovelace");
    let bearer = format!("authorization: Bearer {token}");
    let admin = basic("admin:correct-horse");
    let mut http = HttpConnection::open(cluster.http_address(2)).await.expect("the door is open");
    for (headers, target, expected) in [
        (vec![], "/kv/app%2Fx", 401),
        (vec!["authorization: Basic nonsense"], "/kv/app%2Fx", 401),
        (vec!["authorization: Bearer kvt_1_2"], "/kv/app%2Fx", 401),
        (vec![], "/metrics", 401),
        (vec![], "/health", 401),
        (vec![], "/nodes", 401),
        (vec![], "/health/live", 200),
        (vec![], "/health/ready", 200),
        (vec![], "/docs", 200),
        (vec![&*ada], "/kv/app%2Fx", 200),
        (vec![&*bearer], "/kv/app%2Fx", 200),
        (vec![&*ada], "/kv/other%2Fx", 403),
        (vec![&*ada], "/kv?prefix=app/", 200),
        (vec![&*ada], "/kv?prefix=", 403),
        (vec![&*ada], "/mapping?key=app/x", 200),
        (vec![&*ada], "/mapping?key=other", 403),
        (vec![&*ada], "/metrics", 403),
        (vec![&*bearer], "/cluster", 403),
        (vec![&*admin], "/metrics", 200),
        (vec![&*admin], "/cluster", 200),
        (vec![&*admin], "/nowhere", 404),
        (vec![&*ada], "/nowhere", 403),
    ] {
        let answer = http.request("GET", target, &headers, "").await.expect("an answer");
        assert_eq!(answer.status, expected, "{target} {headers:?}: {:?}", answer.body);
        if expected == 401 {
            let ways: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
            assert_eq!(ways.len(), 2, "{ways:?}");
        }
    }
    // The two headers that prove nothing are counted, though no audit log is written; so are the refusals.
    let metrics = http.request("GET", "/metrics", &[&admin], "").await.expect("an answer");
    let metrics = String::from_utf8(metrics.body.to_vec()).expect("text");
    let counted = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{{door=\"http\"}} ")));
    assert_eq!(counted("kvorum_login_failures_total"), Some("2.0"));
    assert!(counted("kvorum_denials_total").is_some_and(|count| count != "0.0"), "{metrics}");
    let json = "content-type: application/json";
    let put = http.request("PUT", "/kv/shared%2Fx", &[&ada, json], "{\"value\":\"9\"}").await.expect("an answer");
    assert_eq!(put.status, 403);
    let pause = http.request("POST", "/cluster/pause", &[&ada], "").await.expect("an answer");
    assert_eq!(pause.status, 403);
}

async fn over_resp(cluster: &TestCluster, token: &str) {
    let mut silent = Wire::open(cluster.resp_address(3)).await;
    let mut resp = Wire::open(cluster.resp_address(3)).await;
    let noauth = "-NOAUTH Authentication required.\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    resp.exchange("GET app/x\nCONFIG GET *\nINFO\nPING", &noauth.repeat(4)).await;
    resp.exchange("AUTH ada byron\nAUTH nobody lovelace\nAUTH lovelace", &wrong.repeat(3)).await;
    // What comes behind AUTH in one packet is the user's already.
    resp.exchange("AUTH ada lovelace\nGET app/x\nSET app/x 2", "+OK\r\n$1\r\n1\r\n+OK\r\n").await;
    let denied = "-NOPERM the user \"ada\" has no right to";
    resp.exchange("GET other/x", &format!("{denied} read a key that it names\r\n")).await;
    resp.exchange("SET shared/x 2", &format!("{denied} write a key that it names\r\n")).await;
    resp.exchange("MGET app/x other/x", &format!("{denied} read a key that it names\r\n")).await;
    resp.exchange("CONFIG GET *", &format!("{denied} admin of the cluster\r\n")).await;
    resp.exchange("INFO", &format!("{denied} status of the cluster\r\n")).await;
    resp.exchange("MULTI\nGET other/x\nEXEC", &format!("+OK\r\n+QUEUED\r\n{denied} read a key that it names\r\n"))
        .await;
    resp.exchange("WAIT 2 0", &format!("{denied} status of the cluster\r\n")).await;
    // What was asked before it ends the login is answered to whoever asked it.
    let pipeline = "SET app/x 2\nGET app/x\nRESET\nGET app/x";
    resp.exchange(pipeline, &format!("+OK\r\n$1\r\n2\r\n+RESET\r\n{noauth}")).await;
    resp.exchange(&format!("AUTH {token}\nGET app/x"), "+OK\r\n$1\r\n2\r\n").await;
    resp.exchange("RESET", "+RESET\r\n").await;
    resp.exchange(&format!("AUTH ada {token}\nGET app/x"), "+OK\r\n$1\r\n2\r\n").await;
    resp.exchange("RESET", "+RESET\r\n").await;
    resp.exchange(&format!("AUTH admin {token}"), wrong).await;
    resp.exchange("SET app/x 1", noauth).await;
    let mut cluster_door = Wire::open(cluster.resp_cluster_address(1)).await;
    cluster_door.exchange("CLUSTER SLOTS", noauth).await;
    cluster_door.exchange("HELLO 3 AUTH ada byron", wrong).await;
    cluster_door.send(&encoded("HELLO 3 AUTH ada lovelace")).await;
    cluster_door.expect("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n").await;
    // The log of slow commands has no passwords, whatever counts as slow.
    let mut admin = Wire::open(cluster.resp_address(3)).await;
    admin.exchange("AUTH admin correct-horse\nCONFIG SET slowlog-log-slower-than 0", "+OK\r\n+OK\r\n").await;
    resp.exchange("AUTH ada lovelace\nECHO slow", "+OK\r\n$4\r\nslow\r\n").await;
    admin.send(&encoded("SLOWLOG GET -1\nQUIT")).await;
    let told = admin.rest().await;
    assert!(told.contains("ECHO") && !told.contains("lovelace") && !told.contains("AUTH"), "{told}");
    // Whoever says nothing does not keep his place.
    tokio::time::timeout(PATIENCE, silent.closed()).await.expect("he has ten seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_rights_are_taken_away_is_gone_from_every_node_and_others_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(&folder).await;
    let admin = cluster.client().await;
    let token = make_ada(&admin).await;
    let mut wires = Vec::new();
    let mut others = Vec::new();
    for node in cluster.nodes() {
        let ada = eventually("the node knows ada", PATIENCE, async || {
            let mut wire = Wire::open(cluster.resp_address(node)).await;
            wire.send(&encoded("AUTH ada lovelace")).await;
            let line = wire.line().await;
            if line == "+OK" { Ok(wire) } else { Err(line) }
        })
        .await;
        wires.push(ada);
        let mut other = Wire::open(cluster.resp_address(node)).await;
        other.exchange("AUTH admin correct-horse", "+OK\r\n").await;
        others.push(other);
    }
    let clients = [
        cluster.client_as([1], Some(password("ada", "lovelace"))).await,
        cluster.client_as([2], Some(Credentials::Token(token))).await,
    ];
    for client in &clients {
        client.put("app/x", "1").await.expect("she may");
    }

    let disable = AuthVerb::PutUser {
        name: "ada".to_owned(),
        exists: Some(true),
        verifier: None,
        roles: None,
        disabled: Some(true),
    };
    let began = Instant::now();
    admin.admin().change_auth(disable).await.expect("the administrator may");
    for mut wire in wires {
        tokio::time::timeout(REVOKED_WITHIN, wire.closed()).await.expect("the node ends the connection");
    }
    println!("all of ada's connections ended {} ms after the change was asked for", began.elapsed().as_millis());
    for client in &clients {
        let refused = client.get("app/x").await.expect_err("she may not any more");
        assert_eq!(refused.code(), ErrorCode::Unauthenticated, "{refused}");
    }
    for mut other in others {
        other.exchange("GET app/x", "$1\r\n1\r\n").await;
    }
    // The last administrator stays.
    let gone =
        admin.admin().change_auth(AuthVerb::RemoveUser("admin".to_owned())).await.expect_err("nobody would be left");
    assert_eq!(gone.code(), ErrorCode::Refused, "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_there_after_all_nodes_were_killed_and_the_first_password_counts_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = cluster(&folder).await;
    let admin = cluster.client().await;
    make_ada(&admin).await;
    admin.admin().change_auth(user("admin", Some(verifier_of("battery staple")), &["root"])).await.expect("he may");
    let nodes: Vec<usize> = cluster.nodes().collect();
    cluster.kill_all();
    for node in nodes {
        cluster.start_node(node);
    }
    let admin = cluster.client_as([1], Some(password("admin", "battery staple"))).await;
    eventually("the table is there", PATIENCE, async || {
        let view = admin.admin().auth().await.map_err(|error| error.to_string())?;
        if view.users.len() == 2 { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    let old = Client::builder().url(&cluster.url([1])).connect_timeout(PATIENCE);
    let old = old.credentials(password("admin", "correct-horse")).connect().await;
    assert_eq!(old.map_err(|error| error.code()).err(), Some(ErrorCode::Unauthenticated));
}

/// The audit log of a node, whole lines only.
fn audit_log(cluster: &TestCluster, node: usize) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(cluster.node_dir(node).join("audit.jsonl")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
}

/// Waits for a line of this kind, of this user, with this text in it, at whichever node the client has asked.
async fn audited(cluster: &TestCluster, (kind, user, what): (&str, &str, &str)) {
    eventually(&format!("a line {kind} of {user}: {what}"), PATIENCE, async || {
        let lines: Vec<_> = cluster.nodes().flat_map(|node| audit_log(cluster, node)).collect();
        let is_it = |line: &serde_json::Value| {
            line["kind"] == kind
                && line["user"].as_str().unwrap_or_default() == user
                && line["what"].as_str().unwrap_or_default().contains(what)
        };
        if lines.iter().any(is_it) { Ok(()) } else { Err(format!("{lines:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_what_is_written_down_and_nothing_is_changed_while_it_can_t_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = cluster(&folder).await;
    let nodes: Vec<usize> = cluster.nodes().collect();
    cluster.kill_all();
    for &node in &nodes {
        let path = cluster.node_dir(node).join("kvorum.toml");
        let text = std::fs::read_to_string(&path).expect("the configuration");
        std::fs::write(&path, format!("{text}\n[audit]\nfile = \"audit.jsonl\"\n")).expect("it can be written");
        cluster.start_node(node);
    }
    let admin = cluster.client_as([1], Some(password("admin", "correct-horse"))).await;
    let token = make_ada(&admin).await;
    audited(&cluster, ("login", "admin", "password")).await;
    audited(&cluster, ("asked", "admin", "ROLE SET app ON app/ read,write,scan; shared/ read")).await;
    audited(&cluster, ("answered", "admin", "USER TOKEN ada: ")).await;

    // With whatever number a watch begins, it leaves a line, and no other one.
    let watched = admin.topology().await.expect("the cluster is up").nodes[0].id;
    let began = Instant::now();
    for from in [Some(0), Some(1), None] {
        admin.admin().monitor(watched, from).await.expect("an admin may");
    }
    // Who asks again after three seconds watches anew.
    let most = 1 + (began.elapsed().as_secs() / 3) as usize;
    audited(&cluster, ("answered", "admin", "MONITOR: done")).await;
    let lines = cluster.nodes().flat_map(|node| audit_log(&cluster, node));
    let count = lines.filter(|line| line["kind"] == "asked" && line["what"] == "MONITOR").count();
    assert!((1..=most).contains(&count), "{count} of {most}");

    let mut wire = Wire::open(cluster.resp_address(1)).await;
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    wire.exchange("AUTH ada byron", wrong).await;
    audited(&cluster, ("login_failed", "ada", "wrong")).await;
    let ada = cluster.client_as([1], Some(Credentials::Token(token.clone()))).await;
    assert!(ada.get("other/x").await.is_err());
    eventually("whichever node is asked knows ada", PATIENCE, async || {
        match ada.admin().change_auth(user("ada", None, &["root"])).await {
            Err(error) if error.code() == ErrorCode::PermissionDenied => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    audited(&cluster, ("login", "ada", "token ")).await;
    audited(&cluster, ("denied", "ada", "get: ")).await;
    audited(&cluster, ("denied", "ada", "USER SET ada ROLES root: ")).await;
    let mut http = HttpConnection::open(cluster.http_address(1)).await.expect("the door is open");
    let bearer = format!("authorization: Bearer {token}");
    assert_eq!(http.request("GET", "/metrics", &[&bearer], "").await.expect("an answer").status, 403);
    audited(&cluster, ("denied", "ada", "metrics of the cluster")).await;

    // Logs that can't be written: folders stand where the files were.
    let logs: Vec<_> = nodes
        .iter()
        .map(|&node| ["moved.jsonl", "audit.jsonl"].map(|name| cluster.node_dir(node).join(name)))
        .collect();
    for [moved, path] in &logs {
        std::fs::rename(path, moved).expect("it can be moved");
        std::fs::create_dir(path).expect("a folder");
    }
    eventually("changes are refused", PATIENCE, async || {
        match admin.admin().change_auth(user("bob", None, &[])).await {
            Err(error) if error.code() == ErrorCode::Unavailable && error.to_string().contains("audit log") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    ada.put("app/x", "1").await.expect("data goes on");
    for [_, path] in &logs {
        std::fs::remove_dir(path).expect("it is empty");
    }
    eventually("changes are taken again", PATIENCE, async || admin.admin().change_auth(user("eve", None, &[])).await)
        .await;
    audited(&cluster, ("answered", "admin", "USER SET eve")).await;

    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let text: String = logs.iter().flatten().map(|path| read(path)).collect();
    assert!(!text.contains("lovelace") && !text.contains("horse") && !text.contains(&token[21..]), "nothing secret");
    let verify = |[moved, path]: &[std::path::PathBuf; 2]| {
        // A node that nobody has asked since has no second file.
        let paths = [moved, path].into_iter().filter(|path| path.exists());
        let mut kvorum = std::process::Command::new(env!("CARGO_BIN_EXE_kvorum"));
        let output = kvorum.args(["audit", "verify"]).args(paths).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for paths in &logs {
        let (code, told) = verify(paths);
        assert!(code == Some(0) && told.starts_with("sound: "), "{told}");
    }
    let changed = read(&logs[0][0]).replacen("login_failed", "login", 1);
    std::fs::write(&logs[0][0], changed).expect("it can be written");
    assert_eq!(verify(&logs[0]).0, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_too_much_is_told_when_to_come_again_and_others_are_not() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(&folder).await;
    let admin = cluster.client().await;
    make_ada(&admin).await;
    admin.put("app/x", "1").await.expect("he may");
    let limits = UserLimits { requests_per_s: 5, ..UserLimits::default() };
    admin.admin().change_auth(AuthVerb::Limit { name: "ada".to_owned(), limits }).await.expect("he may");
    let basic = |text: &str| format!("authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let mut http = HttpConnection::open(cluster.http_address(1)).await.expect("the door is open");
    let refused = eventually("the node knows the limit", PATIENCE, async || {
        let mut refused = 0;
        for _ in 0..20 {
            let answer = http.request("GET", "/kv/app%2Fx", &[&basic("ada:lovelace")], "").await;
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.status == 429 {
                assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
                refused += 1;
            }
        }
        if refused > 0 { Ok(refused) } else { Err("nothing was refused".to_owned()) }
    })
    .await;
    assert!(refused < 20, "a second's worth goes at once");
    for _ in 0..20 {
        let answer = http.request("GET", "/kv/app%2Fx", &[&basic("admin:correct-horse")], "").await.expect("an answer");
        assert_eq!(answer.status, 200, "others are not held up");
    }
    // Whichever node is asked hears of it within a second.
    eventually("every node tells the limit", PATIENCE, async || {
        let view = admin.admin().auth().await.map_err(|error| error.to_string())?;
        let told = view.users.iter().find(|user| user.name == "ada").map(|user| user.limits);
        if told == Some(limits) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_as_many_connections_as_its_limit_says_at_all_doors_together() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(&folder).await;
    let admin = cluster.client().await;
    let token = make_ada(&admin).await;
    let limits = UserLimits { connections: 2, ..UserLimits::default() };
    admin.admin().change_auth(AuthVerb::Limit { name: "ada".to_owned(), limits }).await.expect("he may");
    let ada = format!("authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode("ada:lovelace"));
    let resp = || async {
        let mut connection = Wire::open(cluster.resp_address(1)).await;
        connection.send(&encoded("AUTH ada lovelace")).await;
        let answer = connection.line().await;
        (connection, answer)
    };
    let (mut first, second) = eventually("the node knows the limit", PATIENCE, async || {
        let [first, second, third] = [resp().await, resp().await, resp().await];
        match (&*first.1, &*second.1, &*third.1) {
            ("+OK", "+OK", refused) if refused.starts_with("-ERR the user has as many") => Ok((first.0, second.0)),
            answers => Err(format!("{answers:?}")),
        }
    })
    .await;
    first.exchange("AUTH ada lovelace", "+OK\r\n").await;
    let mut http = HttpConnection::open(cluster.http_address(1)).await.expect("the door is open");
    let answer = http.request("GET", "/kv/app%2Fx", &[&ada], "").await.expect("an answer");
    assert_eq!(answer.json()["code"], "too-many-connections", "{:?}", answer.body);
    let mut binary = RawConnection::greet(cluster.address(1), new_client()).await.expect("the door is open");
    let refused = binary.call(RequestBody::Auth(AuthRequest::Token(token.clone().into()))).await.expect("an answer");
    assert!(
        matches!(&refused, ResponseBody::Error(error) if error.code == ErrorCode::TooManyConnections),
        "{refused:?}"
    );
    // Those that are there stay; each node counts by itself.
    first.exchange("GET app/x", "$-1\r\n").await;
    let mut elsewhere = HttpConnection::open(cluster.http_address(2)).await.expect("the door is open");
    eventually("another node has places", PATIENCE, async || {
        let answer = elsewhere.request("GET", "/kv/app%2Fx", &[&ada], "").await.map_err(|error| error.to_string())?;
        if answer.status == 404 { Ok(()) } else { Err(format!("{:?}", answer.body)) }
    })
    .await;
    // Who is somebody else has another's place.
    first.exchange("AUTH admin correct-horse", "+OK\r\n").await;
    let let_in = binary.call(RequestBody::Auth(AuthRequest::Token(token.clone().into()))).await.expect("an answer");
    assert!(matches!(let_in, ResponseBody::Authenticated { .. }), "{let_in:?}");
    drop((second, binary));
    eventually("their places are free", PATIENCE, async || {
        let answer = http.request("GET", "/kv/app%2Fx", &[&ada], "").await.map_err(|error| error.to_string())?;
        if answer.status == 404 { Ok(()) } else { Err(format!("{:?}", answer.body)) }
    })
    .await;
}
