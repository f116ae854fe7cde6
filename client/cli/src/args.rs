//! The command line's own options.

use crate::commands::{self, CLUSTER_VIEWS, COMMANDS, Verb};
use crate::output::Format;
use crate::words::Word;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Command, CommandFactory, FromArgMatches, Parser, ValueEnum};
use kvorum_client::limits::{DEADLINE_DEFAULT, IN_FLIGHT_DEFAULT};
use kvorum_client::{Ack, Bytes, URL_DEFAULT};
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Talk to a Kvorum cluster.
///
/// With a COMMAND it runs that; without one it reads commands: from you, if stdin is a terminal, else line by line.
#[derive(Parser, Debug)]
#[command(
    name = "kvorum-cli",
    version,
    after_help = "Long options may also stand behind the COMMAND and its arguments, up to a --.\n\
                  kvorum-cli HELP lists the commands. kvorum-cli completions SHELL prints what teaches a shell to complete \
                  them, and kvorum-cli man DIR writes the manual page.\n\
                  Exit codes: 0 ok, 1 error of the cluster, or the output can't be \
                  written, 2 usage, 3 unreachable, 4 not found or another version."
)]
pub(crate) struct Args {
    /// The cluster; one address that answers is enough.
    #[arg(short, long, env = "KVORUM_URL", default_value = URL_DEFAULT, value_name = "URL")]
    pub(crate) url: String,
    /// Who you are. The password comes from --password-file or KVORUM_PASSWORD, or is asked for.
    #[arg(long, env = "KVORUM_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The file that holds your password.
    #[arg(long, env = "KVORUM_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<String>,
    /// The file that holds your token, if you have one instead; or KVORUM_TOKEN is it.
    #[arg(long, env = "KVORUM_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<String>,
    /// The password in the environment is not this user's.
    #[arg(skip)]
    pub(crate) is_another: bool,
    /// Speak TLS, as with an address that begins with kvs://.
    #[arg(long, env = "KVORUM_TLS")]
    pub(crate) tls: bool,
    /// The file with the cluster's authority: TLS is spoken, with nodes that it has signed.
    #[arg(long, env = "KVORUM_CA", value_name = "FILE")]
    pub(crate) ca: Option<String>,
    /// The file with your certificate, if you have one: you are whom it names.
    #[arg(long, env = "KVORUM_CERT", value_name = "FILE", requires_all = ["ca", "key"])]
    pub(crate) cert: Option<String>,
    /// The file with the key of that certificate.
    #[arg(long, env = "KVORUM_KEY", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<String>,
    /// The name that nodes' certificates must have; by default that of the host, or that of any node.
    #[arg(long, env = "KVORUM_SERVER_NAME", value_name = "NAME", requires = "ca")]
    pub(crate) server_name: Option<String>,
    /// Print JSON, an object per line; bytes that are not UTF-8 go by key_base64, value_base64, previous_base64.
    #[arg(long, group = "format")]
    pub(crate) json: bool,
    /// Print CSV with a header; key_encoding, value_encoding and previous_encoding say utf8 or base64.
    #[arg(long, group = "format")]
    pub(crate) csv: bool,
    /// Print values as they are, as is done when stdout is no terminal.
    #[arg(long, group = "format")]
    pub(crate) raw: bool,
    /// How long a command may take as a whole (of a SCAN, each page), in milliseconds: 5000, and 30000 for a write of --pipe.
    #[arg(long, value_name = "MS", value_parser = parse_timeout)]
    pub(crate) timeout: Option<u32>,
    /// When a write is answered.
    #[arg(long, value_enum, default_value_t = AckArg::Committed)]
    pub(crate) ack: AckArg,
    /// Read whatever some replica holds; may be old.
    #[arg(long)]
    pub(crate) stale: bool,
    /// Read the command's last argument from stdin.
    #[arg(short = 'x')]
    pub(crate) last_from_stdin: bool,
    /// Run the command so many times; with --latency and --stat, take so many samples.
    #[arg(short, long, value_name = "N", value_parser = parse_repeat)]
    pub(crate) repeat: Option<u64>,
    /// Wait so many seconds between two runs, samples or pages; may be a fraction.
    #[arg(short, long, value_name = "S", value_parser = parse_interval)]
    pub(crate) interval: Option<f64>,
    /// Run so many commands of a script on stdin at once. Those on one key keep their order, and so does the output.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = parse_pipeline)]
    pub(crate) pipeline: usize,
    /// Answer yes to whatever would be asked.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Load many keys: writes from stdin, a command per line or as RESP, in batches. A retried write takes effect once.
    #[arg(long, group = "tool")]
    pub(crate) pipe: bool,
    /// List keys, those that begin with --prefix if it is said: the same as SCAN.
    #[arg(long, group = "tool")]
    pub(crate) scan: bool,
    /// Find the largest values. Reads every value once, or those of --prefix.
    #[arg(long, group = "tool")]
    pub(crate) bigkeys: bool,
    /// Show the keys that are asked for most: the same as CLUSTER HOTKEYS.
    #[arg(long, group = "tool")]
    pub(crate) hotkeys: bool,
    /// Measure how long a round trip takes, or a COMMAND on keys, with a live histogram: 100 per second, or one per -i.
    #[arg(long, group = "tool")]
    pub(crate) latency: bool,
    /// Show what the cluster does, a line per second, or per -i.
    #[arg(long, group = "tool")]
    pub(crate) stat: bool,
    /// Measure for so many seconds how long this machine keeps a busy program from running. Asks no cluster.
    #[arg(long, group = "tool", value_name = "SECONDS", value_parser = parse_span)]
    pub(crate) intrinsic_latency: Option<f64>,
    /// Only keys that begin so, for --scan and --bigkeys.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<OsString>,
    /// End --latency or --stat after so many seconds; by default ctrl-c does, and --latency takes 10 s without a terminal.
    #[arg(long = "for", value_name = "SECONDS", value_parser = parse_span)]
    pub(crate) lasts: Option<f64>,
    /// The same as kvorum-cli completions SHELL.
    #[arg(long, value_enum, value_name = "SHELL", hide = true)]
    pub(crate) completions: Option<clap_complete::Shell>,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum AckArg {
    /// Once a quorum has persisted it.
    Committed,
    /// Once the leader has it in its log; may be lost.
    Accepted,
}

impl From<AckArg> for Ack {
    fn from(ack: AckArg) -> Self {
        match ack {
            AckArg::Committed => Self::Committed,
            AckArg::Accepted => Self::Accepted,
        }
    }
}

/// What takes samples until something ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    pub(crate) every: Duration,
    pub(crate) samples: u64,
    pub(crate) lasts: Duration,
}

