//! The interactive shell, and its plain sibling that reads scripts.

use crate::cli::editor::{CommandCompleter, CommandHighlighter, CommandHinter, QuoteValidator};
use crate::cli::exit::Exit;
use crate::cli::parse::Action;
use crate::cli::session::Session;
use reedline::{
    ColumnarMenu, Emacs, ExternalPrinter, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    default_emacs_keybindings,
};
use std::borrow::Cow;
use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError};

/// Lines that the history file keeps.
const HISTORY_LINES_MAX: usize = 10_000;
/// Longest line of a script, in bytes: the largest value, written with every byte escaped, and some.
const SCRIPT_LINE_BYTES_MAX: u64 = 72 * 1024 * 1024;
/// Notices that wait for the prompt.
const NOTICES_MAX: usize = 64;
const COMPLETION_MENU: &str = "completion_menu";

/// What others have to say while someone is typing; shown above the line that is being typed.
#[derive(Debug)]
pub(crate) struct Notices(ExternalPrinter<String>);

/// The other end of [`Notices`].
#[derive(Clone, Debug)]
pub struct Notifier(SyncSender<String>);

impl Notices {
    pub(crate) fn new() -> (Self, Notifier) {
        let printer = ExternalPrinter::new(NOTICES_MAX);
        let notifier = Notifier(printer.sender());
        (Notices(printer), notifier)
    }
}

impl Notifier {
    /// Has the REPL show a line, now or when the command that it runs is done. Never blocks: a line too many, of a REPL
    /// that shows none any more, goes to stderr.
    pub fn notify(&self, line: String) {
        if let Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) = self.0.try_send(line) {
            eprintln!("{line}");
        }
    }
}

/// Reads commands from the terminal until QUIT or ctrl-d.
pub(crate) fn interact(session: &mut Session, colors: bool, notices: Option<Notices>) -> Exit {
    let mut editor = editor(colors);
    if let Some(Notices(printer)) = notices {
        editor = editor.with_external_printer(printer);
    }
    println!("Kvorum {}. HELP explains, tab completes, ctrl-r searches, ctrl-d leaves.", env!("CARGO_PKG_VERSION"));
    // An unreachable cluster is told now; the shell goes on, since it may come up.
    session.connect();
    loop {
        let prompt = NodePrompt { node: session.connected_to() };
        match editor.read_line(&prompt) {
            Ok(Signal::Success(line)) => {
                // Now, because a signal may end the process before the editor does it at its end. A history that can't be
                // written is no reason to stop working.
                let _ = editor.sync_history();
                match session.run_line(&line) {
                    Some((_, Some(Action::Quit))) => return Exit::Ok,
                    Some((_, Some(Action::Clear))) => {
                        // A screen that can't be cleared stays as it is.
                        let _ = editor.clear_screen();
                    }
                    Some(_) | None => {}
                }
            }
            // ctrl-c empties the line, as in other shells.
            Ok(Signal::CtrlC) => {}
            Ok(_) => return Exit::Ok,
            Err(error) => return session.usage(&format!("the terminal can't be read: {error}")),
        }
    }
}

/// Reads commands line by line until the end of input or QUIT. A command that fails does not stop the ones behind it; the
/// exit is that of the first that failed.
pub(crate) fn run_script(session: &mut Session, mut input: impl BufRead) -> Exit {
    let mut exit = Exit::Ok;
    let mut line = Vec::new();
    loop {
        line.clear();
        match Read::take(&mut input, SCRIPT_LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return exit,
            Ok(read) if read as u64 == SCRIPT_LINE_BYTES_MAX => return session.usage("a line is too long"),
            Ok(_) => {}
            Err(error) => return session.usage(&format!("stdin can't be read: {error}")),
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            exit = exit.and_then(session.usage("a line is not UTF-8; write other bytes as \\xHH"));
            continue;
        };
        match session.run_line(text) {
            Some((_, Some(Action::Quit))) => return exit,
            Some((next, _)) => exit = exit.and_then(next),
            None => {}
        }
    }
}

fn editor(colors: bool) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(COMPLETION_MENU.to_owned()), ReedlineEvent::MenuNext]),
    );
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let menu = ColumnarMenu::default().with_name(COMPLETION_MENU);
    let mut editor = Reedline::create()
        .with_completer(Box::new(CommandCompleter))
        .with_hinter(Box::<CommandHinter>::default())
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
    match history_file().map(|file| FileBackedHistory::with_file(HISTORY_LINES_MAX, file)) {
        Some(Ok(history)) => editor.with_history(Box::new(history)),
        Some(Err(error)) => {
            eprintln!("the history is not kept: {error}");
            editor
        }
        None => editor,
    }
}

/// Where the history is kept, as the XDG base directory specification has it.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("kvorum").join("history"))
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
