//! Style that a machine can check. Each rule says why it is there; an exception is a line in this file, not a comment that
//! switches the rule off where it hurts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file without its unit tests, in lines. Longer ones argue why at their top, after [`LONG_MARK`].
const FILE_LINES_MAX: usize = 800;
const LONG_MARK: &str = "//! Long because";
/// Crates of the workspace.
const CRATES: [&str; 6] = ["protocol", "node", "client", "sim", "benches", "docker"];

/// Crates that lie in the folder of another one.
const NESTED: [&str; 6] =
    ["client/cli", "client/core", "docker/monitoring", "node/core", "protocol/resp", "protocol/scram"];

/// Code that is given the time and draws its randomness from a seed, so that the simulator can repeat it. A path names a
/// file or a folder.
const PURE: [&str; 6] =
    ["protocol/src", "protocol/resp/src", "protocol/scram/src", "sim/src", "node/core/src", "client/core/src"];
/// Parts of pure folders that meet the world, by design: the real file system, the mappings, the simulator's command line; and
/// the tables that threads share, in which nothing's order counts.
const IMPURE: [&str; 8] = [
    "node/core/src/disk/real.rs",
    "node/core/src/disk/map.rs",
    "node/core/src/routing/router.rs",
    "node/core/src/routing/forwards.rs",
    "node/core/src/routing/peer_desk.rs",
    "node/core/src/walk",
    "sim/src/main.rs",
    "sim/src/cli",
];
/// What pure code must not name.
const WORLDLY: [&str; 14] = [
    "tokio",
    "quinn",
    "ractor",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "Instant::now",
    "SystemTime",
    "thread_rng",
    "rand::rng(",
    "rand::random",
    // Its iteration order differs from run to run.
    "dashmap",
    "println!",
];

/// The only place that names the consensus library: another one could take its place. No other file needs an exception.
const CONSENSUS: &str = "node/core/src/consensus";
/// How the library is named.
const LIBRARY: [&str; 3] = ["raft::", "use raft", "eraftpb"];

/// The only files that may hold `unsafe`: the mappings, and one instruction.
const UNSAFE: [&str; 2] = ["node/core/src/disk/map.rs", "node/core/src/store/prefetch.rs"];
/// The only place of the tests that may sleep: it polls, and runs load for a while.
const SLEEPS: &str = "node/tests/common/wait.rs";

/// A source file of the workspace.
struct Source {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
    /// Lines of code with their numbers: without comments, text in quotes, and the unit tests at the file's end.
    code: Vec<(usize, String)>,
    /// As `code`, the unit tests only.
    tests: Vec<(usize, String)>,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let path = path.strip_prefix(root).expect("found below the root").to_string_lossy().replace('\\', "/");
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/");
        let lines: Vec<(usize, String)> = (1..).zip(text.lines().map(bare)).collect();
        let unit_tests =
            lines.windows(2).position(|pair| pair[0].1.trim() == "#[cfg(test)]" && opens_module(&pair[1].1));
        let mut code = lines;
        let tests = if is_test { std::mem::take(&mut code) } else { code.split_off(unit_tests.unwrap_or(code.len())) };
        Self { path, text, code, tests }
    }

    fn is_in(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| self.path == *path || self.path.starts_with(&format!("{path}/")))
    }

    fn all(&self) -> impl Iterator<Item = &(usize, String)> {
        self.code.iter().chain(&self.tests)
    }
}

/// A line without its comment and without what stands between quotes.
fn bare(line: &str) -> String {
    let mut bare = String::with_capacity(line.len());
    let mut in_text = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_text => {
                characters.next();
            }
            // A quotation mark as a character.
            '\'' if !in_text && characters.peek() == Some(&'"') => {
                characters.next();
            }
            '"' => in_text = !in_text,
            '/' if !in_text && characters.peek() == Some(&'/') => break,
            _ if in_text => {}
            other => bare.push(other),
        }
    }
    bare
}

/// The files that another one declares as `#[cfg(test)] mod name;`: test code, whatever their name.
fn declared_for_tests(root: &Path, paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in paths {
        let source = Source::read(root, path);
        for pair in source.text.lines().collect::<Vec<_>>().windows(2) {
            let declaration = pair[1].trim().strip_suffix(';').and_then(|line| line.split("mod ").nth(1));
            if let (true, Some(name)) = (pair[0].trim() == "#[cfg(test)]", declaration) {
                found.extend(files_of_module(&source.path, path, name));
            }
        }
    }
    found
}

/// Where the module `name`, declared in the file at `path`, may lie.
fn files_of_module(relative: &str, path: &Path, name: &str) -> [PathBuf; 2] {
    let folder = path.parent().expect("a file lies in a folder");
    let stem = path.file_stem().expect("a file has a name");
    let children = if stem == "mod" || is_crate_root(relative) { folder.to_owned() } else { folder.join(stem) };
    [children.join(format!("{name}.rs")), children.join(name).join("mod.rs")]
}

