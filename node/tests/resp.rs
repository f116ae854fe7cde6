//! The RESP door of real nodes: what clients of Redis send and are answered, byte by byte.

use crate::common::resp::{Caller, REPLY_DEADLINE, Wire, encoded};
use crate::common::{ClusterOptions, TestCluster, eventually, let_run};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

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
        (
            "PEXPIREAT t 4102444800123\nPEXPIRETIME t\nPEXPIREAT t 4102444800124 LT\nPEXPIREAT t 4102444800000 LT",
            ":1\r\n:4102444800123\r\n:0\r\n:1\r\n",
        ),
        ("SET p v PXAT 4102444800001\nPEXPIRETIME p\nDEL p", "+OK\r\n:4102444800001\r\n:1\r\n"),
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
        ("CLIENT REPLY SKIP\nCLIENT REPLY ON\nGET s", "+OK\r\n$1\r\n2\r\n"),
        ("CLIENT REPLY SKIP\nCLIENT REPLY SKIP\nGET s\nGET s", "$1\r\n2\r\n"),
        // All or nothing, of one shard.
        (
            "MSETNX {m}1 a {m}2 b\nMSETNX {m}2 c {m}3 d\nMGET {m}1 {m}2 {m}3",
            ":1\r\n:0\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n",
        ),
        ("MSETNX {n}1 a {n}1 b\nGET {n}1", ":1\r\n$1\r\nb\r\n"),
        ("MSETNX foo 1 bar 2", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("DEL {m}1 {m}2 {m}1 {n}1 foo", ":3\r\n"),
        // Bits, and what Redis tells of values.
        (
            "SET v foobar\nBITCOUNT v\nBITCOUNT v 1 1\nBITCOUNT v 5 30 BIT\nGETBIT v 1\nGETBIT v 9999",
            "+OK\r\n:26\r\n:6\r\n:17\r\n:1\r\n:0\r\n",
        ),
        (
            "BITPOS v 0\nBITPOS v 1 2 -1 BYTE\nBITPOS v 0 1 3 BIT\nBITPOS missing 0\nBITPOS missing 1\nBITPOS v 2",
            ":0\r\n:17\r\n:3\r\n:0\r\n:-1\r\n-ERR The bit argument must be 1 or 0.\r\n",
        ),
        (
            "MSET l1 ohmytext l2 mynewtext\nLCS l1 l2\nLCS l1 l2 LEN\nLCS l1 missing",
            "+OK\r\n$6\r\nmytext\r\n:6\r\n$0\r\n\r\n",
        ),
        (
            "OBJECT ENCODING v\nOBJECT ENCODING missing\nOBJECT REFCOUNT v\nOBJECT IDLETIME v",
            "$6\r\nembstr\r\n$-1\r\n:1\r\n:0\r\n",
        ),
        ("MEMORY USAGE v\nMEMORY USAGE missing", ":71\r\n$-1\r\n"),
        // An answered write is with a quorum.
        ("SET w 1\nWAIT 1 0\nWAITAOF 1 1 0", "+OK\r\n:1\r\n*2\r\n:1\r\n:1\r\n"),
        ("LATENCY LATEST\nLATENCY HISTORY command\nLATENCY RESET", "*0\r\n*0\r\n:0\r\n"),
        ("CONFIG REWRITE", "-ERR The server is running without a config file\r\n"),
        (
            "CLIENT KILL 127.0.0.1:1\nCLIENT KILL ID 999\nCLIENT LIST TYPE master",
            "-ERR No such client\r\n:0\r\n$0\r\n\r\n",
        ),
        (
            "CONFIG SET port 1",
            "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config\r\n",
        ),
        // Parts of values, and decimal numbers.
        (
            "SET r Hello\nSETRANGE r 7 World\nSTRLEN r\nSETRANGE r 0 \"\"\nSETBIT r 7 1\nGETRANGE r 0 0",
            "+OK\r\n:12\r\n:12\r\n:12\r\n:0\r\n$1\r\nI\r\n",
        ),
        ("SET f 10.5\nINCRBYFLOAT f 0.1\nINCRBYFLOAT r 1", "+OK\r\n$4\r\n10.6\r\n-ERR value is not a valid float\r\n"),
        // Conditions.
        ("SET c a\nSET c b IFEQ x\nSET c b IFEQ a\nDELIFEQ c a\nDELIFEQ c b", "+OK\r\n$-1\r\n+OK\r\n:0\r\n:1\r\n"),
        (
            "SET c a\nEXPIRE c 100 XX\nEXPIRE c 100 NX\nEXPIRE c 50 GT\nEXPIRE c 200 GT\nEXPIRE c 100 LT\nTTL c",
            "+OK\r\n:0\r\n:1\r\n:0\r\n:1\r\n:1\r\n:100\r\n",
        ),
        // Keys that move.
        (
            "SET {k}1 v\nRENAME {k}1 {k}2\nGET {k}1\nGET {k}2\nRENAME {k}1 {k}3",
            "+OK\r\n+OK\r\n$-1\r\n$1\r\nv\r\n-ERR no such key\r\n",
        ),
        (
            "COPY {k}2 {k}3\nCOPY {k}2 {k}3\nCOPY {k}2 {k}3 REPLACE\nRENAMENX {k}2 {k}3\nRENAMENX {k}2 {k}4\nMGET {k}3 {k}4",
            ":1\r\n:0\r\n:1\r\n:0\r\n:1\r\n*2\r\n$1\r\nv\r\n$1\r\nv\r\n",
        ),
        (
            "RENAME foo bar\nCOPY foo bar",
            "-CROSSSLOT Keys in request don't hash to the same slot\r\n-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        ),
        // Transactions.
        (
            "MULTI\nSET {t}a 1\nINCR {t}a\nGET {t}a\nMGET {t}a {t}b\nDEL {t}a {t}b\nPING\nEXEC",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*6\r\n+OK\r\n:2\r\n$1\r\n2\r\n*2\r\n$1\r\n2\r\n$-1\r\n:1\r\n+PONG\r\n",
        ),
        (
            "MULTI\nSET {t}a x\nINCR {t}a\nGET {t}a\nEXEC",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n$1\r\nx\r\n",
        ),
        (
            "MULTI\nMULTI\nNOSUCH\nGET {t}a\nEXEC",
            "+OK\r\n-ERR MULTI calls can not be nested\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
        (
            "MULTI\nSET {t}a y\nDISCARD\nGET {t}a\nEXEC\nDISCARD\nMULTI\nEXEC",
            "+OK\r\n+QUEUED\r\n+OK\r\n$1\r\nx\r\n-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n+OK\r\n*0\r\n",
        ),
        ("WATCH {t}a\nSET {t}a z\nMULTI\nGET {t}a\nEXEC", "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n"),
        (
            "WATCH {t}a {t}b\nMULTI\nSET {t}b 1\nWATCH c\nEXEC\nMULTI\nDEL {t}b\nEXEC",
            "+OK\r\n+OK\r\n+QUEUED\r\n-ERR WATCH inside MULTI is not allowed\r\n*1\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n",
        ),
        (
            "WATCH {t}b\nSET {t}b 1\nUNWATCH\nMULTI\nGET {t}b\nEXEC",
            "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n",
        ),
        // As Celery stores a result.
        (
            "MULTI\nSETEX {t}r 100 v\nPUBLISH {t}r v\nEXEC\nPUBLISH {t}r v\nSUBSCRIBE {t}r",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:0\r\n:0\r\n-ERR unknown command 'SUBSCRIBE', with args beginning with: '{t}r' \r\n",
        ),
        // What can't be taken back is not done before it is known that the transaction is.
        (
            "MULTI\nCLIENT REPLY OFF\nGET {t}q\nCONFIG SET save x\nEXEC\nMULTI\nHELLO 3 AUTH root wrong\nEXEC",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n-ERR this command can't be in a transaction with keys\r\n$-1\r\n\
             -ERR this command can't be in a transaction with keys\r\n+OK\r\n+QUEUED\r\n*1\r\n-ERR a login can't be in a transaction\r\n",
        ),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("GET \"\"", "-ERR a key of 0 bytes is not supported\r\n"),
    ] {
        wire.exchange(commands, replies).await;
        wire.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_breaks_a_transaction() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 1, ..ClusterOptions::default() }).await;
    let mut wire = Wire::open(cluster.resp_address(1)).await;
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    let value = "x".repeat((16 << 20) + 1);
    wire.exchange("MULTI", "+OK\r\n").await;
    wire.exchange(&format!("SET blob {value}"), too_long).await;
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    wire.exchange("INCR n\nEXEC\nGET n", &format!("+QUEUED\r\n{aborted}$-1\r\n")).await;
    let pattern = "[a".repeat(100_000);
    for command in [format!("KEYS {pattern}"), format!("SCAN 0 MATCH {pattern}"), format!("CLIENT SETNAME {pattern}")] {
        wire.exchange(&command, too_long).await;
    }
    let names = " client".repeat(1_025);
    wire.exchange(&format!("COMMAND DOCS{names}"), "-ERR at most 1024 commands can be asked about at a time\r\n").await;
    let keys: String = (0..17).map(|number| format!(" {number}{}", "k".repeat(65_000))).collect();
    wire.exchange(&format!("WATCH{keys}"), "-ERR a transaction watches 2048 keys and 1 MiB of them at most\r\n").await;
    wire.ping().await;
}

