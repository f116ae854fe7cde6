//! TLS at every door: who shows a certificate is the user that it names, who shows another one is nobody or refused, and certificates
//! come and go while clients go on.

use crate::common;
use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::process::run_well;
use crate::common::{ClusterOptions, TestCluster, eventually};
use kvorum_client::{AuthVerb, Bytes, Client, Credentials, ErrorCode, verifier_of};
use kvorum_node::auth::user_cert::CertificateView;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(30);
/// What every node must know by then, on a busy machine; alone it takes a second at most.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// A certificate and its key.
type Pair = [PathBuf; 2];

/// A cluster that asks, and whose doors speak TLS.
async fn cluster(folder: &tempfile::TempDir, nodes: usize) -> TestCluster {
    let file = folder.path().join("password");
    std::fs::write(&file, "correct-horse\n").expect("the folder is there");
    let environment = vec![
        ("KVORUM_AUTH_MODE", "required".to_owned()),
        ("KVORUM_AUTH_BOOTSTRAP_PASSWORD_FILE", file.to_str().expect("UTF-8").to_owned()),
    ];
    let credentials = Some(Credentials::Password { user: "admin".to_owned(), password: "correct-horse".to_owned() });
    let options = ClusterOptions { nodes, shards: 4, environment, credentials, tls: true, ..ClusterOptions::default() };
    TestCluster::start(options).await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// Issues a user's certificate, as an operator does.
fn certificate_of(cluster: &TestCluster, user: &str) -> Pair {
    let out = cluster.dir().join("users");
    run_well(&["cert", "user", user, "--dir", text(&cluster.dir()), "--out", text(&out)]);
    ["pem", "key"].map(|kind| out.join(format!("{user}.{kind}")))
}

fn node_certificate(cluster: &TestCluster) -> Pair {
    ["node.pem", "node.key"].map(|file| cluster.node_dir(2).join(file))
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).expect("a file").collect::<Result<_, _>>().expect("certificates")
}

