//! The RESP door of real nodes: what clients of Redis send and are answered, byte by byte.

mod common;

use common::{ClusterOptions, TestCluster};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a reply may take. Generous: nothing is measured by it.
const REPLY_DEADLINE: Duration = Duration::from_secs(20);

/// A connection that sends bytes and reads as many as it expects.
struct Wire(TcpStream);

impl Wire {
    async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("the door is open"))
    }

    async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.expect("the connection is open");
    }

    /// Reads exactly as many bytes as are expected, and compares them.
    async fn expect(&mut self, expected: &str) {
        let mut reply = vec![0; expected.len()];
        let mut length = 0;
        while length < reply.len() && String::from_utf8_lossy(&reply[..length]) == expected[..length] {
            let read = timeout(REPLY_DEADLINE, self.0.read(&mut reply[length..])).await;
            match read.unwrap_or_else(|_| panic!("only {:?}", String::from_utf8_lossy(&reply[..length]))) {
                Ok(read @ 1..) => length += read,
                end => panic!("{end:?} behind {:?}", String::from_utf8_lossy(&reply[..length])),
            }
        }
        assert_eq!(String::from_utf8_lossy(&reply[..length]), expected);
    }

    /// Sends commands as clients do, each on a line of words here, and expects their replies.
    async fn exchange(&mut self, commands: &str, replies: &str) {
        self.send(&encoded(commands)).await;
        self.expect(replies).await;
    }

    /// Reads up to the end of the connection.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = timeout(REPLY_DEADLINE, self.0.read_to_end(&mut rest)).await;
        read.expect("the connection ends").expect("and is not reset");
        String::from_utf8(rest).expect("replies are text here")
    }

    /// Whether the connection still answers, and has nothing else to say.
    async fn ping(&mut self) {
        self.exchange("PING here", "$4\r\nhere\r\n").await;
    }
}

