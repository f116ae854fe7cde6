//! The subcommands of the commands that have some.

use super::commands::{bits, spec};
use super::{Categories, CommandSpec, Flags, Group, KeyAccess, KeySpec, Tier};
use crate::command::{acl, client, cluster, introspection, server};

#[rustfmt::skip]
pub(super) static ACL: [CommandSpec; 7] = [
    spec!("acl|cat" -2 Server "6.0.0" Start [NOSCRIPT LOADING STALE] [] [] []
        acl::cat, "[category]", "Names the categories of commands, or the commands of one."),
    spec!("acl|dryrun" -4 Server "7.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [] [] []
        acl::dryrun, "username command [arg [arg ...]]", "Tells whether a user may give a command. It is not carried out."),
    spec!("acl|getuser" 3 Server "6.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [] [] []
        acl::getuser, "username", "Tells what a user may do."),
    spec!("acl|help" 2 Server "6.0.0" Start [LOADING STALE] [] [] []
        server::help, "", "Gives this text."),
    spec!("acl|list" 2 Server "6.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [] [] []
        acl::list, "", "Tells what each user may do."),
    spec!("acl|users" 2 Server "6.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [] [] []
        acl::users, "", "Names the users."),
    spec!("acl|whoami" 2 Server "6.0.0" Start [NOSCRIPT LOADING STALE] [] [] []
        acl::whoami, "", "Names the user of this connection."),
];

#[rustfmt::skip]
pub(super) static CLIENT: [CommandSpec; 12] = [
    spec!("client|getname" 2 Connection "2.6.9" Start [NOSCRIPT LOADING STALE] [CONNECTION] [] []
        client::getname, "", "Gives the connection's name."),
    spec!("client|getredir" 2 Connection "6.0.0" Start [NOSCRIPT LOADING STALE] [CONNECTION] [] []
        client::getredir, "", "Answers -1: nothing is tracked."),
    spec!("client|help" 2 Connection "5.0.0" Start [LOADING STALE] [CONNECTION] [] []
        server::help, "", "Gives this text."),
    spec!("client|id" 2 Connection "5.0.0" Start [NOSCRIPT LOADING STALE] [CONNECTION] [] []
        client::id, "", "Gives the connection's number."),
    spec!("client|info" 2 Connection "6.2.0" Start [NOSCRIPT LOADING STALE] [CONNECTION] []
        ["nondeterministic_output"]
        client::info, "", "Tells about this connection."),
    spec!("client|kill" -3 Connection "2.4.0" Start [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] [] []
        client::kill,
        "ip:port | [ID client-id] [TYPE type] [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME YES | NO] \
         [MAXAGE seconds]",
        "Closes connections."),
    spec!("client|list" -2 Connection "2.4.0" Start [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] []
        ["nondeterministic_output"]
        client::list, "[TYPE type] [ID client-id [client-id ...]]", "Tells about the node's connections."),
    spec!("client|no-evict" 3 Connection "7.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] [] []
        client::no_evict, "ON | OFF", "Does nothing: connections are not closed for want of memory."),
    spec!("client|no-touch" 3 Connection "7.2.0" Start [NOSCRIPT LOADING STALE] [CONNECTION] [] []
        client::no_touch, "ON | OFF", "Does nothing: it is not noted when a key was read."),
    spec!("client|reply" 3 Connection "3.2.0" Start [NOSCRIPT LOADING STALE] [CONNECTION] [] []
        client::reply, "ON | OFF | SKIP", "Switches replies off and on."),
    spec!("client|setinfo" 4 Connection "7.2.0" Start [NOSCRIPT LOADING STALE] [CONNECTION] []
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        client::setinfo, "LIB-NAME libname | LIB-VER libver", "Tells the node which library the client is."),
    spec!("client|setname" 3 Connection "2.6.9" Start [NOSCRIPT LOADING STALE] [CONNECTION] []
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        client::setname, "connection-name", "Names the connection."),
];

