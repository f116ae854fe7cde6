use super::*;
use crate::command::CommandFilter;
use crate::output::Output;
use crate::reply::{ReplyWriter, RespVersion};
use bytes::Buf;

fn request(line: &str) -> Request {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    Request::of(&words)
}

fn every() -> impl Iterator<Item = &'static CommandSpec> {
    commands().iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}

fn written(version: RespVersion, write: impl Fn(&mut ReplyWriter<'_>)) -> String {
    let mut output = Output::new();
    write(&mut ReplyWriter::new(&mut output, version));
    String::from_utf8(output.copy_to_bytes(output.len()).to_vec()).unwrap()
}

#[test]
fn names_are_in_order_and_each_stands_once() {
    assert!(commands().is_sorted_by(|left, right| left.full_name < right.full_name));
    for spec in commands() {
        assert!(spec.subcommands.is_sorted_by(|left, right| left.full_name < right.full_name), "{}", spec.full_name);
        for subcommand in spec.subcommands {
            assert!(subcommand.full_name.starts_with(&format!("{}|", spec.full_name)), "{}", subcommand.full_name);
        }
    }
}

#[test]
fn lines_of_the_table_make_sense() {
    for spec in every() {
        let name = spec.full_name;
        assert_eq!(name, name.to_ascii_lowercase());
        assert!(spec.arity != 0 && spec.summary.ends_with('.') && spec.since.split('.').count() == 3, "{name}");
        assert!(!(spec.flags.has(Flags::READONLY) && spec.flags.has(Flags::WRITE)), "{name}");
        let categories = spec.categories();
        assert_ne!(categories.has(Categories::FAST), categories.has(Categories::SLOW), "{name}");
        for keys in spec.key_specs {
            assert!(keys.first > 0 && keys.step > 0 && keys.last >= -1, "{name}");
            assert!(spec.arity.unsigned_abs() > keys.first, "{name}: the first key is always there");
            assert!(spec.flags.has(Flags::WRITE) || spec.flags.has(Flags::READONLY) || name == "watch", "{name}");
        }
    }
}

#[test]
fn every_command_can_be_resolved_in_any_case() {
    for spec in every() {
        let words: Vec<String> = spec.full_name.split('|').map(str::to_owned).collect();
        let missing = usize::from(spec.arity.unsigned_abs()) - words.len();
        let arguments = [words, vec!["0".to_owned(); missing]].concat();
        let lower: Vec<&[u8]> = arguments.iter().map(|word| word.as_bytes()).collect();
        if spec.subcommands.is_empty() {
            assert_eq!(resolve(&Request::of(&lower)).map(|spec| spec.full_name), Ok(spec.full_name));
            let upper = arguments.join(" ").to_ascii_uppercase();
            assert_eq!(resolve(&request(&upper)).map(|spec| spec.full_name), Ok(spec.full_name));
        }
        assert_eq!(command_of_full_name(spec.full_name.to_ascii_uppercase().as_bytes()), Some(spec));
    }
}

#[test]
fn what_is_unknown_is_told_in_the_words_of_redis() {
    let long = "x".repeat(200);
    for (line, text) in [
        ("foo", "ERR unknown command 'foo', with args beginning with: ".to_owned()),
        ("FOO a b", "ERR unknown command 'FOO', with args beginning with: 'a' 'b' ".to_owned()),
        ("CLIENT nope", "ERR unknown subcommand 'nope'. Try CLIENT HELP.".to_owned()),
        ("client MAINT_NOTIFICATIONS on", "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.".to_owned()),
        ("CLIENT", "ERR wrong number of arguments for 'client' command".to_owned()),
        ("get", "ERR wrong number of arguments for 'get' command".to_owned()),
        ("GET a b", "ERR wrong number of arguments for 'get' command".to_owned()),
        ("CONFIG GET", "ERR wrong number of arguments for 'config|get' command".to_owned()),
        ("client setname", "ERR wrong number of arguments for 'client|setname' command".to_owned()),
        (&long, format!("ERR unknown command '{}', with args beginning with: ", &long[..128])),
        (&format!("f {long} b"), format!("ERR unknown command 'f', with args beginning with: '{}' ", &long[..128])),
    ] {
        assert_eq!(resolve(&request(line)).map(|spec| spec.full_name).unwrap_err().to_string(), text, "{line}");
    }
    let error = resolve(&Request::of(&[b"a\r\nb\0c", b"\r\n"])).unwrap_err();
    let reply = written(RespVersion::Two, |reply| reply.command_error(&error));
    assert_eq!(reply, "-ERR unknown command 'a  b', with args beginning with: '  ' \r\n");
}

#[test]
fn keys_are_those_that_redis_names() {
    for (line, expected) in [
        ("GET a", &["a"][..]),
        ("SET k v EX 10", &["k"]),
        ("MGET a b c", &["a", "b", "c"]),
        ("MSET a b c d e f", &["a", "c", "e"]),
        ("MSET a b c", &["a", "c"]),
        ("MSETNX a 1 b 2", &["a", "b"]),
        ("DEL a b", &["a", "b"]),
        ("RENAME a b", &["a", "b"]),
        ("COPY a b REPLACE", &["a", "b"]),
        ("LCS a b LEN", &["a", "b"]),
        ("MEMORY USAGE foo", &["foo"]),
        ("OBJECT ENCODING foo", &["foo"]),
        ("WATCH x y", &["x", "y"]),
        ("EXPIRE k 1 NX", &["k"]),
        ("BITCOUNT k 0 1 BIT", &["k"]),
        ("BITPOS k 0", &["k"]),
        ("PING a", &[]),
        ("CLUSTER KEYSLOT a", &[]),
        ("SCAN 0 MATCH a", &[]),
    ] {
        let request = request(line);
        let keys: Vec<&[u8]> = resolve(&request).unwrap().keys(&request).map(|key| key.name).collect();
        assert_eq!(keys, expected.iter().map(|key| key.as_bytes()).collect::<Vec<_>>(), "{line}");
    }
}

fn keys_of(line: &str, with_access: bool) -> Result<String, String> {
    let mut output = Output::new();
    let mut reply = ReplyWriter::new(&mut output, RespVersion::Three);
    write_keys(&mut reply, request(line).iter(), with_access).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(output.copy_to_bytes(output.len()).to_vec()).unwrap())
}

