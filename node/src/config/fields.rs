//! The table of settings. Flags, environment variables, validation messages and the table in `docs/OPERATIONS.md` all
//! come from here, so that they can't differ.

/// One setting that has a single value.
#[derive(Debug)]
pub struct Field {
    /// Where it stands in the file: `name`, or `table.name`.
    pub path: &'static str,
    /// What is allowed, as the end of "expected …".
    pub allowed: &'static str,
    /// What it is when nobody sets it, written as in the file; `None` if it must be set or follows from others.
    pub default: Option<&'static str>,
    /// What it is for.
    pub help: &'static str,
}

impl Field {
    /// The environment variable that sets it: `tls.ca` is `KVORUM_TLS_CA`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.replace('.', "_").to_uppercase())
    }

    /// The flag that sets it, without its dashes: `tls.ca` is `tls-ca`.
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }
}

/// What the environment variables of all settings begin with.
pub const PREFIX: &str = "KVORUM_";

macro_rules! fields {
    ($($name:ident: $path:literal, $allowed:expr, $default:expr, $help:literal;)*) => {
        $(pub(super) const $name: Field =
            Field { path: $path, allowed: $allowed, default: $default, help: $help };)*
        /// Every setting that has a single value, in the order in which the documentation shows them.
        pub const FIELDS: &[Field] = &[$($name),*];
    };
}

const UUID: &str = "a UUID such as 0191d1c6-7f3e-7c5a-9b2e-3a4f5b6c7d8e";
const PEM: &str = "the path of a PEM file";
const KEK: &str = "file:PATH, env:NAME or exec:/PROGRAM";
const NAME: &str = "1 to 255 bytes of text";
const ADDRESS: &str = "host:port with a host that others can reach (not 0.0.0.0 or [::]) and a port from 1 to 65535, \
                       such as node-1.example:7400";