#[rustfmt::skip]
pub(super) static CLUSTER: [CommandSpec; 12] = [
    spec!("cluster|countkeysinslot" 3 Cluster "3.0.0" Cluster [STALE] [] [] []
        cluster::countkeysinslot, "slot", "Counts the keys of a slot."),
    spec!("cluster|getkeysinslot" 4 Cluster "3.0.0" Cluster [STALE] [] [] ["nondeterministic_output"]
        cluster::getkeysinslot, "slot count", "Gives some keys of a slot."),
    spec!("cluster|help" 2 Cluster "5.0.0" Cluster [LOADING STALE] [] [] []
        server::help, "", "Gives this text."),
    spec!("cluster|info" 2 Cluster "3.0.0" Cluster [STALE] [] [] ["nondeterministic_output"]
        cluster::info, "", "Tells how the cluster is."),
    spec!("cluster|keyslot" 3 Cluster "3.0.0" Cluster [STALE] [] [] []
        cluster::keyslot, "key", "Tells the slot of a key."),
    spec!("cluster|links" 2 Cluster "7.0.0" Cluster [STALE] [] [] ["nondeterministic_output"]
        cluster::links, "", "Tells of connections between nodes."),
    spec!("cluster|myid" 2 Cluster "3.0.0" Cluster [STALE] [] [] []
        cluster::myid, "", "Gives the node's id."),
    spec!("cluster|myshardid" 2 Cluster "7.2.0" Cluster [STALE] [] [] ["nondeterministic_output"]
        cluster::myshardid, "", "Gives the id of what the node serves."),
    spec!("cluster|nodes" 2 Cluster "3.0.0" Cluster [STALE] [] [] ["nondeterministic_output"]
        cluster::nodes, "", "Tells of all nodes and their slots, a line each."),
    spec!("cluster|replicas" 3 Cluster "5.0.0" Cluster [ADMIN STALE] [] [] ["nondeterministic_output"]
        cluster::replicas, "node-id", "Gives an empty list: each node is shown as a master."),
    spec!("cluster|shards" 2 Cluster "7.0.0" Cluster [LOADING STALE] [] [] ["nondeterministic_output"]
        cluster::shards, "", "Tells of all nodes and their slots, as maps."),
    spec!("cluster|slots" 2 Cluster "3.0.0" Cluster [LOADING STALE] [] [] ["nondeterministic_output"]
        cluster::slots, "", "Tells of all ranges of slots and their nodes."),
];

#[rustfmt::skip]
pub(super) static COMMAND: [CommandSpec; 7] = [
    spec!("command|count" 2 Server "2.8.13" Start [LOADING STALE] [CONNECTION] [] []
        introspection::count, "", "Counts the commands."),
    spec!("command|docs" -2 Server "7.0.0" Start [LOADING STALE] [CONNECTION] [] ["nondeterministic_output_order"]
        introspection::docs, "[command-name [command-name ...]]", "Describes commands for people."),
    spec!("command|getkeys" -3 Server "2.8.13" Start [LOADING STALE] [CONNECTION] [] []
        introspection::getkeys, "command [arg [arg ...]]", "Gives the keys among a command's arguments."),
    spec!("command|getkeysandflags" -3 Server "7.0.0" Start [LOADING STALE] [CONNECTION] [] []
        introspection::getkeysandflags, "command [arg [arg ...]]",
        "Gives the keys among a command's arguments, and what is done to them."),
    spec!("command|help" 2 Server "5.0.0" Start [LOADING STALE] [CONNECTION] [] []
        server::help, "", "Gives this text."),
    spec!("command|info" -2 Server "2.8.13" Start [LOADING STALE] [CONNECTION] [] ["nondeterministic_output_order"]
        introspection::info, "[command-name [command-name ...]]", "Describes commands for programs."),
    spec!("command|list" -2 Server "7.0.0" Start [LOADING STALE] [CONNECTION] [] ["nondeterministic_output_order"]
        introspection::list, "[FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]",
        "Gives the names of commands."),
];

#[rustfmt::skip]
pub(super) static CONFIG: [CommandSpec; 5] = [
    spec!("config|get" -3 Server "2.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [] [] []
        server::config_get, "parameter [parameter ...]", "Gives the settings that match patterns."),
    spec!("config|help" 2 Server "5.0.0" Start [LOADING STALE] [] [] []
        server::help, "", "Gives this text."),
    spec!("config|resetstat" 2 Server "2.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [] []
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        server::config_resetstat, "", "Sets the counters of INFO to 0."),
    spec!("config|rewrite" 2 Server "2.8.0" Start [ADMIN NOSCRIPT LOADING STALE] [] []
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        server::config_rewrite, "", "Is an error: settings that are set here are in no file."),
    spec!("config|set" -4 Server "2.0.0" Start [ADMIN NOSCRIPT LOADING STALE] [] []
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        server::config_set, "parameter value [parameter value ...]", "Changes settings."),
];

#[rustfmt::skip]
pub(super) static FUNCTION: [CommandSpec; 2] = [
    spec!("function|flush" -2 Scripting "7.0.0" Start [WRITE NOSCRIPT] [SCRIPTING] []
        ["request_policy:all_shards" "response_policy:all_succeeded"]
        server::function_flush, "[ASYNC | SYNC]", "Removes all functions."),
    spec!("function|help" 2 Scripting "7.0.0" Start [LOADING STALE] [SCRIPTING] [] []
        server::help, "", "Gives this text."),
];