/// What the program does in place of commands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Tool {
    Pipe,
    BigKeys { prefix: Bytes, pause: Duration },
    Latency(Pace),
    Stat(Pace),
    Intrinsic(Duration),
}

/// How long a write of --pipe may take unless --timeout says otherwise: an election must not end a load.
const PIPE_DEADLINE: Duration = Duration::from_secs(30);
/// Seconds between two samples of --latency, unless -i says otherwise.
const LATENCY_EVERY_S: f64 = 0.01;
/// Seconds that --latency takes where nobody sees it.
const LATENCY_UNSEEN_S: f64 = 10.0;
/// Seconds between two lines of --stat, unless -i says otherwise.
const STAT_EVERY_S: f64 = 1.0;

impl Args {
    /// Understands the process's arguments, the program's name first.
    ///
    /// # Errors
    /// What clap says, help included.
    pub(crate) fn parse_all(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let args = Self::parse_settled(&arguments)?;
        let (front, command) = arguments.split_at(arguments.len() - args.command.len());
        let is_closed = front.last().is_some_and(|last| last == OPTIONS_END);
        let (command, options) = split_options(command, args.last_from_stdin);
        if is_closed || (options.is_empty() && command.len() == args.command.len()) {
            return Ok(args);
        }
        Self::parse_settled(&[front, &options, &[OPTIONS_END.into()], &command].concat())
    }

