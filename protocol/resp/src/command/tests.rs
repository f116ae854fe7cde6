use super::*;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::reply::RespVersion;
use crate::table;

fn request(line: &str) -> Request {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    Request::of(&words)
}

fn parse(request: &Request) -> Result<Command<'_>, CommandError> {
    Command::parse(table::resolve(request)?, request)
}

#[track_caller]
fn is(line: &str, expected: Command<'_>) {
    for line in [line.to_owned(), capitals(line)] {
        assert_eq!(parse(&request(&line)), Ok(expected), "{line}");
    }
}

/// The line with its name and its options in capitals: all words but those of one letter.
fn capitals(line: &str) -> String {
    let word = |word: &str| if word.len() == 1 { word.to_owned() } else { word.to_ascii_uppercase() };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Each line is an error with this text, but for its `ERR `.
#[track_caller]
fn are_errors(lines: &[&str], text: &str) {
    for line in lines {
        match parse(&request(line)) {
            Ok(command) => panic!("{line} is {command:?}"),
            Err(error) => assert_eq!(error.to_string(), format!("ERR {text}"), "{line}"),
        }
    }
}

const SET: Set<'static> = Set {
    key: b"k",
    value: b"v",
    condition: SetCondition::Always,
    expiry: SetExpiry::Never,
    reply: SetReply::OkOrNull,
};

const NOT_AN_INTEGER: &str = "value is not an integer or out of range";

#[test]
fn set_takes_its_options_in_any_order() {
    is("set k v", Command::Set(SET));
    let after = SetExpiry::At(Deadline::After(10_000));
    let at = SetExpiry::At(Deadline::At(10));
    let condition = SetCondition::IfAbsent;
    is("set k v nx ex 10", Command::Set(Set { condition, expiry: after, ..SET }));
    is("set k v ex 10 nx", Command::Set(Set { condition, expiry: after, ..SET }));
    is("set k v px 10000", Command::Set(Set { expiry: after, ..SET }));
    is("set k v pxat 10", Command::Set(Set { expiry: at, ..SET }));
    is("set k v exat 10", Command::Set(Set { expiry: SetExpiry::At(Deadline::At(10_000)), ..SET }));
    is("set k v ex 5 ex 10", Command::Set(Set { expiry: after, ..SET }));
    is("set k v keepttl keepttl get", Command::Set(Set { expiry: SetExpiry::Keep, reply: SetReply::OldValue, ..SET }));
    is("set k v xx xx", Command::Set(Set { condition: SetCondition::IfPresent, ..SET }));
    is(
        "set k v ifeq x get",
        Command::Set(Set { condition: SetCondition::IfEqual(b"x"), reply: SetReply::OldValue, ..SET }),
    );
    is("setnx k v", Command::Set(Set { condition, reply: SetReply::OneOrZero, ..SET }));
    is("setex k 10 v", Command::Set(Set { expiry: after, ..SET }));
    is("psetex k 10000 v", Command::Set(Set { expiry: after, ..SET }));
    is("getset k v", Command::Set(Set { reply: SetReply::OldValue, ..SET }));
}

#[test]
fn set_refuses_what_redis_refuses() {
    are_errors(
        &[
            "SET k v NX XX",
            "SET k v XX NX",
            "SET k v NX IFEQ x",
            "SET k v IFEQ x IFEQ y",
            "SET k v IFEQ",
            "SET k v EX",
            "SET k v EX 1 PX 1",
            "SET k v PX 1 EXAT 1",
            "SET k v KEEPTTL EX 1",
            "SET k v EX 1 KEEPTTL",
            "SET k v PERSIST",
            "SET k v EX abc nonsense",
            "SET k v 10",
        ],
        "syntax error",
    );
    are_errors(&["SET k v EX abc", "SET k v PX 1.5", "SET k v EX 99999999999999999999"], NOT_AN_INTEGER);
    are_errors(
        &["SET k v EX 0", "SET k v PX -1", "SET k v EXAT 0", "SET k v EX 9223372036854776"],
        "invalid expire time in 'set' command",
    );
    are_errors(&["SETEX k 0 v", "setex k -10 v"], "invalid expire time in 'setex' command");
    are_errors(&["PSETEX k 0 v"], "invalid expire time in 'psetex' command");
    are_errors(&["SETEX k x v"], NOT_AN_INTEGER);
}

