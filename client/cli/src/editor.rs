//! What the REPL knows about a line while it is typed: completions, hints and colours, all from the table of commands.

use crate::commands::{self, CLUSTER_VIEWS, COMMANDS, CommandSpec, Verb};
use crate::nodes::HOST_COMMANDS;
use crate::words::{self, Word, WordError};
use reedline::{
    Color, Completer, CompletionResult, Highlighter, Hinter, History, SearchQuery, Span, StyledText, Suggestion,
    ValidationResult, Validator,
};
use std::collections::BTreeSet;

/// Completes commands, options and views.
pub(crate) struct CommandCompleter {
    /// Whether commands that need a host are offered.
    pub(crate) has_host: bool,
}

impl Completer for CommandCompleter {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let suggestion = |(value, description): (String, String), span: Span| Suggestion {
            value,
            description: Some(description),
            span,
            append_whitespace: true,
            ..Suggestion::default()
        };
        let more = if self.has_host { HOST_COMMANDS } else { &[] };
        let (start, candidates) = candidates_with(line.get(..position).unwrap_or(line), more);
        let span = Span::new(start, position);
        let suggestions: Vec<_> = candidates.into_iter().map(|candidate| suggestion(candidate, span)).collect();
        CompletionResult::fresh(suggestions)
    }
}

/// What may stand where the line ends, and where that word begins. Pure.
fn candidates(line: &str) -> (usize, Vec<(String, String)>) {
    candidates_with(line, &[])
}

/// The same, with these commands besides.
fn candidates_with(line: &str, more: &[CommandSpec]) -> (usize, Vec<(String, String)>) {
    let (Ok(words) | Err((words, _))) = words::split(line);
    let is_new_word = line.ends_with(char::is_whitespace) || line.is_empty();
    let (complete, typed, start) = match words.split_last() {
        Some((last, rest)) if !is_new_word => (rest, line.get(last.start..).unwrap_or_default(), last.start),
        _ => (&words[..], "", line.len()),
    };
    let matching =
        |name: &str| name.len() >= typed.len() && name.as_bytes()[..typed.len()].eq_ignore_ascii_case(typed.as_bytes());
    let cased = |name: &str| {
        let is_lower = typed.chars().any(char::is_lowercase) && !typed.chars().any(char::is_uppercase);
        if is_lower { name.to_ascii_lowercase() } else { name.to_owned() }
    };
    let offer = |(name, help): (&str, &str)| matching(name).then(|| (cased(name), help.to_owned()));
    let found = match (complete.first().and_then(known), complete.len()) {
        (_, 0) => COMMANDS.iter().chain(more).filter_map(|command| offer((command.name, command.help))).collect(),
        (None, _) => Vec::new(),
        (Some(spec), 1) if spec.verb == Verb::Help => {
            COMMANDS.iter().chain(more).filter_map(|command| offer((command.name, command.help))).collect()
        }
        (Some(spec), 1) if spec.verb == Verb::Cluster => CLUSTER_VIEWS.into_iter().filter_map(offer).collect(),
        (Some(spec), count) => options(spec, &complete[1..], count - 1).filter_map(offer).collect(),
    };
    (start, found)
}

/// The options that may still follow, once all arguments that must be there are.
fn options<'a>(
    spec: &'static CommandSpec,
    words: &'a [Word],
    count: usize,
) -> impl Iterator<Item = (&'static str, &'static str)> + 'a {
    let required = spec.arguments_min();
    let used: BTreeSet<_> = words.iter().filter_map(|word| spec.option(word)).map(|option| option.name).collect();
    // Behind an option that takes an argument, that argument comes first.
    let last = words.last().filter(|_| count > required).and_then(|word| spec.option(word));
    let is_open = last.is_some_and(|option| !option.argument.is_empty());
    let offered = spec.offered_options().filter(move |option| !used.contains(option.name));
    offered.filter(move |_| count >= required && !is_open).map(|option| (option.name, option.help))
}

fn known(word: &Word) -> Option<&'static CommandSpec> {
    commands::find(std::str::from_utf8(&word.bytes).ok()?)
}

