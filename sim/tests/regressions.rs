//! Plans that failed once, before something was fixed. Each file's name says what it found.

use kvorum_sim::plan::Plan;
use kvorum_sim::run::RunSettings;
use kvorum_sim::simulate_caught;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn plans_that_failed_once_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut failures = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("readable");
        let plan: Plan = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Some(violation) = simulate_caught(&plan, &RunSettings::default()).violation {
            failures.push(format!("{}: {violation}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