#[test]
fn getex_takes_one_expiry() {
    let getex = |expiry| Command::GetEx { key: b"k", expiry };
    is("getex k", getex(GetExpiry::Keep));
    is("getex k persist", getex(GetExpiry::Remove));
    is("getex k ex 10", getex(GetExpiry::At(Deadline::After(10_000))));
    is("getex k pxat 10", getex(GetExpiry::At(Deadline::At(10))));
    are_errors(
        &["GETEX k EX 1 PERSIST", "GETEX k PERSIST EX 1", "GETEX k KEEPTTL", "GETEX k NX", "GETEX k EX"],
        "syntax error",
    );
    are_errors(&["GETEX k EX 0"], "invalid expire time in 'getex' command");
}

#[test]
fn deadlines_are_counted_from_now() {
    assert_eq!(Deadline::After(5).at_ms(10), Some(15));
    assert_eq!(Deadline::After(-20).at_ms(10), Some(-10));
    assert_eq!(Deadline::After(i64::MAX).at_ms(10), None);
    assert_eq!(Deadline::At(i64::MAX).at_ms(10), Some(i64::MAX));
}

#[test]
fn expire_takes_conditions() {
    let expire = |deadline, condition| Command::Expire { key: b"k", deadline, condition };
    let after = Deadline::After(10_000);
    is("expire k 10", expire(after, ExpireCondition::Always));
    is("pexpire k 10000", expire(after, ExpireCondition::Always));
    is("expireat k 10", expire(Deadline::At(10_000), ExpireCondition::Always));
    is("pexpireat k -1", expire(Deadline::At(-1), ExpireCondition::Always));
    is("expire k -1", expire(Deadline::After(-1000), ExpireCondition::Always));
    for (options, condition) in [
        ("nx", ExpireCondition::IfNone),
        ("nx nx", ExpireCondition::IfNone),
        ("xx", ExpireCondition::IfSome),
        ("gt", ExpireCondition::IfLater),
        ("xx gt", ExpireCondition::IfLater),
        ("gt xx", ExpireCondition::IfLater),
        ("lt", ExpireCondition::IfEarlier),
        ("lt xx", ExpireCondition::IfSomeAndEarlier),
    ] {
        is(&format!("expire k 10 {options}"), expire(after, condition));
    }
    are_errors(&["EXPIRE k 1 AB"], "Unsupported option AB");
    are_errors(
        &["EXPIRE k 1 NX XX", "EXPIRE k 1 GT NX", "EXPIRE k 1 NX GT LT"],
        "NX and XX, GT or LT options at the same time are not compatible",
    );
    are_errors(&["EXPIRE k 1 GT LT XX"], "GT and LT options at the same time are not compatible");
    are_errors(&["EXPIRE k x", "EXPIRE k 9223372036854775808"], NOT_AN_INTEGER);
    are_errors(&["EXPIRE k 9223372036854776", "EXPIRE k -9223372036854776"], "invalid expire time in 'expire' command");
    are_errors(&["EXPIREAT k 9223372036854776"], "invalid expire time in 'expireat' command");
}

#[test]
fn numbers_are_added() {
    let by = |by| Command::IncrBy { key: b"k", by };
    is("incr k", by(1));
    is("decr k", by(-1));
    is("incrby k -5", by(-5));
    is("decrby k 5", by(-5));
    is("decrby k -9223372036854775807", by(i64::MAX));
    are_errors(&["DECRBY k -9223372036854775808"], "decrement would overflow");
    are_errors(&["INCRBY k 1.0", "INCRBY k +1", "DECRBY k 9223372036854775808"], NOT_AN_INTEGER);
    is("incrbyfloat k 3.5", Command::IncrByFloat { key: b"k", by: b"3.5" });
    are_errors(&["INCRBYFLOAT k x", "INCRBYFLOAT k nan", "INCRBYFLOAT k 1_0"], "value is not a valid float");
}