fields! {
    CLUSTER_ID: "cluster_id", UUID, None,
        "The cluster; the same on all its nodes";
    NODE_ID: "node_id", UUID, None,
        "This node; one of the members";
    DATA_DIR: "data_dir", "the path of a folder", None,
        "Where this node keeps everything; created if it is not there";
    SHARDS: "shards", "a power of two from 1 to 4096", Some("16"),
        "Slices of the hash ring; fixed when the cluster is created";
    REPLICATION_FACTOR: "replication_factor", "an odd number from 1 to 15, at most the number of members", Some("3"),
        "Replicas of each shard; fixed when the cluster is created";
    DURABILITY: "durability", "fsync or memory", Some("\"fsync\""),
        "What a committed write survives; fixed when the cluster is created";
    CLIENT_LISTEN: "client_listen", "ip:port, such as 0.0.0.0:7400 or [::]:7400", Some("\"0.0.0.0:7400\""),
        "Where the binary door listens (TCP)";
    CLIENT_ADVERTISE: "client_advertise", ADDRESS, None,
        "Where clients reach this node; by default the address in members";
    PEER_LISTEN: "peer_listen", "ip:port, such as 0.0.0.0:7410 or [::]:7410", Some("\"0.0.0.0:7410\""),
        "Where this node listens for its peers (UDP)";
    PEER_ADVERTISE: "peer_advertise", ADDRESS, None,
        "Where peers reach this node; by default the address in members";
    HTTP_LISTEN: "http_listen", "ip:port, such as 0.0.0.0:7420 or [::]:7420, or off", Some("\"0.0.0.0:7420\""),
        "Where the HTTP door listens (TCP)";
    RESP_LISTEN: "resp_listen", "ip:port, such as 0.0.0.0:7430 or [::]:7430, or off", Some("\"0.0.0.0:7430\""),
        "Where the RESP door listens (TCP), for clients of Redis that know one server";
    RESP_ANNOUNCE: "resp_announce", ADDRESS, None,
        "Where clients of Redis reach that door; by default the host of client_advertise and the port of resp_listen";
    RESP_CLUSTER_LISTEN: "resp_cluster_listen", "ip:port, such as 0.0.0.0:7440 or [::]:7440, or off", Some("\"0.0.0.0:7440\""),
        "Where the RESP door for clients of Redis Cluster listens (TCP)";
    RESP_CLUSTER_ANNOUNCE: "resp_cluster_announce", ADDRESS, None,
        "Where clients of Redis Cluster reach that door; by default the host at which they reach it, and for those that ask another node the host of client_advertise";
    RESP_EXEC_ACROSS_SHARDS: "resp.exec_across_shards", "refuse or split", Some("\"refuse\""),
        "What EXEC does at the standalone door if its keys are in several shards: refuse, or do its part in each, which is atomic per shard only";
    CONNECTIONS_MAX: "connections_max", "a number from 1 to 65536", Some("1024"),
        "Connections of clients, through all doors; one more is told TooManyConnections";
    WORKERS: "workers", "a number from 1 to 256", None,
        "Threads that answer requests; by default one per processor, divided by the members at this node's host";
    ELECTION_TIMEOUT_MS: "election_timeout_ms", "a multiple of 10 from 100 to 60000", Some("500"),
        "Shortest silence of a leader after which others stand for election, in milliseconds; the same on all nodes";
    JOURNAL_FILE_BYTES: "journal.file_bytes", "a multiple of 4096 from 4194304 to 1073741824", Some("67108864"),
        "Size of one journal file, in bytes";
    JOURNAL_FILES: "journal.files", "a number from 2 to 64", Some("4"),
        "How many journal files are kept allocated";
    DISK_HEADROOM_MB: "disk.headroom_mb", "a number from 0 to 1048576", Some("1024"),
        "Free space in MiB below which writes that take room are refused; at most 5 % of the file system count";
    COMPACTION_RATE_MB: "compaction.rate_mb", "a number from 0 to 1048576", Some("64"),
        "MiB that compaction reads and writes per second, all shards together; 0 turns it off, and the disk fills up";
    MEMORY_INDEX_MAX_MB: "memory.index_max_mb", "a number from 0 to 1048576", None,
        "Memory in MiB that the indexes, with the times at which keys expire, may take before new keys are refused, 0 for no limit; by default a quarter of the machine's";
    MEMORY_HUGE_PAGES: "memory.huge_pages", "true or false", Some("false"),
        "Let memory be given out in pages of 2 MiB: about 5 % less processor time, and half as much memory again per key";
    SCRUB_RATE_MB: "scrub.rate_mb", "a number from 0 to 1048576", Some("8"),
        "How many MiB per second of data that does not change any more are read again and verified, 0 for none";
    TLS_CA: "tls.ca", PEM, None,
        "The cluster's certificate authority; several while one takes the place of another";
    TLS_CERTIFICATE: "tls.certificate", PEM, None,
        "This node's certificate";
    TLS_KEY: "tls.key", PEM, None,
        "The private key of this node's certificate";
    TLS_DOORS: "tls.doors", "off, all, or a list of client, http, resp and resp_cluster with commas between them", Some("\"off\""),
        "Which doors of clients speak TLS, and nothing else; peers always do";
    AUTH_MODE: "auth.mode", "open or required", Some("\"open\""),
        "Whether clients must say who they are; open lets everybody do everything";
    AUTH_INSECURE_OPEN: "auth.insecure_open", "true or false", Some("false"),
        "Let everybody do everything at addresses that other machines can reach, too";
    AUTH_BOOTSTRAP_PASSWORD_FILE: "auth.bootstrap_password_file", "the path of a file", None,
        "Holds the first password of the user admin; it counts only while the cluster has no table of users. A node that has seen one starts without the file";
    AUTH_BOOTSTRAP_VERIFIER: "auth.bootstrap_verifier", "a verifier of a password, such as SCRAM-SHA-256$100000:<salt>$<stored key>:<server key>", None,
        "The same, of which only the verifier is known here: kvorum init writes it";
    LIMITS_ADDRESS_REQUESTS: "limits.address_requests_per_s", "a number from 0 to 4294967295", Some("0"),
        "Requests per second that clients at one address may send to this node, 0 for no limit; of IPv6 a /64 is one address";
    LIMITS_ADDRESS_MB: "limits.address_mb_per_s", "a number from 0 to 1048576", Some("0"),
        "MiB of requests and answers per second of one address, 0 for no limit";
    LIMITS_ADDRESS_CONNECTIONS: "limits.address_connections", "a number from 0 to 65536", Some("0"),
        "Connections of one address, through all doors, 0 for no limit; one more is told TooManyConnections";
    AUDIT_FILE: "audit.file", "the path of a file, stderr or off", Some("\"off\""),
        "Where logins, refusals and changes by operators are written down, as JSON lines that hold on to each other";
    AUDIT_FILE_MB: "audit.file_mb", "a number from 1 to 1048576", Some("64"),
        "A file of the audit log that is larger, in MiB, gets a number, and a new one begins";
    AUDIT_FILES: "audit.files", "a number from 0 to 1000", Some("8"),
        "How many such files are kept; the oldest one goes";
    SLOW_MS: "slow_ms", "a number from 0 to 600000", Some("100"),
        "Operations that take so many milliseconds or longer are kept, with where their time went; 0 keeps none";
    TRACES_OTLP: "traces.otlp", "off, env, http://host:port or https://host:port", Some("\"off\""),
        "Where traces go, by OTLP over gRPC; env: where OpenTelemetry's variables say, such as OTEL_EXPORTER_OTLP_ENDPOINT";
    TRACES_ONE_OF: "traces.one_of", "a number from 0 to 4294967295", Some("10000"),
        "One of so many requests is traced, 0 for none; others are if their clients ask for it or they are slow, 100 per second at most";
    ENCRYPTION_KEY: "encryption.key", KEK, None,
        "The key-encryption key, the same on all nodes: 32 bytes in a file, as such or as 64 hexadecimal digits; those digits in a variable; or a program that wraps and unwraps";
    ENCRYPTION_OLD_KEY: "encryption.old_key", KEK, None,
        "The key-encryption key before it, until all data keys are wrapped anew";
    REPAIR_HOLD_S: "repair_hold_s", "a number from 0 to 86400", Some("50"),
        "Seconds after which a node that is down is given up, and what it holds is made anew on others; fixed when the cluster is created";
    JOINS: "joins", "true or false", Some("false"),
        "Join a cluster that is there: found nothing, and ask the other members to let this node in";
    FAULT_HOOKS: "fault_hooks", "true or false", Some("false"),
        "Let admin commands inject faults; for tests only";
}

