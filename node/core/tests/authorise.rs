//! Every request of the protocol's own list of samples × five principals, as golden text: a new request fails this until somebody has
//! decided who may ask it.

#[allow(dead_code, reason = "the protocol's own tests use all of it")]
#[path = "../../../protocol/tests/samples/mod.rs"]
mod samples;

use kvorum_core::auth::table::{AuthTable, User, UserRole};
use kvorum_core::auth::{Access, authorise};
use kvorum_protocol::{ClusterClasses, Grant, KeyClasses};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Keys of the samples begin so.
const PREFIX: &str = "user:";

fn table() -> AuthTable {
    let mut table = AuthTable::initial(None);
    let role = |classes| UserRole::of(&[Grant { prefix: PREFIX.into(), classes }], ClusterClasses::NONE);
    table.roles.insert("reader".to_owned(), role(KeyClasses::READ.with(KeyClasses::SCAN)));
    table.roles.insert("writer".to_owned(), role(KeyClasses::WRITE.with(KeyClasses::DELETE)));
    for (name, roles) in [("wrong", vec![]), ("reader", vec!["reader"]), ("writer", vec!["writer"])] {
        let roles: BTreeSet<String> = roles.into_iter().map(str::to_owned).collect();
        table.users.insert(name.to_owned(), User { roles, ..User::default() });
    }
    table
}

#[test]
fn every_request_is_decided_for_everybody() {
    let table = table();
    let mut principals = vec![("nobody", Access::nobody(1))];
    for name in ["wrong", "reader", "writer", "admin"] {
        principals.push((name, Access::of_user(&table, name, None, 1).expect("it is there")));
    }
    let mut text = String::from(
        "# Whether nobody, a user without roles, a reader and a writer of user:…, and the administrator may ask this\n",
    );
    for (name, request) in samples::requests() {
        let verdicts: Vec<&str> = principals
            .iter()
            .map(|(_, access)| if authorise(access, &request.body).is_ok() { "yes" } else { "no" })
            .collect();
        let [nobody, wrong, reader, writer, admin] = verdicts[..] else { unreachable!("there are five") };
        writeln!(text, "{name:<42} {nobody:<4}{wrong:<4}{reader:<4}{writer:<4}{admin}").expect("a text takes it");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/authorise.txt");
    if std::env::var_os("KVORUM_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "decide who may ask it, look at the table, and bless it with KVORUM_BLESS=1");
}
