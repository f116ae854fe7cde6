//! What clients ask about commands: COMMAND and its subcommands, and HELP.

use super::arguments::{arguments_of, write_arguments};
use super::{Categories, CommandSpec, KeySpec, command, command_of_full_name, commands};
use crate::command::{CommandError, CommandFilter};
use crate::glob::Pattern;
use crate::limits::NAMES_MAX;
use crate::reply::ReplyWriter;
use crate::request::{Arguments, Request};

const TOO_MANY_NAMES: &[u8] = b"ERR at most 1024 commands can be asked about at a time";

/// Answers COMMAND and COMMAND INFO: about the commands of these names, null for an unknown one; about all without names.
pub fn write_info(reply: &mut ReplyWriter<'_>, names: Arguments<'_>) {
    if names.len() == 0 {
        reply.array(commands().len());
        commands().iter().for_each(|spec| info(reply, spec));
        return;
    }
    if names.len() > NAMES_MAX {
        return reply.error(TOO_MANY_NAMES);
    }
    reply.array(names.len());
    for name in names {
        match command_of_full_name(name) {
            Some(spec) => info(reply, spec),
            None => reply.null(),
        }
    }
}

fn info(reply: &mut ReplyWriter<'_>, spec: &CommandSpec) {
    let (first, last, step) = spec.key_range();
    reply.array(10);
    reply.bulk(spec.full_name.as_bytes());
    reply.integer(i64::from(spec.arity));
    reply.set(spec.flags.names().count());
    spec.flags.names().for_each(|name| reply.simple(name));
    [first, last, step].into_iter().for_each(|number| reply.integer(number));
    reply.set(spec.categories().names().count());
    spec.categories().names().for_each(|name| reply.simple(&format!("@{name}")));
    reply.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(spec.key_specs.len());
    spec.key_specs.iter().for_each(|keys| key_spec(reply, keys));
    // Redis has an empty set here for a command without subcommands, and an array else.
    if spec.subcommands.is_empty() {
        reply.set(0);
    } else {
        reply.array(spec.subcommands.len());
    }
    spec.subcommands.iter().for_each(|subcommand| info(reply, subcommand));
}

fn key_spec(reply: &mut ReplyWriter<'_>, spec: &KeySpec) {
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(spec.access.names().count());
    spec.access.names().for_each(|name| reply.simple(name));
    reply.bulk(b"begin_search");
    typed(reply, b"index", &[(b"index", i64::from(spec.first))]);
    reply.bulk(b"find_keys");
    let range: [(&[u8], i64); 3] =
        [(b"lastkey", i64::from(spec.last)), (b"keystep", i64::from(spec.step)), (b"limit", 0)];
    typed(reply, b"range", &range);
}

fn typed(reply: &mut ReplyWriter<'_>, kind: &[u8], fields: &[(&[u8], i64)]) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind);
    reply.bulk(b"spec");
    reply.map(fields.len());
    for (name, value) in fields {
        reply.bulk(name);
        reply.integer(*value);
    }
}

/// Answers COMMAND DOCS: a map of the commands of these names, without unknown ones; of all without names.
pub fn write_docs(reply: &mut ReplyWriter<'_>, names: Arguments<'_>) {
    if names.len() == 0 {
        write_docs_of(reply, commands());
        return;
    }
    if names.len() > NAMES_MAX {
        return reply.error(TOO_MANY_NAMES);
    }
    reply.map(names.rest().filter_map(command_of_full_name).count());
    names.filter_map(command_of_full_name).for_each(|spec| named_docs(reply, spec));
}

fn write_docs_of(reply: &mut ReplyWriter<'_>, specs: &[CommandSpec]) {
    reply.map(specs.len());
    specs.iter().for_each(|spec| named_docs(reply, spec));
}

fn named_docs(reply: &mut ReplyWriter<'_>, spec: &CommandSpec) {
    reply.bulk(spec.full_name.as_bytes());
    let fields = [("summary", spec.summary), ("since", spec.since), ("group", spec.group.name())];
    let arguments = arguments_of(spec.syntax);
    let others = [!arguments.is_empty(), !spec.subcommands.is_empty()];
    reply.map(fields.len() + others.into_iter().filter(|is_there| *is_there).count());
    for (name, text) in fields {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        write_arguments(reply, &arguments);
    }
    if !spec.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        write_docs_of(reply, spec.subcommands);
    }
}

/// Answers COMMAND LIST: full names, those of subcommands among them. A pattern may use so many steps, see
/// [`Pattern::matches`]; what it does not reach is left out.
pub fn write_list(reply: &mut ReplyWriter<'_>, filter: CommandFilter<'_>, mut pattern_steps: u64) {
    let category = match filter {
        CommandFilter::Category(name) => Categories::named(name),
        _ => None,
    };
    let pattern = match filter {
        CommandFilter::Pattern(text) => Some(Pattern::new(text, true)),
        _ => None,
    };
    let mut is_listed = |spec: &CommandSpec| match filter {
        CommandFilter::All => true,
        CommandFilter::Module(_) => false,
        CommandFilter::Category(_) => category.is_some_and(|category| spec.categories().has(category)),
        CommandFilter::Pattern(_) => pattern
            .as_ref()
            .is_some_and(|pattern| pattern.matches(spec.full_name.as_bytes(), &mut pattern_steps) == Ok(true)),
    };
    let all = commands().iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
    let names: Vec<&str> = all.filter(|spec| is_listed(spec)).map(|spec| spec.full_name).collect();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
}

/// Answers COMMAND GETKEYS, and with `with_access` COMMAND GETKEYSANDFLAGS: the keys of the command that `arguments` are.
///
/// # Errors
/// There is no such command, or it has no keys, or other arguments.
pub fn write_keys(
    reply: &mut ReplyWriter<'_>,
    arguments: Arguments<'_>,
    with_access: bool,
) -> Result<(), CommandError> {
    let arguments: Vec<&[u8]> = arguments.collect();
    let request = Request::of(&arguments);
    let found = command(request.name()).ok_or(CommandError::GetKeysUnknown)?;
    let spec = match request.get(1) {
        Some(name) if !found.subcommands.is_empty() => found.subcommand(name).ok_or(CommandError::GetKeysUnknown)?,
        _ => found,
    };
    if spec.key_specs.is_empty() {
        return Err(CommandError::GetKeysNone);
    }
    if !spec.takes(request.len()) {
        return Err(CommandError::GetKeysArity);
    }
    reply.array(spec.keys(&request).count());
    for key in spec.keys(&request) {
        if with_access {
            reply.array(2);
        }
        reply.bulk(key.name);
        if with_access {
            reply.set(key.access.names().count());
            key.access.names().for_each(|name| reply.simple(name));
        }
    }
    Ok(())
}

/// Answers the subcommand HELP of a command: an array of lines.
pub fn write_help(reply: &mut ReplyWriter<'_>, spec: &CommandSpec) {
    let name = spec.full_name.to_ascii_uppercase();
    reply.array(1 + 2 * spec.subcommands.len());
    reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for subcommand in spec.subcommands {
        let name = subcommand.name().to_ascii_uppercase();
        reply.simple(format!("{name} {}", subcommand.syntax).trim_end());
        reply.simple(&format!("    {}", subcommand.summary));
    }
}
