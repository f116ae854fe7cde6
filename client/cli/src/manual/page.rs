//! The manual page.

use super::chapters::{self, Part};
use super::{help, usage};
use crate::args::Args;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::io;

/// The whole page, in roff.
///
/// # Errors
/// None in practice: it is written to memory.
pub(super) fn page() -> io::Result<Vec<u8>> {
    let program = Args::command();
    let man = Man::new(program.clone()).manual("Kvorum").source(format!("kvorum-cli {}", env!("CARGO_PKG_VERSION")));
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    // The list of all options that clap would make of it is no synopsis.
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]).text([
        bold("kvorum-cli"),
        roman(" ["),
        italic("OPTIONS"),
        roman("] ["),
        italic("COMMAND"),
        roman(" ["),
        italic("ARGUMENT"),
        roman("]...]"),
    ]);
    synopsis.to_writer(&mut out)?;
    man.render_description_section(&mut out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["OPTIONS"]);
    for option in program.get_arguments().filter(|option| !option.is_hide_set() && !option.is_positional()) {
        roff.control("TP", []).text([bold(usage(option))]).text([roman(help(option))]);
    }
    for chapter in chapters::all() {
        let title = chapter.title.to_uppercase();
        roff.control("SH", [title.as_str()]);
        chapter.parts.iter().for_each(|part| add(&mut roff, part));
    }
    roff.to_writer(&mut out)?;
    Ok(out)
}

fn add(roff: &mut Roff, part: &Part) {
    match part {
        Part::Text(text) => {
            roff.control("PP", []).text([roman(*text)]);
        }
        Part::Heading(title) => {
            roff.control("SS", [*title]);
        }
        Part::Code(code) => {
            roff.control("PP", []).control("nf", []);
            code.lines().for_each(|line| {
                roff.text([roman(line)]);
            });
            roff.control("fi", []);
        }
        Part::Terms(terms) => terms.iter().for_each(|(term, meaning)| {
            roff.control("TP", []).text([bold(term)]).text([roman(meaning)]);
        }),
    }
}
