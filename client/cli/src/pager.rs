//! Long output of the REPL goes through a pager, as in other shells: `KVORUM_PAGER`, `PAGER`, or `less`. What fits the screen is
//! printed as it is. Nothing is paged that people do not read on a terminal.

use crate::console::print;
use crate::parse::{Action, UserAction};
use rustix::termios::tcgetwinsize;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

/// What `less` is told unless `LESS` says otherwise: leave at once if all fits, show colours, leave the text on the screen.
const LESS_OPTIONS: &str = "FRX";
/// Rows of the screen that the prompts take.
const PROMPT_ROWS: usize = 2;
/// More bytes than these are not held back: they fit no screen.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// A screen, and the program that shows what is longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Paging {
    program: Vec<String>,
    rows: usize,
    columns: usize,
}

impl Paging {
    /// How output is paged on this terminal; `None` if it is not, because stdout is none, or the user does not want it.
    pub(crate) fn of_terminal() -> Option<Self> {
        let size = tcgetwinsize(io::stdout()).ok()?;
        let variable = |name: &str| std::env::var(name).ok();
        let program = program(variable("KVORUM_PAGER"), variable("PAGER"))?;
        let rows = usize::from(size.ws_row).checked_sub(PROMPT_ROWS).filter(|rows| *rows > 0)?;
        Some(Self { program, rows, columns: usize::from(size.ws_col).max(1) })
    }
}

/// The pager's name and arguments, as the two variables say; none if it is empty or `cat`.
fn program(own: Option<String>, general: Option<String>) -> Option<Vec<String>> {
    let text = own.or(general).unwrap_or_else(|| "less".to_owned());
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let is_wanted = words.first().is_some_and(|name| name != "cat");
    is_wanted.then_some(words)
}

/// Whether what a command says is a list that may be long, and is not to be seen while it grows.
pub(crate) fn is_paged(action: &Action) -> bool {
    match action {
        Action::Get(_)
        | Action::MultiGet(_)
        | Action::Scan { .. }
        | Action::Explain(_)
        | Action::Cluster(_)
        | Action::Status(_)
        | Action::Help(_) => true,
        Action::Users(action) => matches!(action, UserAction::List | UserAction::ListRoles),
        _ => false,
    }
}

/// Where the output of one command goes.
pub(crate) enum Screen {
    /// To stdout at once.
    Straight,
    /// It fits the screen so far.
    Held { paging: Paging, text: Vec<u8>, rows: usize },
    /// To the pager.
    Paged(Child),
}

impl Screen {
    pub(crate) fn new(paging: Option<Paging>) -> Self {
        match paging {
            Some(paging) => Self::Held { paging, text: Vec::new(), rows: 0 },
            None => Self::Straight,
        }
    }

    /// Takes more of the output.
    ///
    /// # Errors
    /// What the system says. `BrokenPipe` means that whoever reads has seen enough.
    pub(crate) fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Straight => print(bytes),
            Self::Paged(pager) => pager.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(bytes)),
            Self::Held { paging, text, rows } => {
                text.extend_from_slice(bytes);
                *rows += rows_of(bytes, paging.columns);
                if *rows <= paging.rows && text.len() <= HELD_BYTES_MAX {
                    return Ok(());
                }
                let text = std::mem::take(text);
                *self = Self::begin(paging);
                self.print(&text)
            }
        }
    }

    /// Starts the pager. Without it the output is printed as it is.
    fn begin(paging: &Paging) -> Self {
        let Some((name, arguments)) = paging.program.split_first() else { return Self::Straight };
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", LESS_OPTIONS);
        }
        command.spawn().map_or(Self::Straight, Self::Paged)
    }

    /// Shows what was held back, and waits until the pager is left.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Straight => Ok(()),
            Self::Held { text, .. } => print(&text),
            Self::Paged(mut pager) => {
                drop(pager.stdin.take());
                pager.wait().map(drop)
            }
        }
    }
}

/// The rows that a text takes on a screen.
fn rows_of(bytes: &[u8], columns: usize) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let rows = text.lines().map(|line| visible(line).div_ceil(columns).max(1));
    rows.sum()
}

/// Characters of a line without what colours it.
fn visible(line: &str) -> usize {
    let mut count = 0;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            // All that this program writes of these ends with the first letter.
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pager_is_what_the_variables_say() {
        let of = |own: Option<&str>, general: Option<&str>| program(own.map(str::to_owned), general.map(str::to_owned));
        assert_eq!(of(None, None), Some(vec!["less".to_owned()]));
        assert_eq!(of(None, Some("more -d")), Some(vec!["more".to_owned(), "-d".to_owned()]));
        assert_eq!(of(Some("most"), Some("more")), Some(vec!["most".to_owned()]));
        assert_eq!((of(Some(""), Some("more")), of(None, Some("cat"))), (None, None));
    }

    #[test]
    fn rows_are_counted_as_the_terminal_breaks_them() {
        for (text, rows) in
            [("", 0), ("a\n", 1), ("\n\n", 2), ("12345678901\n1", 3), ("\u{1b}[33m1234567890\u{1b}[0m\n", 1)]
        {
            assert_eq!(rows_of(text.as_bytes(), 10), rows, "{text:?}");
        }
    }

    #[test]
    fn what_fits_is_held_and_what_does_not_is_paged() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("shown");
        let paging = |program: &[&str]| {
            let program = program.iter().map(|word| (*word).to_owned()).collect();
            Paging { program, rows: 3, columns: 10 }
        };
        let mut screen = Screen::new(Some(paging(&["tee", &file.display().to_string()])));
        screen.print(b"1\n2\n3\n").unwrap();
        assert!(matches!(&screen, Screen::Held { rows: 3, .. }));
        screen.print(b"4\n").unwrap();
        screen.print(b"5\n").unwrap();
        assert!(matches!(&screen, Screen::Paged(_)));
        screen.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "1\n2\n3\n4\n5\n");

        let mut screen = Screen::new(Some(paging(&["/nowhere/pager"])));
        screen.print(b"1\n2\n3\n4\n").unwrap();
        assert!(matches!(&screen, Screen::Straight), "without the pager it is printed");
    }
}