/// Shows what comes next: the rest of a line from the history if it begins like this one, else the rest of the command's
/// name, else the arguments that are missing. The last is only shown; accepting a hint takes no placeholder over.
pub(crate) struct CommandHinter {
    accepted: String,
    /// How many columns the terminal has now; a hint that does not fit behind the line is cut between two arguments.
    columns: fn() -> Option<u16>,
}

impl CommandHinter {
    pub(crate) fn new(columns: fn() -> Option<u16>) -> Self {
        Self { accepted: String::new(), columns }
    }
}

impl Hinter for CommandHinter {
    fn handle(
        &mut self,
        line: &str,
        position: usize,
        history: &dyn History,
        use_ansi_coloring: bool,
        _cwd: &str,
    ) -> String {
        self.accepted.clear();
        if line.trim().is_empty() || position < line.len() {
            return String::new();
        }
        let earlier =
            history.search(SearchQuery::last_with_prefix(line.to_owned(), history.session())).unwrap_or_default();
        let earlier = earlier.first().and_then(|item| item.command_line.get(line.len()..)).unwrap_or_default();
        let columns = (self.columns)().map_or(usize::MAX, usize::from);
        let used = PROMPT_COLUMNS + line.chars().count();
        let mut shown = fitting(&usage_hint(line), columns.saturating_sub(used).max(HINT_COLUMNS_MIN));
        if !earlier.is_empty() {
            earlier.clone_into(&mut self.accepted);
            earlier.clone_into(&mut shown);
        } else if let Some(rest) = name_hint(line) {
            self.accepted.clone_from(&rest);
            shown = rest + &shown;
        }
        if use_ansi_coloring && !shown.is_empty() { Color::DarkGray.paint(shown).to_string() } else { shown }
    }

    fn complete_hint(&self) -> String {
        self.accepted.clone()
    }

    fn next_hint_token(&self) -> String {
        let end = self
            .accepted
            .trim_start()
            .find(' ')
            .map(|end| end + self.accepted.len() - self.accepted.trim_start().len());
        self.accepted[..end.unwrap_or(self.accepted.len())].to_owned()
    }
}

/// Columns that the prompt takes: about, since addresses differ.
const PROMPT_COLUMNS: usize = 25;
/// A hint has so many columns, however long the line is.
const HINT_COLUMNS_MIN: usize = 20;

/// As much of a hint as fits, in whole arguments. Pure.
fn fitting(hint: &str, columns: usize) -> String {
    if hint.chars().count() <= columns {
        return hint.to_owned();
    }
    let mut shown = String::new();
    // An option and what follows it stand in one pair of brackets.
    for part in hint.split_inclusive(' ').collect::<Vec<_>>() {
        if shown.chars().count() + part.chars().count() + 1 > columns {
            break;
        }
        shown.push_str(part);
    }
    let whole = match shown.rfind('[') {
        Some(open) if !shown[open..].contains(']') => open,
        _ => shown.len(),
    };
    shown.truncate(whole);
    shown + "…"
}

/// The rest of the only command that begins like this. Pure.
fn name_hint(line: &str) -> Option<String> {
    if line.contains(char::is_whitespace) || commands::find(line).is_some() {
        return None;
    }
    match candidates(line).1.as_slice() {
        [(name, _)] => name.get(line.len()..).map(str::to_owned),
        _ => None,
    }
}

/// The arguments and options that are still missing, with a blank in front if the line does not end with one. Pure.
fn usage_hint(line: &str) -> String {
    let Ok(words) = words::split(line) else { return String::new() };
    let spec = match words.as_slice() {
        [] => None,
        [only] if !line.ends_with(char::is_whitespace) => {
            let name = String::from_utf8_lossy(&only.bytes).into_owned() + &name_hint(line).unwrap_or_default();
            commands::find(&name)
        }
        [first, ..] => known(first),
    };
    let Some(spec) = spec else { return String::new() };
    let given = words.len() - 1;
    let is_open = given > 0 && !line.ends_with(char::is_whitespace);
    let missing: Vec<_> = match given {
        given if given < spec.arguments.len() => spec.usage_parts().into_iter().skip(given).collect(),
        _ => {
            let rest = &words[1..];
            let last = rest.last().and_then(|word| spec.option(word)).filter(|_| given > spec.arguments.len());
            match last {
                Some(option) if !option.argument.is_empty() => vec![option.argument.to_owned()],
                _ => options(spec, rest, given).map(|(name, _)| format!("[{name}]")).collect(),
            }
        }
    };
    if missing.is_empty() {
        return String::new();
    }
    let blank = if line.ends_with(char::is_whitespace) && !is_open { "" } else { " " };
    format!("{blank}{}", missing.join(" "))
}