/// Whether a module begins here, and not only its name: a file of tests that is declared among others ends nothing.
fn opens_module(line: &str) -> bool {
    line.trim_start().starts_with("mod ") && line.trim_end().ends_with('{')
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "corpus") {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut paths = Vec::new();
    CRATES.iter().for_each(|name| rust_files(&root.join(name), &mut paths));
    assert!(paths.len() > CRATES.len(), "the workspace's sources were not found");
    // This file names what it looks for.
    paths.retain(|path| !path.ends_with("sim/tests/tidy.rs"));
    let for_tests = declared_for_tests(&root, &paths);
    let read = |path: &PathBuf| {
        let mut source = Source::read(&root, path);
        if for_tests.contains(path) {
            source.tests.splice(0..0, source.code.drain(..));
        }
        source
    };
    paths.iter().map(read).collect()
}

/// Fails with every finding, one per line, as `path:line: what`.
fn assert_none(rule: &str, findings: impl IntoIterator<Item = (String, usize, String)>) {
    let mut report = String::new();
    for (path, line, what) in findings {
        writeln!(report, "{path}:{line}: {}", what.trim()).expect("writing to memory works");
    }
    assert!(report.is_empty(), "{rule}\n{report}");
}

fn find<'a>(
    lines: impl IntoIterator<Item = &'a (usize, String)>,
    path: &str,
    banned: impl Fn(&str) -> bool,
) -> Vec<(String, usize, String)> {
    let found = lines.into_iter().filter(|(_, line)| banned(line));
    found.map(|(number, line)| (path.to_owned(), *number, line.clone())).collect()
}

/// Whether `line` holds `word`, not as a part of a longer name.
fn names(line: &str, word: &str) -> bool {
    let part_of_name = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part_of_name);
        let after = line[at + word.len()..].chars().next().is_some_and(part_of_name);
        let ends_in_name = word.ends_with(part_of_name);
        !(before || ends_in_name && after)
    })
}

#[test]
fn pure_code_does_not_touch_the_world() {
    let sources = sources();
    let pure = sources.iter().filter(|source| source.is_in(&PURE) && !source.is_in(&IMPURE));
    let findings = pure
        .flat_map(|source| find(&source.code, &source.path, |line| WORLDLY.iter().any(|banned| names(line, banned))));
    assert_none("pure code takes the time and a seeded RNG as arguments, and returns effects", findings);
}

#[test]
fn unsafe_code_lives_in_two_files() {
    let sources = sources();
    let others = sources.iter().filter(|source| !UNSAFE.contains(&&*source.path));
    let findings = others.flat_map(|source| find(source.all(), &source.path, |line| names(line, "unsafe")));
    assert_none(&format!("`unsafe` belongs in {}, where each block has its argument", UNSAFE.join(" and ")), findings);
}

#[test]
fn the_consensus_library_stays_in_its_room() {
    let sources = sources();
    let others = sources.iter().filter(|source| !source.is_in(&[CONSENSUS]));
    let findings = others
        .flat_map(|source| find(source.all(), &source.path, |line| LIBRARY.iter().any(|banned| names(line, banned))));
    assert_none(&format!("types of the consensus library are converted to ours in {CONSENSUS}"), findings);
}

/// The crate whose source file this is.
fn crate_of(path: &str) -> &str {
    path.split_once("/src/").map_or(path, |(of, _)| of)
}

/// The type that a line declares for more than its own file.
fn declared_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = rest.strip_prefix('(').map_or(Some(rest), |rest| rest.split_once(')').map(|(_, rest)| rest))?;
    let (kind, rest) = rest.trim_start().split_once(' ')?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    // A macro's has none.
    (["struct", "enum", "trait", "type"].contains(&kind) && !name.is_empty()).then_some(name)
}

#[test]
fn a_types_name_means_one_thing_in_its_crate() {
    let sources = sources();
    let mut seen = BTreeSet::new();
    let declared = sources.iter().flat_map(|source| {
        source.code.iter().filter_map(move |(number, line)| Some((source, *number, declared_type(line)?)))
    });
    let again = declared.filter(|(source, _, name)| !seen.insert((crate_of(&source.path), *name)));
    let findings = again.map(|(source, number, name)| (source.path.clone(), number, name.to_owned()));
    assert_none("a visible type of this name is declared elsewhere in the crate", findings);
}

#[test]
fn nothing_is_left_to_do() {
    const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME"];
    let sources = sources();
    let findings = sources.iter().flat_map(|source| {
        let lines: Vec<(usize, String)> = (1..).zip(source.text.lines().map(str::to_owned)).collect();
        find(&lines, &source.path, |line| UNFINISHED.iter().any(|mark| names(line, mark)))
    });
    assert_none("what is left to do is an issue, not a mark in the code", findings);
}