/// The fields of one entry of `members`.
pub(super) mod member {
    use super::{ADDRESS, Field, NAME, UUID};

    pub(in crate::config) const ID: Field =
        Field { path: "id", allowed: UUID, default: None, help: "The member's node_id" };
    pub(in crate::config) const NAME_OF: Field =
        Field { path: "name", allowed: NAME, default: None, help: "Its name, for people" };
    pub(in crate::config) const ZONE: Field = Field {
        path: "zone",
        allowed: "at most 255 bytes of text",
        default: Some("\"\""),
        help: "Its failure zone; replicas of a shard are spread over zones",
    };
    pub(in crate::config) const CLIENT: Field =
        Field { path: "client", allowed: ADDRESS, default: None, help: "Where clients reach it" };
    pub(in crate::config) const PEER: Field =
        Field { path: "peer", allowed: ADDRESS, default: None, help: "Where peers reach it" };
    pub(in crate::config) const FIELDS: &[Field] = &[ID, NAME_OF, ZONE, CLIENT, PEER];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_and_flags() {
        assert_eq!(JOURNAL_FILE_BYTES.variable(), "KVORUM_JOURNAL_FILE_BYTES");
        assert_eq!(JOURNAL_FILE_BYTES.flag(), "journal-file-bytes");
    }

    #[test]
    fn every_field_is_documented_as_it_is() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
        let document = std::fs::read_to_string(document).unwrap();
        let row = |field: &Field, path: String| {
            let default = field.default.map_or("—".to_owned(), |default| format!("`{default}`"));
            format!("| `{path}` | {default} | {} | {} |", field.allowed, field.help)
        };
        let top = FIELDS.iter().map(|field| row(field, field.path.to_owned()));
        let members = member::FIELDS.iter().map(|field| row(field, format!("members.{}", field.path)));
        let missing: Vec<String> = top.chain(members).filter(|row| !document.contains(row.as_str())).collect();
        assert!(missing.is_empty(), "docs/OPERATIONS.md lacks these rows:\n{}", missing.join("\n"));
    }
}
