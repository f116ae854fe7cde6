use super::*;

const GOOD: &str = r#"
cluster_id = "6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a001"
node_id = "6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a012"
data_dir = "data"
tls = { ca = "ca.pem", certificate = "node.pem", key = "/etc/kvorum/node.key" }
auth = { mode = "required" }

[[members]]
id = "6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a011"
name = "node-1"
zone = "a"
client = "node-1.example:7400"
peer = "node-1.example:7410"

[[members]]
id = "6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a012"
name = "node-2"
zone = "b"
client = "10.0.0.2:7400"
peer = "10.0.0.2:7410"

[[members]]
id = "6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a013"
name = "node-3"
client = "[::1]:7400"
peer = "[::1]:7410"
"#;

fn sources(text: &str) -> Sources {
    Sources { file: Some(("etc/kvorum.toml".to_owned(), text.to_owned())), ..Sources::default() }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn errors(sources: &Sources) -> String {
    Config::parse(sources).unwrap_err().to_string()
}

/// The good file with one line replaced; the line must be there.
fn with(line: &str, replacement: &str) -> Sources {
    assert!(GOOD.contains(line), "{line}");
    sources(&GOOD.replacen(line, replacement, 1))
}

#[test]
fn a_good_file_and_the_defaults() {
    let config = Config::parse(&sources(GOOD)).unwrap();
    assert_eq!(config.name, "node-2");
    assert_eq!(config.zone, "b");
    assert_eq!(config.data_dir, Path::new("etc/data"));
    assert_eq!(config.tls.ca, Path::new("etc/ca.pem"));
    assert_eq!(config.tls.key, Path::new("/etc/kvorum/node.key"));
    assert_eq!(config.shards, 16);
    assert_eq!(config.replication_factor, 3);
    assert_eq!(config.durability, Durability::Fsync);
    assert_eq!(config.client_listen.to_string(), "0.0.0.0:7400");
    assert_eq!(config.client_advertise, "10.0.0.2:7400");
    assert_eq!(config.connections_max, 1024);
    assert_eq!(config.election_timeout, Duration::from_millis(500));
    assert_eq!(config.tick(), Duration::from_millis(50));
    assert_eq!(config.workers, None);
    assert_eq!(config.journal, JournalConfig { file_bytes: 64 * 1024 * 1024, files: 4 });
    assert_eq!(config.compaction_bytes_per_second, 64 << 20);
    assert_eq!((config.disk_headroom_bytes, config.index_limit), (1 << 30, IndexLimit::QuarterOfMemory));
    assert!(!config.huge_pages && !config.fault_hooks);
    assert_eq!(config.members.len(), 3);
    assert_eq!(config.members[2].zone, "");
}

#[test]
fn members_at_one_host_share_its_processors() {
    let config = Config::parse(&sources(GOOD)).unwrap();
    assert_eq!((config.workers_on(8), config.workers_on(1)), (8, 1));
    let members = config.members.iter().map(|member| Member { peer: "10.0.0.2:7411".into(), ..member.clone() });
    let together = Config { members: members.collect(), ..config.clone() };
    assert_eq!((together.workers_on(8), together.workers_on(2)), (2, 1));
    assert_eq!(Config { workers: Some(5), ..together }.workers_on(2), 5);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let mut sources = with("data_dir = \"data\"", "data_dir = \"data\"\nshards = 8\nconnections_max = 10");
    assert_eq!(Config::parse(&sources).unwrap().shards, 8);
    sources.environment = pairs(&[
        ("KVORUM_SHARDS", "32"),
        ("KVORUM_CONNECTIONS_MAX", "20"),
        ("KVORUM_JOURNAL_FILES", "8"),
        ("KVORUM_TLS_CA", "here.pem"),
        ("KVORUM_PORT_7400_TCP", "tcp://10.0.0.1:7400"),
    ]);
    sources.flags = pairs(&[("shards", "64"), ("client_advertise", "node-2.example:7400")]);
    let config = Config::parse(&sources).unwrap();
    assert_eq!((config.shards, config.connections_max, config.journal.files), (64, 20, 8));
    assert_eq!(config.tls.ca, Path::new("here.pem"), "relative to the current folder");
    assert_eq!(config.tls.certificate, Path::new("etc/node.pem"), "the rest of the table stays the file's");
    assert_eq!(config.client_advertise, "node-2.example:7400");
    assert_eq!(config.members[1].client, "node-2.example:7400", "the node's own entry follows");
}

#[test]
fn nothing_at_all_names_what_must_be_set() {
    let uuid = "a UUID such as 0191d1c6-7f3e-7c5a-9b2e-3a4f5b6c7d8e";
    assert_eq!(
        errors(&Sources::default()),
        format!(
            "configuration: 8 things are wrong
  cluster_id: is not set; expected {uuid}
  node_id: is not set; expected {uuid}
  data_dir: is not set; expected the path of a folder
  tls.ca: is not set; expected the path of a PEM file
  tls.certificate: is not set; expected the path of a PEM file
  tls.key: is not set; expected the path of a PEM file
  auth.mode: everybody who reaches 0.0.0.0:7400 may do everything: set auth.mode = \"required\", or auth.insecure_open = true if that is wanted
  members: is not set; expected a list of tables [[members]] with id, name, client and peer"
        )
    );
}

#[test]
fn every_problem_is_reported_with_its_value_and_origin() {
    let mut sources = with("data_dir = \"data\"", "data_dir = \"data\"\nshards = 12\nshard = 3\ndurability = true");
    sources.environment = pairs(&[("KVORUM_CONNECTIONS_MAX", "lots"), ("KVORUM_REPLICATION_FACTOR", "2")]);
    sources.flags = pairs(&[("client_listen", "localhost:7400"), ("journal.file_bytes", "5000")]);
    assert_eq!(
        errors(&sources),
        "configuration: 7 things are wrong
  shards: 12 is not allowed; expected a power of two from 1 to 4096 (file etc/kvorum.toml)
  replication_factor: \"2\" is not allowed; expected an odd number from 1 to 15, at most the number of members \
         (environment variable KVORUM_REPLICATION_FACTOR)
  durability: true is not allowed; expected fsync or memory (file etc/kvorum.toml)
  client_listen: \"localhost:7400\" is not allowed; expected ip:port, such as 0.0.0.0:7400 or [::]:7400 \
         (flag --client-listen)
  connections_max: \"lots\" is not allowed; expected a number from 1 to 65536 \
         (environment variable KVORUM_CONNECTIONS_MAX)
  journal.file_bytes: \"5000\" is not allowed; expected a multiple of 4096 from 4194304 to 1073741824 \
         (flag --journal-file-bytes)
  shard: there is no such field (file etc/kvorum.toml)"
    );
}

#[test]
fn members_are_checked_one_by_one_and_against_the_rest() {
    assert_eq!(
        errors(&with("name = \"node-3\"", "name = \"node-1\"")),
        "configuration: members[2].name: node-1 is another member's too"
    );
    assert_eq!(
        errors(&with("zone = \"b\"\nclient = \"10.0.0.2:7400\"", "rack = 7\nclient = \"10.0.0.2\"")),
        "configuration: 2 things are wrong
  members[1].client: \"10.0.0.2\" is not allowed; expected host:port with a host that others can reach (not \
         0.0.0.0 or [::]) and a port from 1 to 65535, such as node-1.example:7400 (file etc/kvorum.toml)
  members[1].rack: there is no such field (file etc/kvorum.toml)"
    );
    assert_eq!(
        errors(&with(
            "node_id = \"6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a012\"",
            "node_id = \"6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a099\""
        )),
        "configuration: node_id: 6ff5c4a2-1b1f-4c2a-9f43-0a5a54b7a099 is not the id of any of the 3 members"
    );
    assert_eq!(
        errors(&with("data_dir = \"data\"", "data_dir = \"data\"\nreplication_factor = 5")),
        "configuration: replication_factor: 5 replicas of each shard need as many members, there are 3"
    );
}

#[test]
fn what_is_not_toml_or_of_the_wrong_shape_is_said_plainly() {
    assert_eq!(
        errors(&sources("shards = = 3\n")),
        "configuration: etc/kvorum.toml: is not TOML: invalid string; expected `\"`, `'` (line 1, column 10)"
    );
    let text = errors(&with("tls = {", "journal = 5\nother = {"));
    assert!(text.contains("\n  journal: there is no such field (file etc/kvorum.toml)"), "{text}");
    assert!(text.contains("\n  tls.ca: is not set; expected the path of a PEM file"), "{text}");
    assert!(text.contains("\n  other: there is no such field"), "{text}");
    let text = errors(&with("data_dir = \"data\"", "data_dir = [\"data\"]"));
    assert_eq!(
        text,
        "configuration: data_dir: a list is not allowed; expected the path of a folder (file etc/kvorum.toml)"
    );
}

/// The ring map tells them to every client: where a node listens on all interfaces, a client would dial itself.
#[test]
fn an_address_that_leads_nowhere_is_not_advertised() {
    let expected = |field: &str, value: &str, origin: &str| {
        format!(
            "configuration: {field}: {value:?} is not allowed; expected host:port with a host that others can reach \
             (not 0.0.0.0 or [::]) and a port from 1 to 65535, such as node-1.example:7400 ({origin})"
        )
    };
    for bad in ["0.0.0.0:7400", "[::]:7400", "[::ffff:0.0.0.0]:7400", "node-2.example:0", "10.0.0.2:0"] {
        for field in ["client_advertise", "peer_advertise"] {
            let in_file = with("data_dir = \"data\"", &format!("data_dir = \"data\"\n{field} = \"{bad}\""));
            assert_eq!(errors(&in_file), expected(field, bad, "file etc/kvorum.toml"));
            let variable = format!("KVORUM_{}", field.to_uppercase());
            let in_environment = Sources { environment: pairs(&[(&variable, bad)]), ..sources(GOOD) };
            assert_eq!(errors(&in_environment), expected(field, bad, &format!("environment variable {variable}")));
            let on_command_line = Sources { flags: pairs(&[(field, bad)]), ..sources(GOOD) };
            let flag = format!("flag --{}", field.replace('_', "-"));
            assert_eq!(errors(&on_command_line), expected(field, bad, &flag));
        }
        for (field, good) in [("client", "10.0.0.2:7400"), ("peer", "10.0.0.2:7410")] {
            let member = with(&format!("{field} = \"{good}\""), &format!("{field} = \"{bad}\""));
            assert_eq!(errors(&member), expected(&format!("members[1].{field}"), bad, "file etc/kvorum.toml"));
        }
    }
}

#[test]
fn addresses() {
    let good = ["a:1", "node-1.example:65535", "10.0.0.1:7400", "[::1]:7400", "kvorum_1:7400", "4.example:1", "x0:1"];
    for good in good {
        assert_eq!(address(good).as_deref(), Some(good));
    }
    for bad in [
        "",
        "a",
        ":7400",
        "a:0",
        "a:65536",
        "a:b",
        "::1:7400",
        "[x]:1",
        "a b:1",
        "http://a:1",
        "0:1",
        "0.0:1",
        "0x0:1",
        "0.0.0.0.:1",
    ] {
        assert_eq!(address(bad), None, "{bad}");
    }
    assert_eq!(address(&format!("{}:1", "a".repeat(NAME_BYTES_MAX))), None);
}

#[test]
fn a_node_that_is_open_where_others_reach_it_needs_to_be_told_twice() {
    let auth = |text: &str, listen: &str| {
        let mut sources = with("auth = { mode = \"required\" }", &format!("auth = {{ {text} }}"));
        let doors = ["CLIENT_LISTEN", "HTTP_LISTEN", "RESP_LISTEN", "RESP_CLUSTER_LISTEN"];
        sources.environment = doors.iter().map(|door| (format!("KVORUM_{door}"), listen.to_owned())).collect();
        Config::parse(&sources).map(|config| (config.auth.mode, config.auth.insecure_open))
    };
    assert_eq!(auth("", "127.0.0.1:7400"), Ok((AuthMode::Open, false)));
    assert_eq!(auth("mode = \"open\"", "[::1]:7400"), Ok((AuthMode::Open, false)));
    let refused = auth("mode = \"open\"", "10.0.0.2:7400").unwrap_err().to_string();
    assert!(refused.contains("auth.mode: everybody who reaches 10.0.0.2:7400 may do everything"), "{refused}");
    assert_eq!(auth("insecure_open = true", "10.0.0.2:7400"), Ok((AuthMode::Open, true)));
    assert_eq!(auth("mode = \"required\"", "10.0.0.2:7400"), Ok((AuthMode::Required, false)));
    let both = auth("mode = \"required\", insecure_open = true", "10.0.0.2:7400").unwrap_err().to_string();
    assert!(both.contains("leave one of the two out"), "{both}");
}

#[test]
fn the_indexes_limit_is_a_number_none_or_a_quarter_of_the_machine() {
    let limit = |text: &str| {
        let mut sources = with("data_dir = \"data\"", "data_dir = \"data\"");
        sources.environment = pairs(&[("KVORUM_MEMORY_INDEX_MAX_MB", text)]);
        Config::parse(&sources).map(|config| config.index_limit)
    };
    assert_eq!(limit("0"), Ok(IndexLimit::None));
    assert_eq!(limit("512"), Ok(IndexLimit::Bytes(512 << 20)));
    assert!(limit("-1").is_err() && limit("1048577").is_err());
    assert_eq!(IndexLimit::QuarterOfMemory.bytes(Some(8 << 30)), 2 << 30);
    assert_eq!(IndexLimit::QuarterOfMemory.bytes(None), u64::MAX);
    assert_eq!((IndexLimit::None.bytes(Some(1)), IndexLimit::Bytes(7).bytes(Some(1))), (u64::MAX, 7));
}