/// Colours commands, options and quoted strings; what is not a command is red.
pub(crate) struct CommandHighlighter;

impl Highlighter for CommandHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        let mut end = 0;
        for (start, stop, kind) in kinds(line) {
            text.push((Color::Default.normal(), line[end..start].to_owned()));
            let style = match kind {
                Part::Command => Color::Green.bold(),
                Part::Unknown => Color::Red.normal(),
                Part::Option => Color::Cyan.normal(),
                Part::Quoted => Color::Yellow.normal(),
                Part::Plain => Color::Default.normal(),
            };
            text.push((style, line[start..stop].to_owned()));
            end = stop;
        }
        text.push((Color::Default.normal(), line[end..].to_owned()));
        text
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Command,
    Unknown,
    Option,
    Quoted,
    Plain,
}

/// What each word of a text is, which may hold several commands. Pure.
fn kinds(text: &str) -> Vec<(usize, usize, Part)> {
    let of_command = |command: &str| {
        let offset = command.as_ptr() as usize - text.as_ptr() as usize;
        kinds_of(command).into_iter().map(move |(start, end, part)| (start + offset, end + offset, part))
    };
    words::commands(text).into_iter().flat_map(of_command).collect()
}

/// What each word of one command is. Pure.
fn kinds_of(line: &str) -> Vec<(usize, usize, Part)> {
    let (words, open) = match words::split(line) {
        Ok(words) => (words, None),
        Err((words, _)) => {
            let end = words.last().map_or(0, |word| word.end);
            let start = line[end..].find(|letter: char| !letter.is_whitespace()).map(|blank| end + blank);
            (words, start)
        }
    };
    let spec = words.first().and_then(known);
    let may_become_a_command = !line.ends_with(char::is_whitespace) && !candidates(line).1.is_empty();
    let kind = |(index, word): (usize, &Word)| {
        let is_option = |spec: &CommandSpec| index > 1 && spec.option(word).is_some();
        let part = match spec {
            Some(_) if index == 0 => Part::Command,
            None if index == 0 && may_become_a_command => Part::Plain,
            None if index == 0 => Part::Unknown,
            Some(spec) if is_option(spec) => Part::Option,
            _ if word.is_quoted => Part::Quoted,
            _ => Part::Plain,
        };
        (word.start, word.end, part)
    };
    let mut kinds: Vec<_> = words.iter().enumerate().map(kind).collect();
    kinds.extend(open.map(|start| (start, line.len(), Part::Quoted)));
    kinds
}

/// A line with an open quote goes on.
pub(crate) struct QuoteValidator;