    fn parse_settled(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(arguments)?;
        let is_said = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let said = ["user", "password_file", "token_file"].map(is_said);
        let mut args = Self::from_arg_matches(&matches)?;
        args.settle_who(said, std::env::var("KVORUM_USER").ok().as_deref())
            .map_err(|problem| Self::command().error(ErrorKind::ArgumentConflict, problem))?;
        Ok(args)
    }

    /// Who the client is: what the command line says of it wins over the environment. `said` is whether the user, the file of a
    /// password and that of a token stand on the command line; `usual` is the user of the environment, whose password is there.
    fn settle_who(&mut self, said: [bool; 3], usual: Option<&str>) -> Result<(), &'static str> {
        let [user_said, password_said, token_said] = said;
        match (user_said || password_said, token_said) {
            (true, true) => return Err("--token-file stands for a user; leave --user and --password-file out"),
            (false, true) => (self.user, self.password_file) = (None, None),
            (true, false) => self.token_file = None,
            (false, false) if self.user.is_some() && self.token_file.is_some() => {
                return Err("KVORUM_USER and KVORUM_TOKEN_FILE are both set; leave one of them out");
            }
            (false, false) => {}
        }
        if self.user.is_none() && self.password_file.is_some() {
            return Err("the password's user is missing: --user NAME or KVORUM_USER");
        }
        let usual = usual.filter(|usual| !usual.is_empty());
        self.is_another = user_said && usual.is_some_and(|usual| self.user.as_deref() != Some(usual));
        if self.is_another && !password_said {
            self.password_file = None;
        }
        Ok(())
    }

    /// How long a command may take.
    pub(crate) fn deadline(&self) -> Duration {
        let unsaid = if self.pipe { PIPE_DEADLINE } else { DEADLINE_DEFAULT };
        self.timeout.map_or(unsaid, |ms| Duration::from_millis(ms.into()))
    }

    /// The tool that was asked for, if one was, with what else belongs to it.
    ///
    /// # Errors
    /// What does not go together, in a sentence.
    pub(crate) fn tool(&self, stdout_is_terminal: bool) -> Result<Option<Tool>, String> {
        let span = Duration::from_secs_f64;
        let name = match self {
            Self { pipe: true, .. } => "--pipe",
            Self { scan: true, .. } => "--scan",
            Self { bigkeys: true, .. } => "--bigkeys",
            Self { hotkeys: true, .. } => "--hotkeys",
            Self { latency: true, .. } => "--latency",
            Self { stat: true, .. } => "--stat",
            Self { intrinsic_latency: Some(_), .. } => "--intrinsic-latency",
            _ => "",
        };
        let refused = [
            (
                !self.command.is_empty() && !name.is_empty() && name != "--latency",
                "is a command of its own; leave the COMMAND out",
            ),
            (
                self.prefix.is_some() && !["--scan", "--bigkeys"].contains(&name),
                "--prefix goes with --scan and --bigkeys",
            ),
            (self.lasts.is_some() && !["--latency", "--stat"].contains(&name), "--for goes with --latency and --stat"),
        ];
        if let Some((_, problem)) = refused.into_iter().find(|(is_so, _)| *is_so) {
            return Err(if problem.starts_with("--") { problem.to_owned() } else { format!("{name} {problem}") });
        }
        let prefix = || Bytes::from(self.prefix.clone().unwrap_or_default().into_vec());
        let pace = |every: f64, lasts: Option<f64>| Pace {
            every: span(self.interval.unwrap_or(every)),
            samples: self.repeat.unwrap_or(u64::MAX),
            lasts: self.lasts.or(lasts.filter(|_| self.repeat.is_none())).map_or(Duration::MAX, span),
        };
        Ok(match name {
            "--pipe" => Some(Tool::Pipe),
            "--bigkeys" => Some(Tool::BigKeys { prefix: prefix(), pause: span(self.interval.unwrap_or(0.0)) }),
            "--latency" => {
                Some(Tool::Latency(pace(LATENCY_EVERY_S, (!stdout_is_terminal).then_some(LATENCY_UNSEEN_S))))
            }
            "--stat" => Some(Tool::Stat(pace(STAT_EVERY_S, None))),
            "--intrinsic-latency" => self.intrinsic_latency.map(|lasts| Tool::Intrinsic(span(lasts))),
            _ => None,
        })
    }

    /// Whether commands are read, since there is none here.
    pub(crate) fn is_shell(&self) -> bool {
        let is_tool = self.pipe || self.bigkeys || self.latency || self.stat || self.intrinsic_latency.is_some();
        self.words().is_empty() && !is_tool
    }

    /// The command's words. --scan and --hotkeys are other names of commands.
    pub(crate) fn words(&self) -> Vec<Word> {
        let bare = |text: &str| Word::bare(text.as_bytes().to_vec());
        if self.hotkeys {
            return ["CLUSTER", "HOTKEYS"].map(bare).to_vec();
        }
        if self.scan {
            let prefix = self.prefix.clone().map(|prefix| Word { is_quoted: true, ..Word::bare(prefix.into_vec()) });
            return [bare("SCAN")].into_iter().chain(prefix).collect();
        }
        self.command.iter().map(|word| Word::bare(word.clone().into_vec())).collect()
    }

    /// The format that was asked for, or the one that fits where the output goes.
    pub(crate) fn format(&self, stdout_is_terminal: bool) -> Format {
        match (self.json, self.csv, self.raw) {
            (true, ..) => Format::Json,
            (_, true, _) => Format::Csv,
            (_, _, true) => Format::Raw,
            _ if stdout_is_terminal => Format::Human,
            _ => Format::Raw,
        }
    }
}

