//! The arguments of a command, as COMMAND DOCS describes them: made of the text for people that the table has.
//!
//! redis-cli makes such a text of them again, for its help and its hints; other tools make forms.

use crate::reply::ReplyWriter;

/// An argument, or several that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    name: String,
    /// The word that stands before it.
    token: Option<&'static str>,
    is_optional: bool,
    /// It may stand there again and again.
    is_multiple: bool,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Key,
    Text,
    /// Nothing but its token.
    Token,
    OneOf(Vec<Argument>),
    Block(Vec<Argument>),
}

impl Argument {
    fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), token: None, is_optional: false, is_multiple: false, kind }
    }

    /// A word that stands for what the client says.
    fn word(name: &str) -> Self {
        Self::new(name, if name == "key" { Kind::Key } else { Kind::Text })
    }

    /// These, one behind the other.
    fn all(mut arguments: Vec<Self>) -> Self {
        if arguments.len() == 1 {
            return arguments.remove(0);
        }
        let name = arguments.first().map(|first| first.name.clone()).unwrap_or_default();
        Self::new(&name, Kind::Block(arguments))
    }
}

/// The arguments that a text for people names: `key value [NX | XX] [EX seconds] [field ...]`. Words in capitals are tokens, what
/// stands in brackets is optional, and a bracket that ends with dots repeats what is before it.
pub(super) fn arguments_of(text: &'static str) -> Vec<Argument> {
    let choices = split(text, "|");
    if choices.len() > 1 {
        let choices: Vec<Argument> = choices.into_iter().map(|choice| Argument::all(arguments_of(choice))).collect();
        let name = choices.iter().map(|choice| choice.name.as_str()).collect::<Vec<_>>().join("-or-");
        return vec![Argument::new(&name, Kind::OneOf(choices))];
    }
    let mut arguments = Vec::new();
    let mut words = split(text, " ").into_iter().peekable();
    while let Some(word) = words.next() {
        let bracket = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
        let argument = match bracket {
            Some(inside) => match inside.strip_suffix(" ...") {
                Some(repeated) => {
                    let first = arguments.len().saturating_sub(split(repeated, " ").len());
                    Argument { is_multiple: true, ..Argument::all(arguments.split_off(first)) }
                }
                None => Argument { is_optional: true, ..Argument::all(arguments_of(inside)) },
            },
            None if is_token(word) => {
                let mut named = Vec::new();
                while let Some(next) = words.next_if(|next| !next.starts_with('[') && !is_token(next)) {
                    named.push(Argument::word(next));
                }
                let argument = match named.len() {
                    0 => Argument::new(&word.to_ascii_lowercase(), Kind::Token),
                    _ => Argument::all(named),
                };
                Argument { token: Some(word), ..argument }
            }
            None => Argument::word(word),
        };
        arguments.push(argument);
    }
    arguments
}

fn is_token(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// The parts of a text between separators that stand in no bracket.
fn split(text: &'static str, separator: &str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, found) in text.char_indices() {
        match found {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ if depth == 0 && text[at..].starts_with(separator) => {
                parts.push(text[start..at].trim());
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Writes an array of them.
pub(super) fn write_arguments(reply: &mut ReplyWriter<'_>, arguments: &[Argument]) {
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| write_argument(reply, argument));
}

fn write_argument(reply: &mut ReplyWriter<'_>, argument: &Argument) {
    let Argument { name, token, is_optional, is_multiple, kind } = argument;
    let (kind, inside) = match kind {
        Kind::Key => ("key", None),
        Kind::Text => ("string", None),
        Kind::Token => ("pure-token", None),
        Kind::OneOf(choices) => ("oneof", Some(choices)),
        Kind::Block(arguments) => ("block", Some(arguments)),
    };
    let flags = [("optional", is_optional), ("multiple", is_multiple)];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(name, is_set)| is_set.then_some(name)).collect();
    reply.map(2 + usize::from(token.is_some()) + usize::from(!flags.is_empty()) + usize::from(inside.is_some()));
    for (field, text) in [("name", name.as_str()), ("type", kind)] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if let Some(token) = token {
        reply.bulk(b"token");
        reply.bulk(token.as_bytes());
    }
    if !flags.is_empty() {
        reply.bulk(b"flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
    }
    if let Some(inside) = inside {
        reply.bulk(b"arguments");
        write_arguments(reply, inside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::commands;

    /// As redis-cli shows them.
    fn shown(arguments: &[Argument], between: &str) -> String {
        let one = |argument: &Argument| {
            let inside = match &argument.kind {
                Kind::Key | Kind::Text => argument.name.clone(),
                Kind::Token => String::new(),
                Kind::OneOf(choices) => shown(choices, "|"),
                Kind::Block(arguments) => shown(arguments, " "),
            };
            let again = if argument.is_multiple { format!(" [{inside} ...]") } else { String::new() };
            let token = argument.token.unwrap_or_default();
            let token = if token.is_empty() || inside.is_empty() { token.to_owned() } else { format!("{token} ") };
            let all = format!("{token}{inside}{again}");
            if argument.is_optional { format!("[{all}]") } else { all }
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(between)
    }

    #[test]
    fn what_redis_cli_shows_is_the_text_of_the_table() {
        for spec in commands().iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands)) {
            let text = spec.syntax.replace(" | ", "|");
            assert_eq!(shown(&arguments_of(spec.syntax), " "), text, "{}", spec.full_name);
        }
    }

    #[test]
    fn arguments_are_told_apart() {
        let number = Argument { token: Some("EX"), ..Argument::word("seconds") };
        let token = Argument { token: Some("NX"), ..Argument::new("nx", Kind::Token) };
        let choice = Argument::new("seconds-or-nx", Kind::OneOf(vec![number, token]));
        let expected =
            vec![Argument { is_multiple: true, ..Argument::word("key") }, Argument { is_optional: true, ..choice }];
        assert_eq!(arguments_of("key [key ...] [EX seconds | NX]"), expected);
        assert_eq!(arguments_of(""), []);
    }
}