#[test]
fn parts_of_values_have_places() {
    is("getrange k 0 -1", Command::GetRange { key: b"k", start: 0, end: -1 });
    is("substr k -3 9", Command::GetRange { key: b"k", start: -3, end: 9 });
    is("setrange k 5 v", Command::SetRange { key: b"k", offset: 5, value: b"v" });
    are_errors(&["SETRANGE k -1 v"], "offset is out of range");
    are_errors(&["SETRANGE k x v"], NOT_AN_INTEGER);
    let too_long = "string exceeds maximum allowed size (proto-max-bulk-len)";
    are_errors(&[&format!("SETRANGE k {VALUE_BYTES_MAX} v"), "SETRANGE k 9223372036854775807 v"], too_long);
    is("setrange k 9223372036854775807 ", Command::SetRange { key: b"k", offset: i64::MAX as usize, value: b"" });
    is("setbit k 7 1", Command::SetBit { key: b"k", offset: 7, bit: true });
    is("getbit k 134217727", Command::GetBit { key: b"k", offset: 134_217_727 });
    are_errors(
        &["GETBIT k 134217728", "SETBIT k -1 1", "SETBIT k x 2"],
        "bit offset is not an integer or out of range",
    );
    are_errors(&["SETBIT k 0 2", "SETBIT k 0 -1", "SETBIT k 0 x"], "bit is not an integer or out of range");
    let count = |range| Command::BitCount { key: b"k", range };
    is("bitcount k", count(None));
    is("bitcount k 0 -1", count(Some(BitRange { start: 0, end: -1, in_bits: false })));
    is("bitcount k 0 -1 byte", count(Some(BitRange { start: 0, end: -1, in_bits: false })));
    is("bitcount k 5 30 bit", count(Some(BitRange { start: 5, end: 30, in_bits: true })));
    are_errors(&["BITCOUNT k 0", "BITCOUNT k 0 1 NIBBLE", "BITCOUNT k 0 1 BIT x"], "syntax error");
    let find = |bit, range| Command::BitPosition { key: b"k", bit, range };
    is("bitpos k 1", find(true, None));
    is("bitpos k 0 2", find(false, Some(BitSearch { start: 2, end: None, in_bits: false })));
    is("bitpos k 0 2 -1 byte", find(false, Some(BitSearch { start: 2, end: Some(-1), in_bits: false })));
    is("bitpos k 1 7 15 bit", find(true, Some(BitSearch { start: 7, end: Some(15), in_bits: true })));
    are_errors(&["BITPOS k 2", "BITPOS k -1"], "The bit argument must be 1 or 0.");
    are_errors(&["BITPOS k 1 0 1 NIBBLE", "BITPOS k 1 0 1 BIT x"], "syntax error");
}

#[test]
fn several_keys_are_given_in_order() {
    let request = request("MSET a 1 b 2");
    let Ok(Command::MSet(pairs)) = parse(&request) else { panic!("it is an MSET") };
    assert_eq!(pairs.len(), 2);
    assert_eq!(pairs.collect::<Vec<_>>(), [(&b"a"[..], &b"1"[..]), (b"b", b"2")]);
    are_errors(&["MSET a 1 b"], "wrong number of arguments for 'mset' command");
    are_errors(&["MSETNX a 1 b"], "wrong number of arguments for 'msetnx' command");
    let request = self::request("mget a b a");
    let Ok(Command::MGet(keys)) = parse(&request) else { panic!("it is an MGET") };
    assert_eq!(keys.collect::<Vec<_>>(), [b"a", b"b", b"a"]);
}