/// What stands behind it is no option.
const OPTIONS_END: &str = "--";

/// Takes the long options out of a command's words. Arguments that must be there are what they are, whatever they look like: no
/// key or value of a script becomes an option by chance.
fn split_options(words: &[OsString], last_from_stdin: bool) -> (Vec<OsString>, Vec<OsString>) {
    let spec = words.first().and_then(|name| name.to_str()).and_then(commands::find);
    let Some(spec) = spec else { return (words.to_vec(), Vec::new()) };
    let arguments = spec.arguments_min().saturating_sub(usize::from(last_from_stdin));
    let (kept, rest) = words.split_at(words.len().min(1 + arguments));
    let mut program = Args::command();
    program.build();
    let (mut command, mut options) = (kept.to_vec(), Vec::new());
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if word == OPTIONS_END {
            command.extend(rest.by_ref().cloned());
            break;
        }
        match option(&program, word) {
            None => command.push(word.clone()),
            Some(wants_value) => {
                options.push(word.clone());
                options.extend(rest.by_ref().take(usize::from(wants_value)).cloned());
            }
        }
    }
    (command, options)
}

/// Whether a word is a long option of the program, and if so, whether its value is the next word.
fn option(program: &Command, word: &OsStr) -> Option<bool> {
    let name = word.to_str()?.strip_prefix("--")?;
    let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
    let found = program.get_arguments().find(|argument| argument.get_long() == Some(name))?;
    Some(found.get_action().takes_values() && value.is_none())
}

/// The program as shells should complete it: with its commands, which in truth are arguments.
pub(crate) fn for_completion() -> Command {
    let program = Args::command();
    let options: Vec<_> = program.get_arguments().filter(|argument| argument.get_id() != "command").cloned().collect();
    let name = |name: &'static str, help: &'static str| Command::new(name).about(help);
    let all = || COMMANDS.iter().map(|spec| name(spec.name, spec.help));
    let command = |spec: &commands::CommandSpec| {
        let command = name(spec.name, spec.help);
        match spec.verb {
            Verb::Cluster => command.subcommands(CLUSTER_VIEWS.iter().map(|(view, help)| name(view, help))),
            Verb::Help => command.subcommands(all()),
            _ => command,
        }
        .disable_help_subcommand(true)
        .disable_help_flag(true)
    };
    Command::new("kvorum-cli")
        .version(env!("CARGO_PKG_VERSION"))
        .args(options.into_iter().map(|option| option.global(true)))
        .subcommands(COMMANDS.iter().map(command))
        .disable_help_subcommand(true)
}