/// Each line a command of words; `""` is an empty word.
fn encoded(commands: &str) -> String {
    let command = |line: &str| {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "\"\"" { "" } else { word }).collect();
        let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{bulks}", words.len())
    };
    commands.lines().map(str::trim).filter(|line| !line.is_empty()).map(command).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_answered_as_redis_answers_them() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let mut wire = Wire::open(cluster.resp_address(1)).await;
    for (commands, replies) in [
        // Strings.
        ("SET a 1", "+OK\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("GET missing", "$-1\r\n"),
        ("set a 2 NX", "$-1\r\n"),
        ("set a 2 XX GET", "$1\r\n1\r\n"),
        ("SET missing 2 XX GET", "$-1\r\n"),
        ("SET a 3 NX GET", "$1\r\n2\r\n"),
        ("SETNX a 3\nSETNX b 3", ":0\r\n:1\r\n"),
        ("GETSET a 4", "$1\r\n2\r\n"),
        ("GETDEL b\nGETDEL b", "$1\r\n3\r\n$-1\r\n"),
        ("APPEND a bcd\nSTRLEN a\nSTRLEN missing", ":4\r\n:4\r\n:0\r\n"),
        ("GETRANGE a 1 -2\nSUBSTR a 0 0\nGETRANGE missing 0 -1", "$2\r\nbc\r\n$1\r\n4\r\n$0\r\n\r\n"),
        ("SET n 10\nINCR n\nDECR n\nINCRBY n 5\nDECRBY n 20", "+OK\r\n:11\r\n:10\r\n:15\r\n:-5\r\n"),
        ("INCR a", "-ERR value is not an integer or out of range\r\n"),
        ("SET n 9223372036854775807\nINCR n", "+OK\r\n-ERR increment or decrement would overflow\r\n"),
        ("MSET x 1 y 2 z 3", "+OK\r\n"),
        ("MGET x missing z x", "*4\r\n$1\r\n1\r\n$-1\r\n$1\r\n3\r\n$1\r\n1\r\n"),
        ("EXISTS x x y missing\nTOUCH x missing", ":3\r\n:1\r\n"),
        ("TYPE x\nTYPE missing", "+string\r\n+none\r\n"),
        ("DEL x missing y\nUNLINK z\nDEL z", ":2\r\n:1\r\n:0\r\n"),
        // Expiry.
        ("SETEX t 100 v\nTTL t\nPSETEX t 100000 v\nTTL t", "+OK\r\n:100\r\n+OK\r\n:100\r\n"),
        ("PERSIST t\nPERSIST t\nTTL t\nPTTL missing", ":1\r\n:0\r\n:-1\r\n:-2\r\n"),
        ("EXPIRE t 100\nTTL t\nEXPIRE missing 100", ":1\r\n:100\r\n:0\r\n"),
        ("EXPIREAT t 4102444800\nEXPIRETIME t", ":1\r\n:4102444800\r\n"),
        ("SET t w KEEPTTL\nEXPIRETIME t\nSET t w\nTTL t", "+OK\r\n:4102444800\r\n+OK\r\n:-1\r\n"),
        ("GETEX t EX 100\nTTL t\nGETEX t PERSIST\nTTL t", "$1\r\nw\r\n:100\r\n$1\r\nw\r\n:-1\r\n"),
        ("PEXPIRE t -1\nEXISTS t", ":1\r\n:0\r\n"),
        ("SET t v PXAT 1\nEXISTS t", "+OK\r\n:0\r\n"),
        ("SET t v EX 0", "-ERR invalid expire time in 'set' command\r\n"),
        // The connection and the server.
        (
            "ECHO hello\nSELECT 0\nQUIT2 a",
            "$5\r\nhello\r\n+OK\r\n-ERR unknown command 'QUIT2', with args beginning with: 'a' \r\n",
        ),
        ("SELECT 1", "-ERR DB index is out of range: Kvorum has database 0\r\n"),
        ("CLIENT SETNAME me\nCLIENT GETNAME\nCLIENT SETINFO LIB-NAME x", "+OK\r\n$2\r\nme\r\n+OK\r\n"),
        ("CLIENT NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.\r\n"),
        ("CLUSTER INFO", "-ERR This instance has cluster support disabled\r\n"),
        ("MODULE LIST\nFUNCTION FLUSH\nREADONLY", "*0\r\n+OK\r\n+OK\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (
            "CONFIG SET hash-max-listpack-value 32\nCONFIG GET hash-max-listpack-v*",
            "+OK\r\n*2\r\n$23\r\nhash-max-listpack-value\r\n$2\r\n32\r\n",
        ),
        ("CLIENT REPLY SKIP\nSET s 1\nGET s", "$1\r\n1\r\n"),
        ("CLIENT REPLY OFF\nGET s\nINCR s\nCLIENT REPLY ON\nGET s", "+OK\r\n$1\r\n2\r\n"),
        // What is known and not there.
        ("RENAME a b", "-ERR RENAME is not there yet\r\n"),
        ("EXPIRE a 10 NX", "-ERR EXPIRE with NX, XX, GT or LT is not there yet\r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("GET \"\"", "-ERR a key of 0 bytes is not supported\r\n"),
    ] {
        wire.exchange(commands, replies).await;
        wire.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_serves_every_key_in_the_order_of_its_pipelines() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let mut wires = Vec::new();
    for node in cluster.nodes() {
        wires.push(Wire::open(cluster.resp_address(node)).await);
    }
    for number in 0..60 {
        let writer = number % wires.len();
        wires[writer].exchange(&format!("SET key-{number} {number}"), "+OK\r\n").await;
        let value = number.to_string();
        for wire in &mut wires {
            wire.exchange(&format!("GET key-{number}"), &format!("${}\r\n{value}\r\n", value.len())).await;
        }
    }
    // Commands of several shards, and a read behind each write of its key, each as the ones before it have left it.
    for (node, wire) in (0..).zip(&mut wires) {
        let commands: String = (0..300)
            .map(|i| format!("SET o{node} {i}\nGET o{node}\nSET p{node} {i}\nGET o{node}\nGET p{node}\n"))
            .collect();
        let reply = |i: i32| {
            let bulk = format!("${}\r\n{i}\r\n", i.to_string().len());
            format!("+OK\r\n{bulk}+OK\r\n{bulk}{bulk}")
        };
        wire.exchange(&commands, &(0..300).map(reply).collect::<String>()).await;
    }
    // Numbers that were sent at once are all counted.
    let (increments, numbers) =
        ("INCR n\n".repeat(10_000), (1..=10_000).map(|n| format!(":{n}\r\n")).collect::<String>());
    wires[0].exchange(&increments, &numbers).await;
    wires[1].exchange("GET n", "$5\r\n10000\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_counted_found_and_removed() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let mut wire = Wire::open(cluster.resp_address(2)).await;
    let pairs: String = (0..5_000).map(|number| format!(" key-{number} {number}")).collect();
    // The cluster was tried with some keys.
    wire.exchange("FLUSHALL", "+OK\r\n").await;
    wire.exchange(&format!("MSET{pairs}"), "+OK\r\n").await;
    wire.exchange("DBSIZE\nKEYS key-4321\nKEYS nothing-*", ":5000\r\n*1\r\n$8\r\nkey-4321\r\n*0\r\n").await;
    wire.exchange("SCAN 0 TYPE hash COUNT 10000\nSCAN 1x", "*2\r\n$1\r\n0\r\n*0\r\n-ERR invalid cursor\r\n").await;
    let found = scan(&mut wire).await;
    assert_eq!(found.len(), 5_000, "each is found");
    wire.exchange("FLUSHALL\nDBSIZE\nGET key-1", "+OK\r\n:0\r\n$-1\r\n").await;
}

/// All keys, page by page.
async fn scan(wire: &mut Wire) -> std::collections::BTreeSet<String> {
    let (mut cursor, mut found) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        wire.send(&encoded(&format!("SCAN {cursor} COUNT 700 MATCH key-*\nECHO end-of-page"))).await;
        let mut text = String::new();
        while !text.ends_with("$11\r\nend-of-page\r\n") {
            let mut piece = vec![0; 64 * 1024];
            let read = timeout(REPLY_DEADLINE, wire.0.read(&mut piece)).await.expect("in time").expect("open");
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..read]).expect("text"));
        }
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "*2", "{text}");
        found.extend(lines.iter().filter(|line| line.starts_with("key-")).map(|line| (*line).to_owned()));
        cursor = lines[2].to_owned();
        assert!(cursor.parse::<u64>().expect("a number") < 1 << 53);
        if cursor == "0" {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_spoken_and_what_is_no_request_ends_the_connection() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await;
    let address = cluster.resp_address(1);
    let mut wire = Wire::open(address).await;
    wire.exchange(
        "HELLO 4\nHELLO 3 AUTH nobody x",
        "-NOPROTO unsupported protocol version\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    )
    .await;
    wire.exchange(
        "GET a\nHELLO 3 AUTH default any SETNAME me\nGET a\nCONFIG GET timeout\nHELLO 2\nGET a",
        "$-1\r\n%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n\
         $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n_\r\n\
         %1\r\n$7\r\ntimeout\r\n$1\r\n0\r\n\
         *14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n\
         $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n$-1\r\n",
    )
    .await;
    // One byte at a time, inline and not.
    let text = format!("SET k \"a b\"\r\n{}", encoded("GET k\nHELLO 3\nRESET"));
    for byte in text.chars() {
        wire.send(&byte.to_string()).await;
    }
    wire.expect("+OK\r\n$3\r\na b\r\n%7\r\n").await;
    let mut wire = Wire::open(address).await;
    wire.exchange("SET q 1\nGET q\nQUIT\nSET q 2", "+OK\r\n$1\r\n1\r\n+OK\r\n").await;
    assert_eq!(wire.rest().await, "");
    let mut wire = Wire::open(address).await;
    wire.send(&(encoded("SET q 3\nGET q") + "*1\r\n!\r\n")).await;
    assert_eq!(wire.rest().await, "+OK\r\n$1\r\n3\r\n-ERR Protocol error: expected '$', got '!'\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_of_the_table_is_unknown() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await;
    let mut wire = Wire::open(cluster.resp_address(1)).await;
    let leaving = ["quit", "client", "reset"];
    for spec in kvorum_resp::table::commands().iter().filter(|spec| !leaving.contains(&spec.full_name)) {
        let mut words = vec![spec.full_name.to_owned()];
        words.extend(spec.subcommands.first().map(|subcommand| subcommand.name().to_owned()));
        words.resize(words.len().max(usize::from(spec.arity.unsigned_abs())), "1".to_owned());
        wire.send(&encoded(&words.join(" "))).await;
        wire.send(&encoded("ECHO end-of-reply")).await;
        let mut text = String::new();
        while !text.ends_with("$12\r\nend-of-reply\r\n") {
            let mut piece = vec![0; 64 * 1024];
            let read = timeout(REPLY_DEADLINE, wire.0.read(&mut piece)).await.expect("in time").expect("open");
            assert!(read > 0, "{}: {text}", spec.full_name);
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        assert!(!text.starts_with("-ERR unknown"), "{}: {text}", spec.full_name);
    }
}