#[test]
fn getkeys_answers_as_redis_does() {
    assert_eq!(keys_of("MSET a b c d", false).unwrap(), "*2\r\n$1\r\na\r\n$1\r\nc\r\n");
    assert_eq!(keys_of("set k v", true).unwrap(), "*1\r\n*2\r\n$1\r\nk\r\n~2\r\n+OW\r\n+update\r\n");
    let with_get = keys_of("SET k v EX 1 get", true).unwrap();
    assert_eq!(with_get, "*1\r\n*2\r\n$1\r\nk\r\n~3\r\n+RW\r\n+access\r\n+update\r\n");
    assert_eq!(keys_of("get", false).unwrap_err(), "ERR Invalid number of arguments specified for command");
    assert_eq!(keys_of("ping", false).unwrap_err(), "ERR The command has no key arguments");
    assert_eq!(keys_of("nope a", false).unwrap_err(), "ERR Invalid command specified");
    assert_eq!(keys_of("memory nope a", false).unwrap_err(), "ERR Invalid command specified");
}

#[test]
fn key_ranges_are_those_of_command_info() {
    for (name, range) in [
        ("get", (1, 1, 1)),
        ("del", (1, -1, 1)),
        ("mset", (1, -1, 2)),
        ("rename", (1, 2, 1)),
        ("copy", (1, 2, 1)),
        ("lcs", (1, 2, 1)),
        ("memory|usage", (2, 2, 1)),
        ("memory", (0, 0, 0)),
        ("ping", (0, 0, 0)),
        ("watch", (1, -1, 1)),
    ] {
        assert_eq!(command_of_full_name(name.as_bytes()).unwrap().key_range(), range, "{name}");
    }
}