#[test]
fn lcs_has_forms() {
    let lcs = |form| Command::Lcs { left: b"a", right: b"b", form };
    is("lcs a b", lcs(LcsForm::Text));
    is("lcs a b len", lcs(LcsForm::Length));
    is("lcs a b idx minmatchlen 4 withmatchlen", lcs(LcsForm::Indexes { bytes_min: 4, with_lengths: true }));
    is("lcs a b minmatchlen -4 idx", lcs(LcsForm::Indexes { bytes_min: 0, with_lengths: false }));
    are_errors(&["LCS a b LEN IDX"], "If you want both the length and indexes, please just use IDX.");
    are_errors(&["LCS a b MINMATCHLEN", "LCS a b x"], "syntax error");
}

#[test]
fn scan_and_copy_take_options() {
    let scan = Scan { cursor: 0, pattern: None, count: 10, value_type: None };
    is("scan 0", Command::Scan(scan));
    is(
        "scan 17 type x count 5 match *",
        Command::Scan(Scan { cursor: 17, pattern: Some(b"*"), count: 5, value_type: Some(b"x") }),
    );
    are_errors(&["SCAN x", "SCAN -1"], "invalid cursor");
    are_errors(&["SCAN 0 COUNT x"], NOT_AN_INTEGER);
    are_errors(&["SCAN 0 COUNT 0", "SCAN 0 COUNT", "SCAN 0 MATCH", "SCAN 0 FOO 1", "SCAN 0 COUNT -1"], "syntax error");
    let copy = |database, replace| Command::Copy { from: b"a", to: b"b", database, replace };
    is("copy a b", copy(None, false));
    is("copy a b replace db 3", copy(Some(3), true));
    are_errors(&["COPY a b DB", "COPY a b x"], "syntax error");
    are_errors(&["COPY a b DB 16", "SELECT 16", "SELECT -1"], "DB index is out of range");
    are_errors(&["COPY a b DB x", "SELECT x"], NOT_AN_INTEGER);
    is("rename a b", Command::Rename { from: b"a", to: b"b", only_if_absent: false });
    is("renamenx a b", Command::Rename { from: b"a", to: b"b", only_if_absent: true });
}

#[test]
fn a_message_goes_through_a_channel() {
    is("publish a b", Command::Publish { channel: b"a", message: b"b" });
    are_errors(&["PUBLISH a", "PUBLISH a b c"], "wrong number of arguments for 'publish' command");
}

#[test]
fn waiting_has_a_time() {
    is("wait 1 0", Command::Wait { replicas: 1, timeout_ms: 0 });
    is("waitaof 1 2 100", Command::WaitAof { local: true, replicas: 2, timeout_ms: 100 });
    are_errors(&["WAIT x 1"], NOT_AN_INTEGER);
    are_errors(&["WAIT 1 x"], "timeout is not an integer or out of range");
    are_errors(&["WAIT 1 -1", "WAITAOF 0 1 -1"], "timeout is negative");
    are_errors(&["WAITAOF 2 1 0"], "value is out of range, value must between 0 and 1");
    are_errors(&["WAITAOF 1 -1 0"], "value is out of range, must be positive");
}

#[test]
fn hello_and_auth_say_who_is_there() {
    let none = Hello { version: None, credentials: None, client_name: None };
    let credentials = Credentials { user: Some(b"u"), password: Secret(b"p") };
    is("hello", Command::Hello(none));
    is("hello 3", Command::Hello(Hello { version: Some(RespVersion::Three), ..none }));
    let all = Hello { version: Some(RespVersion::Two), credentials: Some(credentials), client_name: Some(b"n") };
    is("hello 2 setname n auth u p", Command::Hello(all));
    are_errors(&["HELLO x"], "Protocol version is not an integer or out of range");
    assert_eq!(parse(&request("HELLO 4")).unwrap_err().to_string(), "NOPROTO unsupported protocol version");
    are_errors(&["HELLO 3 AUTH u"], "Syntax error in HELLO option 'AUTH'");
    are_errors(&["HELLO 3 foo"], "Syntax error in HELLO option 'foo'");
    are_errors(&["HELLO 3 SETNAME é"], "Client names cannot contain spaces, newlines or special characters.");
    is("auth p", Command::Auth(Credentials { user: None, ..credentials }));
    is("auth u p", Command::Auth(credentials));
    are_errors(&["AUTH a b c"], "syntax error");
    let debug = format!("{:?}", parse(&request("AUTH user geheim")));
    assert!(!debug.contains("geheim") && !debug.contains("103, 101"), "{debug}");
}

