//! The interactive shell, and its plain sibling for terminals that only show text.

use crate::console::{complain, print};
use crate::editor::{CommandCompleter, CommandHighlighter, CommandHinter, QuoteValidator};
use crate::exit::{Ended, Exit};
use crate::history;
use crate::parse::Action;
use crate::session::Session;
use crate::terminal::Typed;
use crate::text::one_line;
use crate::words;
use reedline::{
    ColumnarMenu, Emacs, ExternalPrinter, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    default_emacs_keybindings,
};
use std::borrow::Cow;
use std::io;
use std::sync::mpsc::{SyncSender, TrySendError};

/// Lines that the history file keeps.
const HISTORY_LINES_MAX: usize = 10_000;
/// Notices that wait for the prompt.
const NOTICES_MAX: usize = 64;
const COMPLETION_MENU: &str = "completion_menu";

/// What others have to say while someone is typing; shown above the line that is being typed.
#[derive(Debug)]
pub(crate) struct Notices(ExternalPrinter<String>);

/// The other end of the notices that the REPL shows.
#[derive(Clone, Debug)]
pub struct Notifier(SyncSender<String>);

impl Notices {
    pub(crate) fn new() -> (Self, Notifier) {
        let printer = ExternalPrinter::new(NOTICES_MAX);
        let notifier = Notifier(printer.sender());
        (Self(printer), notifier)
    }
}

impl Notifier {
    /// Has the REPL show a line, now or when the command that it runs is done. Never blocks: a line too many, of a REPL
    /// that shows none any more, goes to stderr.
    pub fn notify(&self, line: String) {
        if let Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) = self.0.try_send(line) {
            complain(&format!("{line}\n"));
        }
    }
}

/// Reads commands from the terminal until QUIT or ctrl-d.
pub(crate) fn interact(session: &mut Session, colors: bool, notices: Option<Notices>) -> Ended {
    let mut editor = editor(colors, session.has_host());
    if let Some(Notices(printer)) = notices {
        editor = editor.with_external_printer(printer);
    }
    greet("HELP explains, tab completes, ctrl-r searches, ctrl-d leaves.");
    // An unreachable cluster is told now; the shell goes on, since it may come up.
    session.connect();
    loop {
        let prompt = NodePrompt { node: session.connected_to() };
        match editor.read_line(&prompt) {
            Ok(Signal::Success(text)) => {
                // Now, because a signal may end the process before the editor does it at its end. A history that can't be
                // written is no reason to stop working.
                let _ = editor.sync_history();
                let clear = &mut || {
                    // A screen that can't be cleared stays as it is.
                    let _ = editor.clear_screen();
                };
                if run_text(session, &text, clear) == Next::Leave {
                    return Ended::by_quit(Exit::Ok);
                }
            }
            // ctrl-c empties the line, as in other shells.
            Ok(Signal::CtrlC) => {}
            Ok(_) => return Ended::by_quit(Exit::Ok),
            Err(error) => return Ended::by_input(session.usage(&format!("the terminal can't be read: {error}"))),
        }
    }
}

/// The same for a terminal that obeys nothing: lines as the system edits them.
pub(crate) fn interact_plainly(session: &mut Session) -> Ended {
    greet("HELP explains, ctrl-d leaves.");
    session.connect();
    loop {
        let prompt = NodePrompt { node: session.connected_to() };
        // A terminal that shows no prompt still takes commands.
        let _ = print(format!("{}> ", prompt.render_prompt_left()).as_bytes());
        match session.read_line() {
            Ok(Typed::Line(line)) => {
                if run_text(session, &line, &mut || {}) == Next::Leave {
                    return Ended::by_quit(Exit::Ok);
                }
            }
            // As in the other shell: it empties the line.
            Ok(Typed::Interrupt) => complain("\n"),
            Ok(Typed::End) => return Ended::by_quit(Exit::Ok),
            Err(error) => return Ended::by_input(session.usage(&format!("the terminal can't be read: {error}"))),
        }
    }
}

fn greet(hint: &str) {
    // Who can't read this can still type.
    let _ = print(format!("Kvorum {}. {hint}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

/// What the shell does once the commands of a text are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    ReadOn,
    Leave,
}

/// Runs what was typed or pasted: several lines are several commands, one after the other. Ctrl-c stops those that have not
/// begun, too.
fn run_text(session: &mut Session, text: &str, clear: &mut dyn FnMut()) -> Next {
    let commands = words::commands(text);
    for (number, command) in (1..).zip(&commands) {
        if commands.len() > 1 {
            session.remark(&format!("> {}", one_line(command)));
        }
        match session.run_line(command) {
            Some((_, Some(Action::Quit))) => return Next::Leave,
            Some((_, Some(Action::Clear))) => clear(),
            Some(_) | None => {}
        }
        let left = commands.len() - number;
        if session.was_interrupted() {
            if left > 0 {
                session.remark(&format!("  {left} more not run"));
            }
            break;
        }
    }
    Next::ReadOn
}

fn editor(colors: bool, has_host: bool) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(COMPLETION_MENU.to_owned()), ReedlineEvent::MenuNext]),
    );
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let menu = ColumnarMenu::default().with_name(COMPLETION_MENU);
    let mut editor = Reedline::create()
        .with_completer(Box::new(CommandCompleter { has_host }))
        .with_hinter(Box::new(CommandHinter::new(crate::width)))
        .with_validator(Box::new(QuoteValidator))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_ansi_colors(colors)
        .use_bracketed_paste(true);
    if colors {
        editor = editor.with_highlighter(Box::new(CommandHighlighter));
    }
    // A line that begins with a blank is not remembered, as in other shells.
    editor = editor.with_history_exclusion_prefix(Some(" ".to_owned()));
    let Some(file) = history::path() else { return editor };
    let opened = history::make_private(&file)
        .and_then(|()| FileBackedHistory::with_file(HISTORY_LINES_MAX, file).map_err(io::Error::other));
    match opened {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(error) => {
            complain(&format!("the history is not kept: {error}\n"));
            editor
        }
    }
}

/// `kvorum 127.0.0.1:7401> `
struct NodePrompt {
    node: Option<String>,
}

impl Prompt for NodePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        match &self.node {
            Some(node) => format!("kvorum {node}").into(),
            None => "kvorum (not connected)".into(),
        }
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "... ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let found = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "not ",
        };
        format!(" ({found}found: {}) ", search.term).into()
    }
}