#[test]
fn no_test_is_ignored() {
    let sources = sources();
    let findings = sources.iter().flat_map(|source| find(source.all(), &source.path, |line| line.contains("#[ignore")));
    assert_none("a test runs, or it is removed", findings);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let sources = sources();
    let findings =
        sources.iter().flat_map(|source| find(&source.code, &source.path, |line| line.contains(".unwrap()")));
    assert_none("`expect` says why it can't fail; what can fail is an error", findings);
}

#[test]
fn tests_do_not_sleep() {
    let sources = sources();
    let tests = sources.iter().filter(|source| source.path != SLEEPS);
    let findings = tests
        .flat_map(|source| find(&source.tests, &source.path, |line| line.contains("sleep(") && !line.contains("fn ")));
    assert_none("a test waits for what it needs, with a deadline", findings);
}

#[test]
fn files_are_small() {
    let sources = sources();
    let long = sources.iter().filter(|source| {
        let lines = if source.code.is_empty() { source.tests.len() } else { source.code.len() };
        lines > FILE_LINES_MAX && !source.text.lines().take(20).any(|line| line.starts_with(LONG_MARK))
    });
    let findings = long.map(|source| (source.path.clone(), FILE_LINES_MAX, "goes on past this line".to_owned()));
    assert_none(&format!("a long file is several files, or says `{LONG_MARK} …` at its top"), findings);
}

#[test]
fn lines_end_where_their_text_does() {
    let sources = sources();
    let findings = sources.iter().flat_map(|source| {
        let lines: Vec<(usize, String)> = (1..).zip(source.text.lines().map(str::to_owned)).collect();
        let mut found = find(&lines, &source.path, |line| line.ends_with([' ', '\t']) || line.contains(['\t', '\r']));
        if !source.text.ends_with('\n') || source.text.ends_with("\n\n") {
            found.push((source.path.clone(), lines.len(), "the file ends with one newline".to_owned()));
        }
        found
    });
    assert_none("no tabs, no spaces at the end of a line", findings);
}

#[test]
fn every_file_is_part_of_a_crate() {
    let root = root();
    let sources = sources();
    let mut reachable: BTreeSet<PathBuf> = BTreeSet::new();
    let mut pending: Vec<PathBuf> =
        sources.iter().filter(|source| is_crate_root(&source.path)).map(|source| root.join(&source.path)).collect();
    while let Some(path) = pending.pop() {
        if !path.is_file() || !reachable.insert(path.clone()) {
            continue;
        }
        let relative = path.strip_prefix(&root).expect("found below the root").to_string_lossy().into_owned();
        let source = Source::read(&root, &path);
        for (_, line) in source.all() {
            let declaration = line.split("mod ").nth(1).filter(|_| line.trim_end().ends_with(';'));
            if let Some(name) = declaration.and_then(|rest| rest.trim().strip_suffix(';')) {
                pending.extend(files_of_module(&relative, &path, name));
            }
        }
    }
    let dead = sources.iter().filter(|source| !reachable.contains(&root.join(&source.path)));
    let findings = dead.map(|source| (source.path.clone(), 1, "no module declares this file".to_owned()));
    assert_none("a file that no crate compiles is dead", findings);
}

/// Whether Cargo compiles the file as a crate of its own.
fn is_crate_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let parts = match parts.as_slice() {
        [_, inner @ ..] if NESTED.iter().any(|name| path.starts_with(&format!("{name}/"))) => inner,
        all => all,
    };
    match parts {
        [_, "src", "lib.rs" | "main.rs"] | [_, "build.rs"] => true,
        [_, "src", "bin", _] | [_, "tests" | "benches" | "examples", _] => true,
        [_, "tests" | "benches", _, "main.rs"] => true,
        // Fuzz targets are a workspace of their own.
        [_, "fuzz", ..] => true,
        _ => false,
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    assert_eq!(declared_type("    pub(super) struct Held<'a> {"), Some("Held"));
    assert_eq!(declared_type("pub type Fit = u8;"), Some("Fit"));
    assert_eq!(declared_type("struct Own;"), None);
    assert_eq!(declared_type("pub fn of() {"), None);
    assert_eq!(bare(r#"let a = "x // y"; // z"#), "let a = ; ");
    assert_eq!(bare(r#"let quote = '"'; b"#), "let quote = '; b");
    assert!(names("use tokio::net;", "tokio") && !names("let tokiox = my_tokio;", "tokio"));
    assert!(names("use raft::Storage;", "use raft") && !names("use raft_like::Storage;", "use raft"));
    assert!(names("-> raft::Error", "raft::") && !names("-> aircraft::Error", "raft::"));
    assert!(names("rand::rng()", "rand::rng(") && names("a(Instant::now())", "Instant::now"));
    assert!(is_crate_root("node/src/main.rs") && !is_crate_root("node/core/src/disk/map.rs"));
}
