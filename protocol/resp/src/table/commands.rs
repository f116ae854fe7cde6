//! The commands themselves.

use super::subcommands::{ACL, CLIENT, CLUSTER, COMMAND, CONFIG, FUNCTION, LATENCY, MEMORY, MODULE, OBJECT, SLOWLOG};
use super::{Categories, CommandSpec, Flags, Group, KeyAccess, KeySpec, Tier};
use crate::command::{connection, keys, pubsub, server, strings, transactions};

/// The sum of the named bits of a set.
macro_rules! bits {
    ($type:ident $($name:ident)*) => { $type::NONE$(.and($type::$name))* };
}

/// A line of a table: full name, arity, group, first release, tier; flags; own categories; keys; tips; how it is parsed; the
/// arguments and the summary for people; the subcommands.
macro_rules! spec {
    ($name:literal $arity:literal $group:ident $since:literal $tier:ident
     [$($flag:ident)*] [$($category:ident)*] [$($first:literal..$last:literal / $step:literal $($access:ident)*),*]
     [$($tip:literal)*] $parse:path, $syntax:literal, $summary:literal $(, $subcommands:expr)?) => {
        CommandSpec {
            full_name: $name,
            arity: $arity,
            flags: bits!(Flags $($flag)*),
            own_categories: bits!(Categories $($category)*),
            key_specs: &[$(KeySpec { first: $first, last: $last, step: $step, access: bits!(KeyAccess $($access)*) }),*],
            group: Group::$group,
            tier: Tier::$tier,
            since: $since,
            syntax: $syntax,
            summary: $summary,
            tips: &[$($tip),*],
            subcommands: spec!(@subcommands $($subcommands)?),
            parse: $parse,
        }
    };
    (@subcommands) => { &[] };
    (@subcommands $subcommands:expr) => { &$subcommands };
}

pub(super) use {bits, spec};

