//! Leaves out of the console's files what only their readers need: comments, indentation, spaces beside signs. Names stay.
//!
//! The scripts are this project's own, so two rules of thumb suffice that no foreign script could rely on: a slash after
//! a value divides, and statements end with a semicolon or a closing brace.

use std::collections::BTreeSet;
use std::io;

/// All modules as one: each after those that it imports, without what it imports and exports. So their top-level names must be
/// unique, and imports rename nothing; `node/console-tests/pure.test.mjs` holds them to it. `read` gives a module's text.
///
/// # Errors
/// Those of `read`, and `InvalidData` for an import of another form.
pub(crate) fn bundle(entry: &str, read: &mut dyn FnMut(&str) -> io::Result<String>) -> io::Result<String> {
    let (mut out, mut done) = (String::new(), BTreeSet::new());
    append(entry, read, &mut done, &mut out)?;
    Ok(out)
}

fn append(
    path: &str,
    read: &mut dyn FnMut(&str) -> io::Result<String>,
    done: &mut BTreeSet<String>,
    out: &mut String,
) -> io::Result<()> {
    if !done.insert(path.to_owned()) {
        return Ok(());
    }
    let mut own = String::new();
    for line in read(path)?.lines() {
        if line.starts_with("import ") {
            let imported = line.strip_suffix("\";").and_then(|line| line.rsplit_once('"'));
            let target = imported.filter(|(head, _)| !head.contains(" as ")).map(|(_, target)| beside(path, target));
            let target = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {line}")))?;
            append(&target, read, done, out)?;
        } else {
            own.push_str(line.strip_prefix("export ").unwrap_or(line));
            own.push('\n');
        }
    }
    out.push_str(&own);
    Ok(())
}

/// The path that a module names by `./…` or `../…`.
fn beside(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// A script without comments and without spaces that separate nothing. Strings, templates and patterns stay as they are.
pub(crate) fn script(text: &str) -> String {
    let mut squeezed = Squeezed { out: String::with_capacity(text.len()), gap: Gap::None };
    let mut rest = text;
    // For each template that is open: how many braces of the expression inside it are open.
    let mut templates: Vec<usize> = Vec::new();
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            _ if letter.is_whitespace() => {
                squeezed.space(letter == '\n');
                letter.len_utf8()
            }
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                squeezed.space(false);
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            }
            '"' | '\'' => squeezed.copy(rest, quoted(rest, letter)),
            '/' if squeezed.expects_value() => squeezed.copy(rest, pattern(rest)),
            '`' => {
                let (length, is_open) = template(&rest[1..]);
                templates.extend(is_open.then_some(0));
                squeezed.copy(rest, 1 + length)
            }
            '}' if templates.last() == Some(&0) => {
                let (length, is_open) = template(&rest[1..]);
                if !is_open {
                    templates.pop();
                }
                squeezed.copy(rest, 1 + length)
            }
            _ => {
                if let Some(open) = templates.last_mut() {
                    *open = match letter {
                        '{' => *open + 1,
                        '}' => *open - 1,
                        _ => *open,
                    };
                }
                squeezed.copy(rest, letter.len_utf8())
            }
        };
        rest = &rest[length..];
    }
    squeezed.out.push('\n');
    squeezed.out
}

/// What stands between two pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    None,
    Space,
    Line,
}

struct Squeezed {
    out: String,
    gap: Gap,
}

impl Squeezed {
    fn space(&mut self, is_line: bool) {
        if is_line {
            self.gap = Gap::Line;
        } else if self.gap == Gap::None {
            self.gap = Gap::Space;
        }
    }

    /// Takes over so many bytes, after the gap before them if that separates something.
    fn copy(&mut self, rest: &str, length: usize) -> usize {
        let before = self.out.chars().next_back();
        if let (Some(before), Some(after)) = (before, rest.chars().next()) {
            let both = is_name(before) && is_name(after);
            let joins = (before == after && "+-/".contains(before)) || (before.is_ascii_digit() && after == '.');
            match self.gap {
                Gap::Line if !"{;,([:".contains(before) && !"})]".contains(after) => self.out.push('\n'),
                Gap::Line | Gap::Space if both || joins => self.out.push(' '),
                _ => {}
            }
        }
        self.gap = Gap::None;
        self.out.push_str(&rest[..length]);
        length
    }

    /// A value comes next, so a slash begins a pattern.
    fn expects_value(&self) -> bool {
        let Some(last) = self.out.chars().next_back() else { return true };
        let word = self.out.rsplit(|letter| !is_name(letter)).next().unwrap_or_default();
        "(,=:[!&|?{};+-*%<>~^".contains(last) || ["return", "typeof", "case", "in", "of"].contains(&word)
    }
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$' || letter == '#'
}

/// The length of what begins with a quotation mark.
fn quoted(rest: &str, mark: char) -> usize {
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == mark {
            return at + 1;
        }
    }
    rest.len()
}

/// The length of a pattern; its flags are names that follow.
fn pattern(rest: &str) -> usize {
    let (mut letters, mut is_class) = (rest.char_indices().skip(1), false);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
            }
            '[' => is_class = true,
            ']' => is_class = false,
            '/' if !is_class => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a template's text, and whether an expression follows.
fn template(rest: &str) -> (usize, bool) {
    let mut letters = rest.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
            }
            '`' => return (at + 1, false),
            '$' if rest[at..].starts_with("${") => return (at + 2, true),
            _ => {}
        }
    }
    (rest.len(), false)
}

/// A style sheet without comments, and without spaces that separate nothing.
pub(crate) fn style(text: &str) -> String {
    let (mut out, mut rest, mut is_gap) = (String::with_capacity(text.len()), text, false);
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            _ if letter.is_whitespace() => {
                is_gap = true;
                letter.len_utf8()
            }
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ => {
                let length = if letter == '"' { quoted(rest, letter) } else { letter.len_utf8() };
                let separates = !out.ends_with(['{', '}', ';', ',', ':', '>', '(']) && !"{};,>)".contains(letter);
                if is_gap && separates && !out.is_empty() {
                    out.push(' ');
                }
                if letter == '}' && out.ends_with(';') {
                    out.pop();
                }
                is_gap = false;
                out.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    out.push('\n');
    out
}