/// Speaks TLS with a door as any library does: the name that was dialled must be in the certificate.
async fn dial(
    cluster: &TestCluster,
    address: SocketAddr,
    shown: Option<&Pair>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for authority in chain(&cluster.node_dir(1).join("ca.pem")) {
        roots.add(authority).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(roots);
    let config = match shown {
        Some([certificate, key]) => {
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            config.with_client_auth_cert(chain(certificate), key).expect("they belong together")
        }
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from(address.ip().to_string()).expect("an address");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

/// Asks once, and gives what has come when the answer ends with `end` or the connection does.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let mut answer = Vec::new();
    let reading =
        async { while !answer.ends_with(end.as_bytes()) && matches!(stream.read_buf(&mut answer).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn http_status(cluster: &TestCluster, node: usize, shown: Option<&Pair>) -> String {
    let mut stream = dial(cluster, cluster.http_address(node), shown).await.expect("a handshake");
    let answer = ask(&mut stream, "GET /kv/app HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "}").await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn resp(cluster: &TestCluster, address: SocketAddr, shown: Option<&Pair>) -> String {
    let mut stream = dial(cluster, address, shown).await.expect("a handshake");
    ask(&mut stream, "GET app\r\n", "\r\n").await
}

async fn client(cluster: &TestCluster, node: usize, shown: Option<&Pair>) -> Result<Client, kvorum_client::Error> {
    let tls = match shown {
        Some([certificate, key]) => cluster.tls().certificate_files(certificate, key).expect("files"),
        None => cluster.tls(),
    };
    let builder = Client::builder().url(&cluster.url([node])).tls(tls).connect_timeout(OPERATION_DEADLINE);
    builder.deadline(OPERATION_DEADLINE).connect().await
}

async fn put_user(admin: &Client, name: &str) {
    let (roles, verifier) = (Some(vec!["readwrite".to_owned()]), Some(verifier_of("lovelace")));
    let verb = AuthVerb::PutUser { name: name.to_owned(), exists: None, verifier, roles, disabled: None };
    admin.admin().change_auth(verb).await.expect("the administrator may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_its_user_at_every_door_until_it_is_denied() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(&folder, 3).await;
    let admin = cluster.client().await;
    put_user(&admin, "ada").await;
    admin.put("app", "1").await.expect("he may");
    let (ada, byron, node) =
        (certificate_of(&cluster, "ada"), certificate_of(&cluster, "byron"), node_certificate(&cluster));
    let code = |error: kvorum_client::Error| error.code();

    // A client turns to whichever node leads, so all of them have to know her.
    for number in cluster.nodes() {
        eventually("the node knows ada", PATIENCE, async || client(&cluster, number, Some(&ada)).await).await;
    }
    for number in cluster.nodes() {
        let known = client(&cluster, number, Some(&ada)).await.expect("the node knows ada");
        assert_eq!(known.admin().who_am_i().await.expect("she has logged in"), "ada");
        assert_eq!(known.get("app").await.expect("she may").expect("it is there").value, "1");
        assert_eq!(http_status(&cluster, number, Some(&ada)).await, "200");
        for address in [cluster.resp_address(number), cluster.resp_cluster_address(number)] {
            let answer = resp(&cluster, address, Some(&ada)).await;
            assert!(answer.starts_with("$1\r\n1") || answer.starts_with("-MOVED"), "{answer}");
        }
        // A user that is not there is not taken for nobody, and may not even say HELLO.
        assert_eq!(client(&cluster, number, Some(&byron)).await.map_err(code).err(), Some(ErrorCode::Unauthenticated));
        assert_eq!(http_status(&cluster, number, Some(&byron)).await, "401");
        assert!(resp(&cluster, cluster.resp_address(number), Some(&byron)).await.starts_with("-WRONGPASS"));
        // A node is no user, and neither is who shows nothing.
        for nobody in [Some(&node), None] {
            let client = client(&cluster, number, nobody).await.expect("it may say HELLO");
            assert_eq!(client.get("app").await.map_err(code), Err(ErrorCode::Unauthenticated));
            assert_eq!(http_status(&cluster, number, nobody).await, "401");
            assert!(resp(&cluster, cluster.resp_address(number), nobody).await.starts_with("-NOAUTH"));
        }
    }
    a_user_is_no_peer(&cluster, &ada).await;
    whoever_speaks_the_wrong_thing_is_told(&cluster).await;
    a_denied_certificate_ends_its_connections(&cluster, &admin, &ada).await;
}

/// Consul CVE-2021-37219.
async fn a_user_is_no_peer(cluster: &TestCluster, ada: &Pair) {
    let own = CertificateView::of(&chain(&cluster.node_dir(1).join("node.pem"))[0]).expect("a node's");
    let mut roots = RootCertStore::empty();
    roots.add(chain(&cluster.node_dir(1).join("ca.pem")).remove(0)).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&ada[0]), PrivateKeyDer::from_pem_file(&ada[1]).expect("a key"))
        .expect("they belong together");
    config.alpn_protocols = vec![b"kvorum-peer/1".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).expect("it can be used");
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
    let connecting =
        endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), cluster.peer_address(1), &own.holder.name());
    let closed = match connecting.expect("an address").await {
        Ok(connection) => tokio::time::timeout(PATIENCE, connection.closed()).await.expect("it is closed"),
        Err(error) => error,
    };
    assert!(closed.to_string().contains("users are no nodes"), "{closed}");
}

async fn whoever_speaks_the_wrong_thing_is_told(cluster: &TestCluster) {
    let plain = Client::builder().url(&cluster.url([1])).connect_timeout(PATIENCE).connect().await;
    let told = plain.expect_err("the door speaks TLS").report();
    assert!(told.contains("kvs:// instead of kv://"), "{told}");
    for (address, request, expected) in [
        (cluster.http_address(1), "GET / HTTP/1.1\r\n\r\n", "https:// instead of http://"),
        (cluster.resp_address(1), "PING\r\n", "-ERR this door speaks TLS only"),
    ] {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        assert!(answer.contains(expected), "{answer}");
    }
    let metrics = metrics(cluster, 1).await;
    assert!(metrics.contains("kvorum_tls_handshakes_total{door=\"binary\",result=\"plain\"} 1"), "{metrics}");
    assert!(metrics.contains("kvorum_tls_files_refused 0"), "{metrics}");
}

async fn metrics(cluster: &TestCluster, node: usize) -> String {
    let mut stream = dial(cluster, cluster.http_address(node), None).await.expect("a handshake");
    let login = "Basic YWRtaW46Y29ycmVjdC1ob3JzZQ==";
    let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: {login}\r\nconnection: close\r\n\r\n");
    ask(&mut stream, &request, "no end but the connection's").await
}

async fn a_denied_certificate_ends_its_connections(cluster: &TestCluster, admin: &Client, ada: &Pair) {
    let mut idle = Vec::new();
    for number in cluster.nodes() {
        let http = cluster.http_address(number);
        let mut stream = dial(cluster, http, Some(ada)).await.expect("a handshake");
        assert!(ask(&mut stream, "GET /kv/app HTTP/1.1\r\nhost: x\r\n\r\n", "}").await.contains(" 200 "));
        idle.push((format!("HTTP, node {number}"), stream));
        for address in [cluster.resp_address(number), cluster.resp_cluster_address(number)] {
            let mut stream = dial(cluster, address, Some(ada)).await.expect("a handshake");
            assert!(ask(&mut stream, "PING\r\n", "\r\n").await.contains("PONG"));
            // Also one that has said since that it is somebody else: the certificate is the connection's.
            let login = "AUTH admin correct-horse\r\n";
            assert!(ask(&mut stream, login, "\r\n").await.contains("OK"));
            idle.push((format!("RESP, node {number}"), stream));
        }
    }
    let own = client(cluster, 2, Some(ada)).await.expect("she is known");
    let serial = CertificateView::of(&chain(&ada[0])[0]).expect("a user's").serial;
    let verb = |denied| AuthVerb::Deny { serial: Bytes::from(serial.clone()), denied };
    admin.admin().change_auth(verb(true)).await.expect("he may");
    let denied_at = Instant::now();
    for (what, mut stream) in idle {
        let mut rest = [0; 64];
        let ended = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
        let left = REVOKED_WITHIN.saturating_sub(denied_at.elapsed());
        tokio::time::timeout(left, ended).await.unwrap_or_else(|_| panic!("{what} goes on"));
    }
    println!("denied: all idle connections had ended after {:?}", denied_at.elapsed());
    let refused = eventually("the client is refused", REVOKED_WITHIN, async || match own.get("app").await {
        Err(error) if error.code() == ErrorCode::Unauthenticated => Ok(error),
        other => Err(format!("{other:?}")),
    });
    refused.await;
    assert_eq!(http_status(cluster, 3, Some(ada)).await, "401");
    admin.admin().change_auth(verb(false)).await.expect("he may");
    eventually("it is taken again", REVOKED_WITHIN, async || match &*http_status(cluster, 3, Some(ada)).await {
        "200" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_exchanged_under_clients_that_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(&folder, 3).await;
    let admin = cluster.client().await;
    let before = chain(&cluster.node_dir(1).join("node.pem"));
    let mut open = Vec::new();
    for number in cluster.nodes() {
        for _ in 0..10 {
            open.push(dial(&cluster, cluster.resp_address(number), None).await.expect("a handshake"));
        }
    }
    // Silent strangers keep nobody out.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(cluster.http_address(1)).await.expect("it listens"));
    }

    let dir = cluster.dir();
    for step in ["begin", "issue", "end"] {
        run_well(&["cert", "rotate", step, "--dir", text(&dir)]);
        for number in cluster.nodes() {
            let config = cluster.node_dir(number).join("kvorum.toml");
            let seen = exchanges(&metrics(&cluster, number).await);
            run_well(&["cert", "reload", "--config", text(&config)]);
            eventually("the node has exchanged them", PATIENCE, async || {
                let now = exchanges(&metrics(&cluster, number).await);
                if now > seen { Ok(()) } else { Err(format!("{now:?}")) }
            })
            .await;
            admin.put("app", step).await.expect("a client that was there goes on");
            cluster.client_of([number]).await.put("app", step).await.expect("so does one that comes");
        }
    }
    let after = dial(&cluster, cluster.resp_address(1), None).await.expect("a handshake");
    assert_ne!(after.get_ref().1.peer_certificates(), Some(&before[..]), "it is another one");
    for stream in &mut open {
        assert!(ask(stream, "PING\r\n", "\r\n").await.contains("NOAUTH"), "no connection is lost");
    }
    drop(silent);

    // A pair that does not belong together is refused, and the node goes on with the old one.
    let key = cluster.node_dir(2).join("node.key");
    let sound = std::fs::read(&key).expect("a key");
    std::fs::copy(cluster.node_dir(3).join("node.key"), &key).expect("it can be written");
    let (status, said) =
        common::process::run(&["cert", "reload", "--config", text(&cluster.node_dir(2).join("kvorum.toml"))]);
    assert!(!status.success() && said.contains("do not belong together"), "{said}");
    hang_up(&cluster, 2);
    eventually("an alarm is on", PATIENCE, async || match metrics(&cluster, 2).await {
        text if text.contains("kvorum_tls_files_refused 1") => Ok(()),
        text => Err(text),
    })
    .await;
    std::fs::write(&key, sound).expect("it can be written");
    hang_up(&cluster, 2);
    eventually("the alarm is off", PATIENCE, async || match metrics(&cluster, 2).await {
        text if text.contains("kvorum_tls_files_refused 0") => Ok(()),
        text => Err(text),
    })
    .await;
    // Peers that meet anew believe the new authority alone.
    let mut cluster = cluster;
    cluster.kill(3);
    cluster.start_node(3);
    cluster.wait_ready().await;
}

fn exchanges(metrics: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with("kvorum_tls_reloads_total{result=\"exchanged\"}"))?;
    line.rsplit_once(' ')?.1.trim().parse().ok()
}

/// Signals the node of a folder, as an operator does.
fn hang_up(cluster: &TestCluster, node: usize) {
    let lock = std::fs::read_to_string(cluster.node_dir(node).join("data/LOCK")).expect("it runs");
    let process = rustix::process::Pid::from_raw(lock.trim().parse().expect("a number")).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::HUP).expect("it is a child of ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_tls_is_told_that_a_door_is_plain_and_believes_no_other_authority() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 1, ..ClusterOptions::default() }).await;
    let plain = Client::builder().url(&cluster.url([1])).tls(cluster.tls()).connect_timeout(PATIENCE).connect().await;
    let told = plain.expect_err("the door is plain").report();
    assert!(told.contains("kv:// instead of kvs://"), "{told}");

    let folder = tempfile::tempdir().expect("a folder");
    let encrypted = self::cluster(&folder, 1).await;
    let strange =
        Client::builder().url(&encrypted.url([1])).tls(cluster.tls()).connect_timeout(PATIENCE).connect().await;
    let told = strange.expect_err("another authority").report();
    assert!(told.contains("another authority has signed"), "{told}");
    let named = |name: &str| {
        let tls = encrypted.tls().server_name(name).expect("a name");
        Client::builder().url(&encrypted.url([1])).tls(tls).connect_timeout(PATIENCE).connect()
    };
    assert!(named("localhost").await.is_ok());
    let told = named("elsewhere.example").await.expect_err("another name").report();
    assert!(told.contains("elsewhere.example"), "{told}");
    let needs = Client::builder().url("kvs://127.0.0.1:1").connect().await.expect_err("no authority is known");
    assert!(needs.to_string().contains("kvs:// needs"), "{needs}");
}