#[test]
fn ping_answers_one_argument_at_most() {
    is("ping", Command::Ping(None));
    is("ping x", Command::Ping(Some(b"x")));
    are_errors(&["PING a b"], "wrong number of arguments for 'ping' command");
}

#[test]
fn client_has_subcommands() {
    let client = |command| Command::Client(command);
    is("client id", client(ClientCommand::Id));
    is("client setname n", client(ClientCommand::SetName(b"n")));
    is("client setname ", client(ClientCommand::SetName(b"")));
    is("client setinfo lib-name n", client(ClientCommand::SetInfo(ClientInfo::LibraryName(b"n"))));
    is("client setinfo lib-ver 1", client(ClientCommand::SetInfo(ClientInfo::LibraryVersion(b"1"))));
    is("client reply skip", client(ClientCommand::Reply(ClientReply::SkipNext)));
    is("client no-evict on", client(ClientCommand::NoEvict(true)));
    is("client no-touch off", client(ClientCommand::NoTouch(false)));
    is("client list", client(ClientCommand::List(ClientListFilter::All)));
    is("client list type slave", client(ClientCommand::List(ClientListFilter::Kind(ClientKind::Replica))));
    is("client kill 1", client(ClientCommand::KillAddress(b"1")));
    let filter = ClientFilter {
        id: Some(7),
        kind: Some(ClientKind::Normal),
        address: Some(b"a"),
        local_address: None,
        user: Some(b"u"),
        age_min_s: Some(9),
        skips_me: false,
    };
    is("client kill id 7 skipme no type normal addr a user u maxage 9", client(ClientCommand::Kill(filter)));
    let request = request("CLIENT LIST ID 1 2");
    let Ok(Command::Client(ClientCommand::List(ClientListFilter::Ids(ids)))) = parse(&request) else {
        panic!("it is a list of numbers")
    };
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2]);
    are_errors(&["CLIENT SETINFO lib-name é"], "lib-name cannot contain spaces, newlines or special characters.");
    are_errors(&["CLIENT SETINFO foo 1"], "Unrecognized option 'foo'");
    are_errors(&["CLIENT LIST ID x"], "Invalid client ID");
    are_errors(&["CLIENT LIST TYPE x", "CLIENT KILL TYPE x"], "Unknown client type 'x'");
    are_errors(&["CLIENT KILL ID 0", "CLIENT KILL ID x"], "client-id should be greater than 0");
    are_errors(
        &["CLIENT KILL ID 1 ADDR", "CLIENT KILL SKIPME maybe", "CLIENT KILL a 1", "CLIENT REPLY x", "CLIENT LIST x"],
        "syntax error",
    );
}