#[rustfmt::skip]
pub(super) static LATENCY: [CommandSpec; 7] = [
    spec!("latency|doctor" 2 Server "2.8.13" Strings [ADMIN NOSCRIPT LOADING STALE] [] []
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        server::latency_doctor, "", "Gives a report for people."),
    spec!("latency|graph" 3 Server "2.8.13" Strings [ADMIN NOSCRIPT LOADING STALE] [] []
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        server::latency_graph, "event", "Draws how long an event took."),
    spec!("latency|help" 2 Server "2.8.13" Strings [LOADING STALE] [] [] []
        server::help, "", "Gives this text."),
    spec!("latency|histogram" -2 Server "7.0.0" Strings [ADMIN NOSCRIPT LOADING STALE] [] []
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        server::latency_histogram, "[command [command ...]]", "Tells how long commands took."),
    spec!("latency|history" 3 Server "2.8.13" Strings [ADMIN NOSCRIPT LOADING STALE] [] []
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        server::latency_history, "event", "Tells when an event took long."),
    spec!("latency|latest" 2 Server "2.8.13" Strings [ADMIN NOSCRIPT LOADING STALE] [] []
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        server::latency_latest, "", "Tells when each event took long last."),
    spec!("latency|reset" -2 Server "2.8.13" Strings [ADMIN NOSCRIPT LOADING STALE] [] []
        ["request_policy:all_nodes" "response_policy:agg_sum"]
        server::latency_reset, "[event [event ...]]", "Forgets what took long."),
];

#[rustfmt::skip]
pub(super) static MEMORY: [CommandSpec; 2] = [
    spec!("memory|help" 2 Server "4.0.0" Strings [LOADING STALE] [] [] []
        server::help, "", "Gives this text."),
    spec!("memory|usage" -3 Server "4.0.0" Strings [READONLY] [] [2..0/1 READ] []
        server::memory_usage, "key [SAMPLES count]", "Estimates the bytes that a key and its value take."),
];

#[rustfmt::skip]
pub(super) static MODULE: [CommandSpec; 2] = [
    spec!("module|help" 2 Server "5.0.0" Start [LOADING STALE] [] [] []
        server::help, "", "Gives this text."),
    spec!("module|list" 2 Server "4.0.0" Start [ADMIN NOSCRIPT] [] [] ["nondeterministic_output_order"]
        server::module_list, "", "Gives an empty list: there are no modules."),
];

#[rustfmt::skip]
pub(super) static OBJECT: [CommandSpec; 5] = [
    spec!("object|encoding" 3 Generic "2.2.3" Strings [READONLY] [KEYSPACE] [2..0/1 READ] ["nondeterministic_output"]
        server::object_encoding, "key", "Tells how a value would be kept by Redis."),
    spec!("object|freq" 3 Generic "4.0.0" Strings [READONLY] [KEYSPACE] [2..0/1 READ] ["nondeterministic_output"]
        server::object_freq, "key", "Tells how often a key is used."),
    spec!("object|help" 2 Generic "6.2.0" Strings [LOADING STALE] [KEYSPACE] [] []
        server::help, "", "Gives this text."),
    spec!("object|idletime" 3 Generic "2.2.3" Strings [READONLY] [KEYSPACE] [2..0/1 READ] ["nondeterministic_output"]
        server::object_idletime, "key", "Tells how long a key was not used, in seconds."),
    spec!("object|refcount" 3 Generic "2.2.3" Strings [READONLY] [KEYSPACE] [2..0/1 READ] ["nondeterministic_output"]
        server::object_refcount, "key", "Tells how often a value is referred to."),
];

#[rustfmt::skip]
pub(super) static SLOWLOG: [CommandSpec; 4] = [
    spec!("slowlog|get" -2 Server "2.2.12" Strings [ADMIN LOADING STALE] [] []
        ["request_policy:all_nodes" "nondeterministic_output"]
        server::slowlog_get, "[count]", "Gives the newest commands that took long."),
    spec!("slowlog|help" 2 Server "6.2.0" Strings [LOADING STALE] [] [] []
        server::help, "", "Gives this text."),
    spec!("slowlog|len" 2 Server "2.2.12" Strings [ADMIN LOADING STALE] [] []
        ["request_policy:all_nodes" "response_policy:agg_sum" "nondeterministic_output"]
        server::slowlog_len, "", "Counts the commands that took long."),
    spec!("slowlog|reset" 2 Server "2.2.12" Strings [ADMIN LOADING STALE] [] []
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        server::slowlog_reset, "", "Forgets the commands that took long."),
];