#[test]
fn categories_follow_from_flags() {
    let names = |name: &[u8]| command_of_full_name(name).unwrap().categories().names().collect::<Vec<_>>();
    assert_eq!(names(b"get"), ["read", "string", "fast"]);
    assert_eq!(names(b"set"), ["write", "string", "slow"]);
    assert_eq!(names(b"client|kill"), ["admin", "slow", "dangerous", "connection"]);
    assert_eq!(names(b"flushall"), ["keyspace", "write", "slow", "dangerous"]);
    assert_eq!(names(b"publish"), ["pubsub", "fast"]);
    assert_eq!(names(b"wait"), ["slow", "blocking", "connection"]);
}

#[test]
fn command_info_has_the_form_of_redis_seven() {
    let get = "*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n\
        *1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n\
        $4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n\
        *6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n";
    let info = written(RespVersion::Two, |reply| write_info(reply, request("GET nope").iter()));
    assert_eq!(info, format!("*2\r\n{get}$-1\r\n"));
    let all = written(RespVersion::Two, |reply| write_info(reply, Request::new().iter()));
    assert!(all.starts_with(&format!("*{}\r\n*10\r\n$3\r\nacl\r\n", commands().len())) && all.contains(get));
}

#[test]
fn command_docs_is_a_map() {
    let docs = written(RespVersion::Three, |reply| write_docs(reply, request("get nope config|get").iter()));
    assert!(docs.starts_with("%2\r\n$3\r\nget\r\n%4\r\n$7\r\nsummary\r\n"), "{docs}");
    let key = "$9\r\narguments\r\n*1\r\n%2\r\n$4\r\nname\r\n$3\r\nkey\r\n$4\r\ntype\r\n$3\r\nkey\r\n";
    assert!(docs.contains(key), "{docs}");
    assert!(docs.contains("$10\r\nconfig|get\r\n%4\r\n"), "{docs}");
    let client = written(RespVersion::Two, |reply| write_docs(reply, request("client").iter()));
    assert!(client.starts_with("*2\r\n$6\r\nclient\r\n*8\r\n") && client.contains("$11\r\nsubcommands\r\n*24\r\n"));
}

#[test]
fn command_list_takes_filters() {
    let list = |filter: CommandFilter<'_>| {
        let reply = written(RespVersion::Two, |reply| write_list(reply, filter, 100_000));
        reply
            .split("\r\n")
            .filter(|line| !line.is_empty() && !line.starts_with(['*', '$']))
            .map(str::to_owned)
            .collect()
    };
    let all: Vec<String> = list(CommandFilter::All);
    assert_eq!(all.len(), every().count());
    let sets: Vec<String> = list(CommandFilter::Pattern(b"SET*"));
    assert_eq!(sets, ["set", "setbit", "setex", "setnx", "setrange"]);
    let transactions: Vec<String> = list(CommandFilter::Category(b"TRANSACTION"));
    assert_eq!(transactions, ["discard", "exec", "multi", "unwatch", "watch"]);
    let none: Vec<Vec<String>> = vec![list(CommandFilter::Module(b"x")), list(CommandFilter::Category(b"x"))];
    assert!(none.iter().all(Vec::is_empty));
}

#[test]
fn help_names_every_subcommand() {
    let help = written(RespVersion::Two, |reply| write_help(reply, command(b"slowlog").unwrap()));
    let expected = "*9\r\n+SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n+GET [count]\r\n\
        +    Gives the newest commands that took long.\r\n+HELP\r\n+    Gives this text.\r\n";
    assert!(help.starts_with(expected), "{help}");
}