/// Every command, in the order of names.
#[rustfmt::skip]
pub(super) static COMMANDS: [CommandSpec; 83] = [
    spec!("acl" -2 Server "6.0.0" Start [] [] [] []
        server::no_subcommand, "", "Tells who may do what.", ACL),
    spec!("append" 3 String "2.0.0" Start [WRITE DENYOOM FAST] [STRING] [1..0/1 MODIFY INSERT] []
        strings::append, "key value", "Adds bytes to the end of a value, and makes the key if it is missing."),
    spec!("asking" 1 Cluster "3.0.0" Start [FAST] [CONNECTION] [] []
        connection::asking, "", "Does nothing: slots never move from node to node."),
    spec!("auth" -2 Connection "1.0.0" Start [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] []
        connection::auth, "[username] password", "Authenticates the connection."),
    spec!("bitcount" -2 Bitmap "2.6.0" Strings [READONLY] [BITMAP] [1..0/1 READ ACCESS] []
        strings::bitcount, "key [start end [BYTE | BIT]]", "Counts the bits that are set in a value."),
    spec!("bitpos" -3 Bitmap "2.8.7" Strings [READONLY] [BITMAP] [1..0/1 READ ACCESS] []
        strings::bitpos, "key bit [start [end [BYTE | BIT]]]", "Finds the first bit that is set, or is not."),
    spec!("client" -2 Connection "2.4.0" Start [] [] [] []
        server::no_subcommand, "", "Looks at connections, and changes them.", CLIENT),
    spec!("cluster" -2 Cluster "3.0.0" Cluster [] [] [] []
        server::no_subcommand, "", "Tells which node serves which slots.", CLUSTER),
    spec!("command" -1 Server "2.8.13" Start [LOADING STALE] [CONNECTION] [] ["nondeterministic_output_order"]
        server::command_all, "", "Describes every command.", COMMAND),
    spec!("config" -2 Server "2.0.0" Start [] [] [] []
        server::no_subcommand, "", "Reads and changes settings.", CONFIG),
    spec!("copy" -3 Generic "6.2.0" Strings [WRITE DENYOOM] [KEYSPACE]
        [1..0/1 READ ACCESS, 2..0/1 OVERWRITE UPDATE] []
        keys::copy, "source destination [DB destination-db] [REPLACE]", "Copies a value to another key."),
    spec!("dbsize" 1 Server "1.0.0" Start [READONLY FAST] [KEYSPACE] []
        ["request_policy:all_shards" "response_policy:agg_sum"]
        server::dbsize, "", "Counts the keys."),
    spec!("decr" 2 String "1.0.0" Start [WRITE DENYOOM FAST] [STRING] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::decr, "key", "Takes 1 from a whole number."),
    spec!("decrby" 3 String "1.0.0" Start [WRITE DENYOOM FAST] [STRING] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::decrby, "key decrement", "Takes a whole number from another."),
    spec!("del" -2 Generic "1.0.0" Start [WRITE] [KEYSPACE] [1..-1/1 REMOVE DELETE]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        keys::delete, "key [key ...]", "Removes keys, and counts those that were there."),
    spec!("delifeq" 3 String "9.0.0" Strings [WRITE FAST] [STRING] [1..0/1 REMOVE DELETE] []
        strings::delifeq, "key value", "Removes a key if it has this value."),
    spec!("discard" 1 Transactions "2.0.0" Transactions [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] [] []
        transactions::discard, "", "Forgets the commands that MULTI queued."),
    spec!("echo" 2 Connection "1.0.0" Start [LOADING STALE FAST] [CONNECTION] [] []
        connection::echo, "message", "Answers what it is given."),
    spec!("exec" 1 Transactions "1.2.0" Transactions [NOSCRIPT LOADING STALE SKIP_SLOWLOG] [TRANSACTION] [] []
        transactions::exec, "", "Carries out the commands that MULTI queued."),
    spec!("exists" -2 Generic "1.0.0" Start [READONLY FAST] [KEYSPACE] [1..-1/1 READ]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        keys::exists, "key [key ...]", "Counts those of the keys that are there."),
    spec!("expire" -3 Generic "1.0.0" Start [WRITE FAST] [KEYSPACE] [1..0/1 MODIFY UPDATE] []
        keys::expire, "key seconds [NX | XX | GT | LT]", "Lets a key expire after some seconds."),
    spec!("expireat" -3 Generic "1.2.0" Start [WRITE FAST] [KEYSPACE] [1..0/1 MODIFY UPDATE] []
        keys::expireat, "key unix-time-seconds [NX | XX | GT | LT]", "Lets a key expire at a time in seconds."),
    spec!("expiretime" 2 Generic "7.0.0" Strings [READONLY FAST] [KEYSPACE] [1..0/1 READ ACCESS] []
        keys::expiretime, "key", "Tells when a key expires, in seconds."),
    spec!("flushall" -1 Server "1.0.0" Start [WRITE] [KEYSPACE DANGEROUS] []
        ["request_policy:all_shards" "response_policy:all_succeeded"]
        server::flushall, "[ASYNC | SYNC]", "Removes all keys of all databases."),
    spec!("flushdb" -1 Server "1.0.0" Start [WRITE] [KEYSPACE DANGEROUS] []
        ["request_policy:all_shards" "response_policy:all_succeeded"]
        server::flushdb, "[ASYNC | SYNC]", "Removes all keys of the database."),
    spec!("function" -2 Scripting "7.0.0" Start [] [] [] []
        server::no_subcommand, "", "Manages functions, of which there are none.", FUNCTION),
    spec!("get" 2 String "1.0.0" Start [READONLY FAST] [STRING] [1..0/1 READ ACCESS] []
        strings::get, "key", "Gives the value of a key."),
    spec!("getbit" 3 Bitmap "2.2.0" Strings [READONLY FAST] [BITMAP] [1..0/1 READ ACCESS] []
        strings::getbit, "key offset", "Gives one bit of a value."),
    spec!("getdel" 2 String "6.2.0" Start [WRITE FAST] [STRING] [1..0/1 MODIFY ACCESS DELETE] []
        strings::getdel, "key", "Gives the value of a key, and removes the key."),
    spec!("getex" -2 String "6.2.0" Start [WRITE FAST] [STRING] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::getex,
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        "Gives the value of a key, and changes when it expires."),
    spec!("getrange" 4 String "2.4.0" Strings [READONLY] [STRING] [1..0/1 READ ACCESS] []
        strings::getrange, "key start end", "Gives a part of a value."),
    spec!("getset" 3 String "1.0.0" Start [WRITE DENYOOM FAST] [STRING] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::getset, "key value", "Sets a key, and gives the value that it had."),
    spec!("hello" -1 Connection "6.0.0" Start [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] []
        connection::hello, "[protover [AUTH username password] [SETNAME clientname]]",
        "Begins a conversation, in the version of the protocol that it names."),
    spec!("incr" 2 String "1.0.0" Start [WRITE DENYOOM FAST] [STRING] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::incr, "key", "Adds 1 to a whole number."),
    spec!("incrby" 3 String "1.0.0" Start [WRITE DENYOOM FAST] [STRING] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::incrby, "key increment", "Adds a whole number to another."),
    spec!("incrbyfloat" 3 String "2.6.0" Strings [WRITE DENYOOM FAST] [STRING] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::incrbyfloat, "key increment", "Adds a decimal number to another."),
    spec!("info" -1 Server "1.0.0" Start [LOADING STALE] [DANGEROUS] []
        ["nondeterministic_output" "request_policy:all_shards" "response_policy:special"]
        server::info, "[section [section ...]]", "Tells about the node and the cluster."),
    spec!("keys" 2 Generic "1.0.0" Start [READONLY] [KEYSPACE DANGEROUS] []
        ["request_policy:all_shards" "nondeterministic_output_order"]
        keys::keys, "pattern", "Gives every key that matches a pattern."),
    spec!("latency" -2 Server "2.8.13" Strings [] [] [] []
        server::no_subcommand, "", "Tells what took long.", LATENCY),
    spec!("lcs" -3 String "7.0.0" Strings [READONLY] [STRING] [1..1/1 READ ACCESS] []
        strings::lcs, "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        "Finds the longest common subsequence of two values."),
    spec!("memory" -2 Server "4.0.0" Strings [] [] [] []
        server::no_subcommand, "", "Tells what memory is used for.", MEMORY),
    spec!("mget" -2 String "1.0.0" Start [READONLY FAST] [STRING] [1..-1/1 READ ACCESS] ["request_policy:multi_shard"]
        strings::mget, "key [key ...]", "Gives the values of several keys."),
    spec!("module" -2 Server "4.0.0" Start [] [] [] []
        server::no_subcommand, "", "Manages modules, of which there are none.", MODULE),
    spec!("monitor" 1 Server "1.0.0" Strings [ADMIN NOSCRIPT LOADING STALE] [] [] []
        server::monitor, "", "Tells every command that the node carries out from now on."),
    spec!("mset" -3 String "1.0.1" Start [WRITE DENYOOM] [STRING] [1..-1/2 OVERWRITE UPDATE]
        ["request_policy:multi_shard" "response_policy:all_succeeded"]
        strings::mset, "key value [key value ...]", "Sets several keys."),
    spec!("msetnx" -3 String "1.0.1" Strings [WRITE DENYOOM] [STRING] [1..-1/2 OVERWRITE INSERT] []
        strings::msetnx, "key value [key value ...]", "Sets several keys if none of them is there."),
    spec!("multi" 1 Transactions "1.2.0" Transactions [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] [] []
        transactions::multi, "", "Queues the commands that follow, until EXEC."),
    spec!("object" -2 Generic "2.2.3" Strings [] [] [] []
        server::no_subcommand, "", "Tells how a value is kept.", OBJECT),
    spec!("persist" 2 Generic "2.2.0" Start [WRITE FAST] [KEYSPACE] [1..0/1 MODIFY UPDATE] []
        keys::persist, "key", "Lets a key live on that would have expired."),
    spec!("pexpire" -3 Generic "2.6.0" Start [WRITE FAST] [KEYSPACE] [1..0/1 MODIFY UPDATE] []
        keys::pexpire, "key milliseconds [NX | XX | GT | LT]", "Lets a key expire after some milliseconds."),
    spec!("pexpireat" -3 Generic "2.6.0" Strings [WRITE FAST] [KEYSPACE] [1..0/1 MODIFY UPDATE] []
        keys::pexpireat, "key unix-time-milliseconds [NX | XX | GT | LT]",
        "Lets a key expire at a time in milliseconds."),
    spec!("pexpiretime" 2 Generic "7.0.0" Strings [READONLY FAST] [KEYSPACE] [1..0/1 READ ACCESS] []
        keys::pexpiretime, "key", "Tells when a key expires, in milliseconds."),
    spec!("ping" -1 Connection "1.0.0" Start [FAST] [CONNECTION] []
        ["request_policy:all_shards" "response_policy:all_succeeded"]
        connection::ping, "[message]", "Answers PONG, or what it is given."),
    spec!("psetex" 4 String "2.6.0" Start [WRITE DENYOOM] [STRING] [1..0/1 OVERWRITE UPDATE] []
        strings::psetex, "key milliseconds value", "Sets a key that expires after some milliseconds."),
    spec!("pttl" 2 Generic "2.6.0" Start [READONLY FAST] [KEYSPACE] [1..0/1 READ ACCESS] ["nondeterministic_output"]
        keys::pttl, "key", "Tells how long a key has still to live, in milliseconds."),
    spec!("publish" 3 PubSub "2.0.0" Messages [PUBSUB LOADING STALE FAST] [PUBSUB] [] []
        pubsub::publish, "channel message", "Answers 0: nobody can subscribe to a channel yet."),
    spec!("quit" -1 Connection "1.0.0" Start [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] []
        connection::quit, "", "Closes the connection."),
    spec!("randomkey" 1 Generic "1.0.0" Strings [READONLY] [KEYSPACE] []
        ["request_policy:all_shards" "response_policy:special" "nondeterministic_output"]
        keys::randomkey, "", "Gives any key."),
    spec!("readonly" 1 Cluster "3.0.0" Start [LOADING STALE FAST] [CONNECTION] [] []
        connection::readonly, "", "Does nothing: leaders answer all reads."),
    spec!("readwrite" 1 Cluster "3.0.0" Start [LOADING STALE FAST] [CONNECTION] [] []
        connection::readwrite, "", "Does nothing: leaders answer all reads."),
    spec!("rename" 3 Generic "1.0.0" Strings [WRITE] [KEYSPACE]
        [1..0/1 MODIFY ACCESS DELETE, 2..0/1 OVERWRITE UPDATE] []
        keys::rename, "key newkey", "Moves a value to another key."),
    spec!("renamenx" 3 Generic "1.0.0" Strings [WRITE FAST] [KEYSPACE]
        [1..0/1 MODIFY ACCESS DELETE, 2..0/1 OVERWRITE INSERT] []
        keys::renamenx, "key newkey", "Moves a value to another key, if that is missing."),
    spec!("reset" 1 Connection "6.2.0" Start [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] []
        connection::reset, "", "Makes the connection as it was when it was new."),
    spec!("role" 1 Server "2.8.12" Strings [NOSCRIPT LOADING STALE FAST] [ADMIN DANGEROUS] [] []
        server::role, "", "Answers that the node is a master."),
    spec!("scan" -2 Generic "2.8.0" Start [READONLY] [KEYSPACE] []
        ["nondeterministic_output" "request_policy:special" "response_policy:special"]
        keys::scan, "cursor [MATCH pattern] [COUNT count] [TYPE type]", "Gives some keys, and where to go on."),
    spec!("select" 2 Connection "1.0.0" Start [LOADING STALE FAST] [CONNECTION] [] []
        connection::select, "index", "Changes the database of the connection."),
    spec!("set" -3 String "1.0.0" Start [WRITE DENYOOM] [STRING] [1..0/1 MODIFY ACCESS UPDATE VARIABLE] []
        strings::set,
        "key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
         PXAT unix-time-milliseconds | KEEPTTL]",
        "Sets a key."),
    spec!("setbit" 4 Bitmap "2.2.0" Strings [WRITE DENYOOM] [BITMAP] [1..0/1 MODIFY ACCESS UPDATE] []
        strings::setbit, "key offset value", "Sets one bit of a value, and gives what it was."),
    spec!("setex" 4 String "2.0.0" Start [WRITE DENYOOM] [STRING] [1..0/1 OVERWRITE UPDATE] []
        strings::setex, "key seconds value", "Sets a key that expires after some seconds."),
    spec!("setnx" 3 String "1.0.0" Start [WRITE DENYOOM FAST] [STRING] [1..0/1 OVERWRITE INSERT] []
        strings::setnx, "key value", "Sets a key if it is missing."),
    spec!("setrange" 4 String "2.2.0" Strings [WRITE DENYOOM] [STRING] [1..0/1 MODIFY UPDATE] []
        strings::setrange, "key offset value", "Replaces a part of a value."),
    spec!("slowlog" -2 Server "2.2.12" Strings [] [] [] []
        server::no_subcommand, "", "Tells which commands took long.", SLOWLOG),
    spec!("strlen" 2 String "2.2.0" Start [READONLY FAST] [STRING] [1..0/1 READ] []
        strings::strlen, "key", "Counts the bytes of a value."),
    spec!("substr" 4 String "1.0.0" Strings [READONLY] [STRING] [1..0/1 READ ACCESS] []
        strings::getrange, "key start end", "Gives a part of a value."),
    spec!("time" 1 Server "2.6.0" Start [LOADING STALE FAST] [] [] ["nondeterministic_output"]
        server::time, "", "Tells the node's time."),
    spec!("touch" -2 Generic "3.2.1" Strings [READONLY FAST] [KEYSPACE] [1..-1/1 READ]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        keys::touch, "key [key ...]", "Counts those of the keys that are there."),
    spec!("ttl" 2 Generic "1.0.0" Start [READONLY FAST] [KEYSPACE] [1..0/1 READ ACCESS] ["nondeterministic_output"]
        keys::ttl, "key", "Tells how long a key has still to live, in seconds."),
    spec!("type" 2 Generic "1.0.0" Start [READONLY FAST] [KEYSPACE] [1..0/1 READ] []
        keys::type_of, "key", "Tells what kind of value a key has."),
    spec!("unlink" -2 Generic "4.0.0" Start [WRITE FAST] [KEYSPACE] [1..-1/1 REMOVE DELETE]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        keys::delete, "key [key ...]", "Removes keys, and counts those that were there."),
    spec!("unwatch" 1 Transactions "2.2.0" Transactions [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] [] []
        transactions::unwatch, "", "Forgets the keys that WATCH named."),
    spec!("wait" 3 Generic "3.0.0" Strings [BLOCKING] [CONNECTION] []
        ["request_policy:all_shards" "response_policy:agg_min"]
        keys::wait, "numreplicas timeout", "Waits until replicas have the connection's writes."),
    spec!("waitaof" 4 Generic "7.2.0" Strings [BLOCKING] [CONNECTION] []
        ["request_policy:all_shards" "response_policy:agg_min"]
        keys::waitaof, "numlocal numreplicas timeout", "Waits until the connection's writes are on disks."),
    spec!("watch" -2 Transactions "2.2.0" Transactions [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION]
        [1..-1/1 READ] []
        transactions::watch, "key [key ...]", "Lets EXEC do nothing if one of the keys has changed until then."),
];