impl Validator for QuoteValidator {
    fn validate(&self, line: &str) -> ValidationResult {
        match words::commands(line).last().map(|command| words::split(command)) {
            Some(Err((_, WordError::OpenQuote(_) | WordError::OpenEscape))) => ValidationResult::Incomplete,
            _ => ValidationResult::Complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        candidates(line).1.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn commands_views_and_options_are_completed() {
        assert_eq!(names("G"), ["GET"]);
        assert_eq!(names("cl"), ["cluster", "clear"]);
        assert_eq!(
            names("CLUSTER "),
            ["STATUS", "NODES", "SHARDS", "HOTKEYS", "CHECK", "PLAN", "REBALANCE", "TOKEN", "VERSION"]
        );
        assert_eq!(names("cluster s"), ["status", "shards"]);
        assert_eq!(names("HELP EX"), ["EXPIRE", "EXISTS", "EXPLAIN"]);
        assert_eq!(names("PUT k "), Vec::<String>::new(), "the value comes first");
        assert_eq!(
            names("PUT k v "),
            ["TTL", "KEEPTTL", "IFABSENT", "IFPRESENT", "IFVERSION", "IFABSENTOR", "IFEQUALS", "RETURN", "EXISTED"]
        );
        assert_eq!(names("PUT k v TTL "), Vec::<String>::new(), "the duration comes first");
        assert_eq!(names("PUT k v TTL 10s IF"), ["IFABSENT", "IFPRESENT", "IFVERSION", "IFABSENTOR", "IFEQUALS"]);
        assert_eq!(names("SCAN "), ["LIMIT", "VALUES"]);
        assert_eq!(names("FROB "), Vec::<String>::new());
        assert_eq!(candidates("cluster s").0, 8);
        assert_eq!(candidates("PUT \"a b\" v ").0, 12);
        assert_eq!(COMMANDS.len(), names("").len());
    }

    #[test]
    fn hints_say_what_is_missing() {
        for (line, hint) in [
            ("GE", " key"),
            ("get", " key"),
            ("GET ", "key"),
            ("GET k", ""),
            (
                "PUT",
                " key value [TTL duration] [KEEPTTL] [IFABSENT] [IFPRESENT] [IFVERSION version] [IFABSENTOR version] [IFEQUALS value] [RETURN] [EXISTED]",
            ),
            (
                "PUT k ",
                "value [TTL duration] [KEEPTTL] [IFABSENT] [IFPRESENT] [IFVERSION version] [IFABSENTOR version] [IFEQUALS value] [RETURN] [EXISTED]",
            ),
            ("DEL k", " [IFVERSION] [IFEQUALS]"),
            ("DEL k IFVERSION ", "version"),
            (
                "PUT k v TTL 1s RETURN ",
                "[KEEPTTL] [IFABSENT] [IFPRESENT] [IFVERSION] [IFABSENTOR] [IFEQUALS] [EXISTED]",
            ),
            ("FROB ", ""),
            ("PUT \"open", ""),
        ] {
            assert_eq!(usage_hint(line), hint, "{line}");
        }
        assert_eq!(name_hint("GE"), Some("T".to_owned()));
        assert_eq!(name_hint("ex"), None, "several begin like this");
    }

    #[test]
    fn a_hint_is_cut_between_arguments() {
        let hint = usage_hint("PUT k ");
        assert_eq!(fitting(&hint, 200), hint);
        assert_eq!(fitting(&hint, 40), "value [TTL duration] [KEEPTTL] …");
        assert_eq!(fitting(&hint, 18), "value …");
        assert_eq!(fitting(&usage_hint("PUT"), 20), " key value …");
    }

    #[test]
    fn words_are_told_apart() {
        let parts = |line: &str| kinds(line).into_iter().map(|(_, _, part)| part).collect::<Vec<_>>();
        use Part::{Command, Option, Plain, Quoted, Unknown};
        assert_eq!(parts("PUT ttl \"v\" TTL 1s"), [Command, Plain, Quoted, Option, Plain]);
        assert_eq!(parts("FROB k"), [Unknown, Plain]);
        assert_eq!((parts("FR"), parts("GE"), parts("GE ")), (vec![Unknown], vec![Plain], vec![Unknown]));
        assert_eq!(parts("# a comment\nGET a\nGET b"), [Command, Plain, Command, Plain]);
        assert_eq!(kinds("PUT k \"op en"), [(0, 3, Command), (4, 5, Plain), (6, 12, Quoted)]);
    }

    #[test]
    fn highlighting_keeps_every_byte() {
        for line in ["", "  GET  k ", "PUT größe \"ü", "\"", "# x", "GET \\"] {
            let text = CommandHighlighter.highlight(line, 0);
            let whole: String = text.buffer.iter().map(|(_, part)| part.as_str()).collect();
            assert_eq!(whole, line);
        }
    }

    #[test]
    fn an_open_quote_goes_on_in_the_next_line() {
        assert!(matches!(QuoteValidator.validate("PUT k \"a"), ValidationResult::Incomplete));
        assert!(matches!(QuoteValidator.validate("PUT k \"a\nb\""), ValidationResult::Complete));
        assert!(matches!(QuoteValidator.validate("# don't"), ValidationResult::Complete));
        assert!(matches!(QuoteValidator.validate("GET a\nPUT k 'a"), ValidationResult::Incomplete));
        assert!(matches!(QuoteValidator.validate("GET a \\"), ValidationResult::Incomplete));
    }
}