/// The node that leads refuses to write so much at once. The others can't pass it on. Clients must not be told to try again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_one_request_is_refused_for_good_by_every_node() {
    let cluster = TestCluster::start(ClusterOptions { shards: 1, ..ClusterOptions::default() }).await;
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    let value = "x".repeat(9 << 20);
    for node in cluster.nodes() {
        let mut wire = Wire::open(cluster.resp_address(node)).await;
        wire.exchange(&format!("MSETNX {{t}}a {value} {{t}}b {value}"), too_long).await;
        wire.exchange("EXISTS {t}a {t}b", ":0\r\n").await;
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
    wire.send(&encoded("INFO keyspace")).await;
    wire.expect("$47\r\n# Keyspace\r\ndb0:keys=5000,expires=0,avg_ttl=0\r\n\r\n").await;
    let mut caller = Caller::open(cluster.resp_address(3)).await.expect("open");
    let random = caller.call("RANDOMKEY").await.expect("open");
    assert!(found.contains(random.text()), "{random:?}");
    wire.exchange("FLUSHALL\nDBSIZE\nGET key-1\nRANDOMKEY", "+OK\r\n:0\r\n$-1\r\n$-1\r\n").await;
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
async fn wait_waits_for_more_replicas_than_have_to_answer() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let doors = [cluster.resp_address(1), cluster.resp_cluster_address(1)];
    let mut wires = [Wire::open(doors[0]).await, Wire::open(doors[1]).await];
    wires[0].exchange("SET k v", "+OK\r\n").await;
    for wire in &mut wires {
        wire.exchange("WAIT 2 20000\nPING", ":2\r\n+PONG\r\n").await;
        wire.exchange("MULTI\nWAIT 2 0\nEXEC", "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n").await;
    }
    cluster.kill(3);
    for wire in &mut wires {
        let began = Instant::now();
        wire.exchange("WAIT 1 0\nWAIT 2 300\nPING", ":1\r\n:1\r\n+PONG\r\n").await;
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    }
    // Who waits may go.
    let mut leaving = Wire::open(doors[0]).await;
    leaving.exchange("CLIENT SETNAME leaving", "+OK\r\n").await;
    leaving.send(&encoded("WAIT 2 0")).await;
    drop(leaving);
    let mut caller = Caller::open(doors[0]).await.expect("open");
    eventually("the connection ends", REPLY_DEADLINE, async || {
        let list = caller.call("CLIENT LIST").await.expect("open");
        if list.text().contains("name=leaving") { Err("it is there") } else { Ok(()) }
    })
    .await;
    for wire in &mut wires {
        wire.send(&encoded("WAIT 2 0\nPING")).await;
    }
    cluster.start_node(3);
    for wire in &mut wires {
        wire.expect(":2\r\n+PONG\r\n").await;
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
async fn the_document_says_of_each_command_whether_it_is_there() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/RESP.md")).expect("it is there");
    let (works, absent) = document.split_once("## What is absent yet").expect("it has this section");
    let names = |text: &str, name: &str| {
        let is_word = |next: Option<char>| !next.is_some_and(|next| next.is_ascii_alphanumeric());
        let name = name.to_ascii_uppercase();
        text.match_indices(&name)
            .any(|(at, _)| is_word(text[..at].chars().next_back()) && is_word(text[at + name.len()..].chars().next()))
    };
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await;
    let mut wire = Wire::open(cluster.resp_address(1)).await;
    // These leave the connection as it is not wanted here.
    let leaving = ["quit", "client", "reset", "monitor"];
    for spec in kvorum_resp::table::commands() {
        if leaving.contains(&spec.full_name) {
            assert!(names(works, spec.full_name), "{} is not in the document", spec.full_name);
            continue;
        }
        let mut words = vec![spec.full_name.to_owned()];
        words.extend(spec.subcommands.first().map(|subcommand| subcommand.name().to_owned()));
        words.resize(words.len().max(usize::from(spec.arity.unsigned_abs())), "1".to_owned());
        wire.send(&encoded(&words.join(" "))).await;
        if spec.full_name == "multi" {
            // Else ECHO would be queued.
            wire.send(&encoded("DISCARD")).await;
        }
        wire.send(&encoded("ECHO end-of-reply")).await;
        let mut text = String::new();
        while !text.ends_with("$12\r\nend-of-reply\r\n") {
            let mut piece = vec![0; 64 * 1024];
            let read = timeout(REPLY_DEADLINE, wire.0.read(&mut piece)).await.expect("in time").expect("open");
            assert!(read > 0, "{}: {text}", spec.full_name);
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        assert!(!text.starts_with("-ERR unknown"), "{}: {text}", spec.full_name);
        let is_there = !text.contains("is not there yet");
        assert!(
            names(if is_there { works } else { absent }, spec.full_name),
            "the document errs about {}",
            spec.full_name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_see_each_other_and_may_end_each_other() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await;
    let address = cluster.resp_address(1);
    let (mut first, mut second, mut monitor) =
        (Wire::open(address).await, Wire::open(address).await, Wire::open(address).await);
    first.exchange("CLIENT SETNAME first", "+OK\r\n").await;
    second.exchange("CLIENT SETNAME second", "+OK\r\n").await;
    let mut caller = Caller::open(address).await.expect("open");
    let list = caller.call("CLIENT LIST").await.expect("open");
    for name in ["name=first", "name=second", "cmd=client|setname", "cmd=client|list"] {
        assert!(list.text().contains(name), "{name} in {list:?}");
    }
    let id = caller.call("CLIENT ID").await.expect("open").integer();
    let only = caller.call(&format!("CLIENT LIST ID {id} 99999")).await.expect("open");
    assert_eq!(only.text().lines().count(), 1, "{only:?}");
    // A monitor is told what the others do.
    monitor.exchange("MONITOR", "+OK\r\n").await;
    first.exchange("SET a 1", "+OK\r\n").await;
    let mut told = vec![0; 200];
    let read = timeout(REPLY_DEADLINE, monitor.0.read(&mut told)).await.expect("in time").expect("open");
    let told = String::from_utf8_lossy(&told[..read]).into_owned();
    assert!(told.starts_with('+') && told.ends_with("\"SET\" \"a\" \"1\"\r\n"), "{told}");
    first.exchange("MULTI\nSET a 2\nGET a\nEXEC", "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n2\r\n").await;
    let told = read_until(&mut monitor, "\"EXEC\"\r\n").await;
    let commands: Vec<&str> =
        told.lines().filter_map(|line| line.split_once("] ")).map(|(_, command)| command).collect();
    assert_eq!(commands, ["\"MULTI\"", "\"SET\" \"a\" \"2\"", "\"GET\" \"a\"", "\"EXEC\""]);
    // What came is counted, and what was refused.
    first.exchange("CONFIG RESETSTAT\nGET a\nGET a", "+OK\r\n$1\r\n2\r\n$1\r\n2\r\n").await;
    first
        .exchange(
            "GET\nINCRBY a x",
            "-ERR wrong number of arguments for 'get' command\r\n-ERR value is not an integer or out of range\r\n",
        )
        .await;
    let stats = caller.call("INFO commandstats").await.expect("open");
    for (begin, end) in [
        ("cmdstat_get:calls=2,usec=", ",rejected_calls=1,failed_calls=0"),
        ("cmdstat_incrby:calls=1,usec=", ",rejected_calls=0,failed_calls=1"),
    ] {
        let is_it = |line: &str| line.starts_with(begin) && line.ends_with(end);
        assert!(stats.text().lines().any(is_it), "{begin} in {stats:?}");
    }
    let histogram = caller.call("LATENCY HISTOGRAM get nosuch").await.expect("open");
    assert_eq!(histogram.items()[1].items()[1].integer(), 2, "{histogram:?}");
    assert!(
        !caller.call("INFO").await.expect("open").text().contains("cmdstat_"),
        "they are not among the usual sections"
    );
    // Slow is what an operator calls so.
    first.exchange("CONFIG SET slowlog-log-slower-than 0\nSET slow 1", "+OK\r\n+OK\r\n").await;
    first.exchange("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n").await;
    let slow = caller.call("SLOWLOG GET").await.expect("open");
    let commands: Vec<&str> = slow.items().iter().map(|entry| entry.items()[3].items()[0].text()).collect();
    assert!(commands.contains(&"SET"), "{slow:?}");
    first.exchange("SLOWLOG RESET\nSLOWLOG LEN", "+OK\r\n:0\r\n").await;
    // All but the one that asks are ended; then that one.
    let clients = "# Clients\r\nconnected_clients";
    assert!(caller.call("INFO clients").await.expect("open").text().starts_with(&format!("{clients}:4\r\n")));
    first.exchange("CLIENT KILL TYPE normal", ":3\r\n").await;
    first.send(&encoded("INFO clients")).await;
    let told = read_until(&mut first, "blocked_clients:0\r\n\r\n").await;
    assert!(told.contains(&format!("{clients}:1\r\n")), "those that are ended are not counted any more: {told}");
    assert_eq!(second.rest().await, "");
    assert!(caller.call("PING").await.is_err());
    first.exchange("CLIENT KILL TYPE normal SKIPME no", ":1\r\n").await;
    assert_eq!(first.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_parked_comes_back_as_he_was() {
    let mut cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await;
    let address = cluster.resp_address(1);
    let mut caller = Caller::open(address).await.expect("open");
    let (mut begun, mut half, mut monitor) =
        (Wire::open(address).await, Wire::open(address).await, Wire::open(address).await);
    let (mut named, mut mute) = (Wire::open(address).await, Wire::open(address).await);
    // What these have begun is under way for as long as they like: none of them is parked.
    begun.exchange("MULTI\nPING", "+OK\r\n+QUEUED\r\n").await;
    half.exchange("CLIENT SETNAME half", "+OK\r\n").await;
    half.send("*1\r\n$4\r\nPI").await;
    monitor.exchange("MONITOR", "+OK\r\n").await;
    // These have not.
    mute.exchange("CLIENT SETNAME mute\nCLIENT REPLY OFF\nPING", "+OK\r\n").await;
    named.send(&encoded("HELLO 3 SETNAME named")).await;
    read_until(&mut named, "modules\r\n*0\r\n").await;
    named.exchange("CLIENT SETINFO LIB-NAME lib\nGET missing", "+OK\r\n_\r\n").await;
    for _ in 0..2 {
        let line = await_parked(&mut caller, 2).await;
        for part in [" name=named ", " flags=N ", " cmd=get ", " resp=3 ", " lib-name=lib "] {
            assert!(line.contains(part), "{part} in {line}");
        }
        named.exchange("CLIENT GETNAME\nGET missing", "$5\r\nnamed\r\n_\r\n").await;
        mute.send(&encoded("INCR muttered")).await;
    }
    eventually("the silent commands are carried out", REPLY_DEADLINE, async || {
        let muttered = caller.call("GET muttered").await.map_err(|error| error.to_string())?;
        if muttered.text() == "2" { Ok(()) } else { Err(format!("{muttered:?}")) }
    })
    .await;
    mute.exchange("CLIENT REPLY ON\nCLIENT GETNAME", "+OK\r\n$4\r\nmute\r\n").await;
    begun.exchange("EXEC", "*1\r\n+PONG\r\n").await;
    half.send("NG\r\n").await;
    half.expect("+PONG\r\n").await;
    drop(monitor);
    // A command that does not become whole is waited for, and the end of a connection is seen.
    half.send("*1\r\n").await;
    drop(begun);
    let line = await_parked(&mut caller, 2).await;
    let id = line.split([' ', '=']).nth(1).expect("it begins with id=");
    assert_eq!(caller.call(&format!("CLIENT KILL ID {id}")).await.expect("open").integer(), 1);
    assert_eq!(named.rest().await, "");
    let list = caller.call("CLIENT LIST").await.expect("open");
    assert!(!list.text().contains("name=named") && list.text().contains("name=mute"), "{list:?}");
    // A node that stops ends those that are parked, too.
    let process = Pid::from_raw(cluster.process(1).id() as i32).expect("a process has an id");
    kill_process(process, Signal::TERM).expect("the process is a child of ours");
    assert_eq!(mute.rest().await, "");
    assert!(cluster.wait_exit(1, REPLY_DEADLINE).await.success());
}

/// Waits until so many connections are parked, and have been silent for a second by what others are told. Returns the line about the one
/// that is called `named`.
async fn await_parked(caller: &mut Caller, count: usize) -> String {
    let field = format!("\r\nparked_clients:{count}\r\n");
    eventually("connections are parked", REPLY_DEADLINE, async || {
        let info = caller.call("INFO clients").await.map_err(|error| error.to_string())?;
        let list = caller.call("CLIENT LIST").await.map_err(|error| error.to_string())?;
        let line = list.text().lines().find(|line| line.contains(" name=named ")).unwrap_or_default().to_owned();
        let is_idle = !line.contains(" idle=0 ") && line.contains(" idle=");
        if info.text().contains(&field) && is_idle { Ok(line) } else { Err(format!("{info:?} {line}")) }
    })
    .await
}

/// Reads up to this end.
async fn read_until(wire: &mut Wire, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut piece = [0; 1_000];
        let read = timeout(REPLY_DEADLINE, wire.0.read(&mut piece)).await.expect("in time").expect("open");
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_seen_after_its_time_nor_gone_before() {
    const LIFE: Duration = Duration::from_millis(1_000);
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let mut wires = Vec::new();
    for node in cluster.nodes() {
        wires.push(Wire::open(cluster.resp_address(node)).await);
    }
    let keys: Vec<String> = (0..1_000).map(|number| format!("short-{number}")).collect();
    let sets: String = keys.iter().map(|key| format!("SET {key} v PX {}\n", LIFE.as_millis())).collect();
    let (all, gets) =
        (format!("MGET {}", keys.join(" ")), keys.iter().map(|key| format!("GET {key}\n")).collect::<String>());
    for _ in 0..3 {
        let began = Instant::now();
        wires[0].exchange(&sets, &"+OK\r\n".repeat(keys.len())).await;
        let set = Instant::now();
        // Nobody may have waited too long before this is a question.
        for wire in &mut wires {
            wire.send(&encoded(&all)).await;
            let found = wire.values(keys.len()).await;
            assert!(found == keys.len() || began.elapsed() >= LIFE, "{found} are there");
        }
        let_run((LIFE + Duration::from_millis(5)).saturating_sub(set.elapsed())).await;
        // At once at all nodes, key by key and together.
        let [first, second, third] = &mut wires[..] else { panic!("three nodes") };
        let together = async {
            second.send(&encoded(&all)).await;
            assert_eq!(second.values(keys.len()).await, 0, "none is seen any more");
        };
        let none = "$-1\r\n".repeat(keys.len());
        tokio::join!(first.exchange(&gets, &none), third.exchange(&gets, &none), together);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_behind_a_large_reply_is_answered_though_the_socket_takes_all_of_it_at_once() {
    let cluster = TestCluster::start(ClusterOptions { shards: 1, ..ClusterOptions::default() }).await;
    let mut wire = Wire::open(cluster.resp_address(1)).await;
    // More than the node lets wait unwritten, and about as much as a socket takes.
    for bytes in [1_100_000, 1_500_000, 3_000_000] {
        let value = "v".repeat(bytes);
        wire.exchange(&format!("SET large {value}"), "+OK\r\n").await;
        for _ in 0..3 {
            wire.exchange("GET large\nPING\nPING", &format!("${bytes}\r\n{value}\r\n+PONG\r\n+PONG\r\n")).await;
        }
    }
}