#[test]
fn the_server_is_asked_in_many_ways() {
    is("flushall", Command::Flush { all_databases: true });
    is("flushdb async", Command::Flush { all_databases: false });
    are_errors(&["FLUSHALL now", "FLUSHDB SYNC ASYNC"], "syntax error");
    is("function flush sync", Command::FunctionFlush);
    are_errors(&["FUNCTION FLUSH now"], "FUNCTION FLUSH only supports SYNC|ASYNC option");
    is("slowlog get", Command::Slowlog(SlowlogCommand::Get(Some(10))));
    is("slowlog get -1", Command::Slowlog(SlowlogCommand::Get(None)));
    are_errors(&["SLOWLOG GET -2", "SLOWLOG GET x"], "count should be greater than or equal to -1");
    are_errors(&["SLOWLOG GET 1 2"], "unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.");
    is("memory usage k samples 5", Command::MemoryUsage(b"k"));
    are_errors(&["MEMORY USAGE k SAMPLES", "MEMORY USAGE k x 1", "MEMORY USAGE k SAMPLES -1"], "syntax error");
    is("object freq k", Command::Object { key: b"k", question: ObjectQuestion::Frequency });
    are_errors(&["CONFIG SET a 1 b"], "syntax error");
    is("config rewrite", Command::Config(ConfigCommand::Rewrite));
    are_errors(&["COMMAND LIST FILTERBY x y", "COMMAND LIST x", "COMMAND LIST FILTERBY PATTERN"], "syntax error");
    let request = request("object help");
    assert_eq!(parse(&request), Ok(Command::Help(table::command(b"object").unwrap())));
}

#[test]
fn the_cluster_is_asked_by_slots() {
    is("cluster keyslot k", Command::Cluster(ClusterCommand::KeySlot(b"k")));
    is("cluster countkeysinslot 16383", Command::Cluster(ClusterCommand::CountKeysInSlot(16383)));
    is("cluster getkeysinslot 0 5", Command::Cluster(ClusterCommand::GetKeysInSlot { slot: 0, count: 5 }));
    are_errors(&["CLUSTER COUNTKEYSINSLOT 16384", "CLUSTER COUNTKEYSINSLOT -1"], "Invalid slot");
    are_errors(&["CLUSTER GETKEYSINSLOT 0 -1", "CLUSTER GETKEYSINSLOT 16384 1"], "Invalid slot or number of keys");
    are_errors(&["CLUSTER MEET h 1"], "unknown subcommand 'MEET'. Try CLUSTER HELP.");
}

#[test]
fn keys_have_bounds() {
    let longest = vec![b'k'; KEY_BYTES_MAX];
    let too_long = vec![b'k'; KEY_BYTES_MAX + 1];
    assert!(parse(&Request::of(&[b"GET", &longest])).is_ok());
    assert_eq!(parse(&Request::of(&[b"GET", &too_long])), Err(CommandError::KeyTooLong));
    assert_eq!(parse(&Request::of(&[b"MGET", b"a", b""])), Err(CommandError::EmptyKey));
    assert_eq!(parse(&Request::of(&[b"MSET", b"a", b"", b"", b"v"])), Err(CommandError::EmptyKey));
    assert!(parse(&Request::of(&[b"MSET", b"a", b""])).is_ok());
    assert_eq!(CommandError::KeyTooLong.to_string(), "ERR a key has 65536 bytes at most");
}

#[test]
fn every_command_is_parsed_to_something() {
    for spec in table::commands().iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands)) {
        let names: Vec<&[u8]> = spec.full_name.split('|').map(str::as_bytes).collect();
        // No panic, whatever is left out by the arity or is more than any option takes.
        for length in 0..12 {
            for word in [&b"1"[..], b"get", b"on", b"ex", b"", b"id", b"\xff"] {
                let arguments = [&names[..], &vec![word; length]].concat();
                let request = Request::of(&arguments);
                let parsed = Command::parse(spec, &request);
                let is_refused = matches!(parsed, Err(CommandError::WrongNumberOfArguments(_)));
                let is_wrong = !spec.takes(request.len()) || is_counted_later(spec.full_name, &request);
                assert_eq!(is_refused, is_wrong, "{} of {length} {word:?}: {parsed:?}", spec.full_name);
            }
        }
    }
}

/// Commands whose number of arguments is not said by their arity alone.
fn is_counted_later(name: &str, request: &Request) -> bool {
    match name {
        "ping" => request.len() > 2,
        "mset" | "msetnx" => request.len() > 2 && request.len().is_multiple_of(2),
        name => table::command(name.as_bytes()).is_some_and(|spec| !spec.subcommands.is_empty() && name != "command"),
    }
}