fn parse_timeout(text: &str) -> Result<u32, String> {
    whole(text, 1..=600_000)
}

fn parse_repeat(text: &str) -> Result<u64, String> {
    whole(text, 1..=u64::MAX)
}

fn parse_pipeline(text: &str) -> Result<usize, String> {
    whole(text, 1..=IN_FLIGHT_DEFAULT as u64)
}

fn whole<N: TryFrom<u64>>(text: &str, allowed: RangeInclusive<u64>) -> Result<N, String> {
    let number =
        text.parse().ok().filter(|number| allowed.contains(number)).and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| format!("must be a whole number from {} to {}", allowed.start(), allowed.end()))
}

fn parse_span(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be from 0.1 to 86400 seconds".to_owned()),
    }
}

fn parse_interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be from 0 to 86400 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::parse_all(["kvorum-cli"].into_iter().chain(line.split(' ')).map(OsString::from))
    }

    #[test]
    fn the_options_are_consistent() {
        Args::command().debug_assert();
        for_completion().debug_assert();
    }

    #[test]
    fn options_may_stand_on_both_sides_of_a_command() {
        let args = parsed("--json INCR k -5 --stale --timeout 70").unwrap();
        assert_eq!(args.command, ["INCR", "k", "-5"]);
        assert!(args.json && args.stale);
        assert_eq!((args.timeout, args.format(true)), (Some(70), Format::Json));
        let args = parsed("SCAN --csv user: --url=kv://a LIMIT 3").unwrap();
        assert_eq!((args.csv, args.url.as_str()), (true, "kv://a"));
        assert_eq!(args.command, ["SCAN", "user:", "LIMIT", "3"]);
        assert_eq!(parsed("MGET a --json b").unwrap().command, ["MGET", "a", "b"]);
        assert_eq!(parsed("-x PUT k --json").unwrap().command, ["PUT", "k"]);
    }

    #[test]
    fn a_key_or_value_that_looks_like_an_option_is_none() {
        for (line, command) in [
            ("PUT k --json", "PUT k --json"),
            ("GET --timeout", "GET --timeout"),
            ("PUT --yes --stale --raw", "PUT --yes --stale"),
            ("CAS k 0 --json", "CAS k 0 --json"),
            ("MPUT a --csv --raw", "MPUT a --csv"),
            ("-- MGET a --json", "MGET a --json"),
            ("MGET a -- --json --csv", "MGET a --json --csv"),
            ("GET k --unheard-of", "GET k --unheard-of"),
            ("GET k -r", "GET k -r"),
            ("FROB --json", "FROB --json"),
        ] {
            let command: Vec<_> = command.split(' ').collect();
            assert_eq!(parsed(line).unwrap().command, command, "{line}");
        }
        assert!(!parsed("-- MGET a --json").unwrap().json);
    }

    #[test]
    fn options_behind_a_command_are_checked_like_those_before_it() {
        for line in
            ["GET k --timeout 0", "GET k --timeout", "GET k --json --csv", "--json GET k --raw", "GET k --ack=x"]
        {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parsed("GET k --help").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn shells_complete_commands_and_views() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut for_completion(), "kvorum-cli", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["EXPLAIN", "SHARDS", "json", "timeout"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn tools_are_told_from_commands() {
        let tool = |line: &str| parsed(line).unwrap().tool(true);
        let seconds = Duration::from_secs;
        assert_eq!(tool("--pipe"), Ok(Some(Tool::Pipe)));
        assert_eq!(tool("GET k"), Ok(None));
        assert_eq!(
            tool("--bigkeys --prefix user:"),
            Ok(Some(Tool::BigKeys { prefix: "user:".into(), pause: seconds(0) }))
        );
        assert_eq!(tool("--intrinsic-latency 3"), Ok(Some(Tool::Intrinsic(seconds(3)))));
        let pace = |every_ms, samples, lasts| Pace { every: Duration::from_millis(every_ms), samples, lasts };
        assert_eq!(tool("--stat"), Ok(Some(Tool::Stat(pace(1000, u64::MAX, Duration::MAX)))));
        assert_eq!(tool("--latency -i 0.5 -r 7 GET k"), Ok(Some(Tool::Latency(pace(500, 7, Duration::MAX)))));
        let unseen = parsed("--latency").unwrap().tool(false);
        assert_eq!(unseen, Ok(Some(Tool::Latency(pace(10, u64::MAX, seconds(10))))), "it ends where nobody can end it");
        for (line, told) in [
            ("--pipe GET k", "--pipe is a command of its own; leave the COMMAND out"),
            ("--prefix a GET k", "--prefix goes with --scan and --bigkeys"),
            ("--pipe --for 3", "--for goes with --latency and --stat"),
        ] {
            assert_eq!(tool(line), Err(told.to_owned()));
        }
        assert_eq!(parsed("--pipe --stat").unwrap_err().exit_code(), 2);
        let words =
            |line: &str| parsed(line).unwrap().words().iter().map(|word| word.text().into_owned()).collect::<Vec<_>>();
        assert_eq!(words("--hotkeys"), ["CLUSTER", "HOTKEYS"]);
        assert_eq!(words("--scan --prefix LIMIT"), ["SCAN", "LIMIT"]);
    }

    #[test]
    fn the_password_of_the_environment_is_its_users() {
        let set = |user: Option<&str>, password: Option<&str>, token: Option<&str>| Args {
            user: user.map(str::to_owned),
            password_file: password.map(str::to_owned),
            token_file: token.map(str::to_owned),
            ..Args::try_parse_from(["kvorum-cli"]).unwrap()
        };
        let settled = |mut args: Args, said, usual| {
            let problem = args.settle_who(said, usual);
            problem.map(|()| (args.user, args.password_file, args.token_file, args.is_another))
        };
        let text = |text: &str| Some(text.to_owned());
        let (usual, file) = (Some("admin"), Some("secret"));
        let user_said = [true, false, false];
        assert_eq!(
            settled(set(usual, file, None), [false; 3], usual),
            Ok((text("admin"), text("secret"), None, false))
        );
        assert_eq!(settled(set(usual, file, None), user_said, usual), Ok((text("admin"), text("secret"), None, false)));
        assert_eq!(settled(set(Some("ada"), file, None), user_said, usual), Ok((text("ada"), None, None, true)));
        assert_eq!(
            settled(set(Some("ada"), file, None), user_said, None),
            Ok((text("ada"), text("secret"), None, false))
        );
        let both_said = [true, true, false];
        assert_eq!(
            settled(set(Some("ada"), file, None), both_said, usual),
            Ok((text("ada"), text("secret"), None, true))
        );
        let token = Some("token");
        assert_eq!(
            settled(set(usual, file, token), [false, false, true], usual),
            Ok((None, None, text("token"), false))
        );
        assert_eq!(settled(set(Some("ada"), None, token), user_said, None), Ok((text("ada"), None, None, false)));
        assert!(settled(set(usual, None, token), [false; 3], usual).is_err());
        assert!(settled(set(usual, None, token), [true, false, true], usual).is_err());
        assert!(settled(set(None, file, None), [false, true, false], None).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--json --csv", "-i -1", "--ack maybe"] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for line in
            ["--timeout 0", "--timeout x", "--timeout 600001", "-r 0", "-r -1", "--pipeline 0", "--pipeline 1025"]
        {
            let error = parsed(line).unwrap_err();
            assert!(error.to_string().contains("must be a whole number from 1 to "), "{line}: {error}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
