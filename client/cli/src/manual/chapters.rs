//! The chapters that the manual page and docs/CLI.md have in common, as text without a form. Pure.

use crate::commands::{COMMANDS, CommandSpec, GROUPS};

/// A chapter.
pub(super) struct Chapter {
    pub(super) title: &'static str,
    pub(super) parts: Vec<Part>,
}

/// A part of a chapter.
pub(super) enum Part {
    Text(&'static str),
    /// Something, and what it means.
    Terms(Vec<(String, String)>),
    /// What is typed, or shown.
    Code(&'static str),
    /// A heading below the chapter's.
    Heading(&'static str),
}

use Part::{Code, Heading, Text};

/// What stands behind the options.
pub(super) fn all() -> Vec<Chapter> {
    vec![commands(), output(), load(), tools(), shell(), exit_codes(), environment(), files(), examples()]
}

fn terms(terms: &[(&str, &str)]) -> Part {
    Part::Terms(terms.iter().map(|(term, meaning)| ((*term).to_owned(), (*meaning).to_owned())).collect())
}

fn commands() -> Chapter {
    let mut parts = vec![Text(
        "A word with blanks stands in quotes. Outside of single quotes \\n \\r \\t \\0 \\\\ \\\" \\' and \\xHH are escapes, so any bytes can be \
         written. Names of commands and options may be small letters. HELP and the name of a command says more.",
    )];
    for (group, title) in GROUPS {
        let of_group = COMMANDS.iter().filter(|command| command.group == group);
        parts.extend([Heading(title), Part::Terms(of_group.map(term).collect())]);
    }
    Chapter { title: "Commands", parts }
}

fn term(command: &CommandSpec) -> (String, String) {
    let also = match command.aliases {
        [] => String::new(),
        aliases => format!(" Also: {}.", aliases.join(", ")),
    };
    (command.usage(), format!("{}{also}", command.help))
}

fn output() -> Chapter {
    let parts = vec![
        Text(
            "People get text that fits the terminal, in colours unless NO_COLOR is set or TERM is dumb. Programs get plain values, a \
             line each: so it is where stdout is no terminal. A single value is printed byte for byte, with no line end behind it. \
             Errors and progress go to stderr.",
        ),
        terms(&[
            ("--json", "an object per line, with fields that are never renamed; errors on stderr are objects, too"),
            ("--csv", "one header per command; columns such as key_encoding say utf8 or base64"),
            ("--raw", "plain values on a terminal, too"),
        ]),
    ];
    Chapter { title: "Output", parts }
}

fn load() -> Chapter {
    let parts = vec![
        Code("kvorum-cli --pipe < commands.txt\ngenerate | kvorum-cli --pipe --json"),
        Text(
            "--pipe writes many keys. It reads stdin to its end and takes two forms, which may be mixed. A command that begins with * is \
             RESP, the protocol of Redis: an array of bulk strings, as made for redis-cli --pipe. Every other line is a command as in a \
             script: PUT key value TTL 10s. Blank lines and lines that begin with # count as lines, and do nothing.",
        ),
        Text(
            "It takes writes only: PUT, DEL, CAS, INCR, DECR, APPEND, SETRANGE, EXPIRE, PERSIST, MPUT; and what Redis calls SET, MSET, \
             SETNX, SETEX, PSETEX, PEXPIRE, UNLINK, and DEL of several keys. SELECT 0 does nothing. A command that reads, and one that \
             returns what was there, is refused.",
        ),
        Text(
            "Writes go out in batches: at most 1024 writes each, at most 8 batches at a time, and no further batch once 32 MiB \
             are under way. So the memory it takes does not depend on the input. Writes to one key take effect in their order: one waits \
             until the one before it is answered. A file that writes one key over and over is therefore as slow as round trips are.",
        ),
        Text(
            "Each write takes effect at most once, also if it had to be sent again after a failover: it keeps its number. That holds for one \
             run. A second run of the same file writes everything again.",
        ),
        Text(
            "An error names its line, or the number of its RESP command, and the load goes on. A condition that does not hold is no error: it \
             counts as not applied. A write is given up after 30 s, or --timeout. Then, and on ctrl-c, nothing more is \
             sent, what is under way is waited for, and the last line that was sent is named. A second ctrl-c does not wait. The \
             exit code is that of the first error: 2 for a line that is no write, 1 for one that the cluster refused or an interruption, 3 if the \
             cluster gave no answer.",
        ),
        terms(&[
            ("commands", "commands that were read"),
            ("applied", "writes that took effect"),
            ("not_applied", "writes whose condition did not hold, or that had nothing to change"),
            ("failed", "lines that are no write, and writes that ended with an error"),
            ("outcome_unknown", "of the failed ones: writes that may have taken effect"),
            ("keys_per_second", "writes that were answered, by the time it all took"),
        ]),
    ];
    Chapter { title: "Loading many keys", parts }
}

fn tools() -> Chapter {
    let parts = vec![
        Text(
            "Each of these ends with ctrl-c, and then says what it has seen. What changes in place is on stderr, and only if that is a terminal.",
        ),
        Heading("--bigkeys"),
        Text(
            "Lists the 20 largest values, and for people how large values are. It reads every value once: it costs the bytes of all \
             values on the network, and as much work of the leaders, or of any replica with --stale. --prefix reads those keys only, \
             -i rests so many seconds after each 512 keys. Its memory is one page of 1 MiB (or one larger value) and the list. Like SCAN it is no \
             snapshot.",
        ),
        Heading("--hotkeys"),
        Text(
            "Shows the keys that nodes are asked for most, as the nodes themselves say. Each shard replica counts with 48 counters for reads \
             and 48 for writes (Space-Saving), halved every five seconds, so figures are estimates of the last seconds. A busy shard looks at \
             a random part of its operations. A key is listed from 1 % of its replica's reads or writes on. Nothing is sampled by this program.",
        ),
        Heading("--latency"),
        Text(
            "Measures PING, or the command that follows, one after the other: 100 per second, or one per -i. It is the time that this \
             program waits, retries included. PING asks one node, without a disk; PUT key value measures a write with its quorum. \
             Commands on keys only. Percentiles come from a histogram of three digits, whatever the number of samples. -r ends it after \
             so many samples, --for after so many seconds; where stdout is no terminal it takes 10 s.",
        ),
        Code("kvorum-cli --latency\nkvorum-cli --latency GET greeting --for 10\nkvorum-cli --latency --json -r 1000"),
        Heading("--stat"),
        Text(
            "A line per second, or per -i, out of what nodes say of themselves. Writes are those that took effect, over all shards. \
             Reads are not among it: the metrics of each node have them. A node that does not answer is missing from the sums.",
        ),
        terms(&[
            ("nodes", "nodes that answer, of all"),
            ("led", "shards that have a leader, of all"),
            ("keys", "as the leaders count them; - while some do not answer"),
            ("writes/s", "writes that took effect"),
            ("syncs/s", "rounds of the journals, of all nodes: one write and one sync each"),
            ("cpu", "of all nodes; 100 % is one processor"),
            ("memory", "resident, of all nodes, mapped pages of the logs included"),
            ("clients", "connections at the binary door of all nodes"),
            ("refused/s", "requests that were answered Overloaded"),
            ("lag", "entries that the slowest replica of any shard is behind"),
        ]),
        Text(
            "JSON and CSV call them elapsed_ms, nodes_up, shards_led, keys, writes_per_second, syncs_per_second, cpu_percent, \
             memory_bytes, clients, overloaded_per_second and lag.",
        ),
        Heading("--intrinsic-latency"),
        Text(
            "Looks at the clock without a pause for so many seconds, and shows for how long this machine kept it from that: no program on \
             this machine answers faster. It takes one processor, and asks no cluster.",
        ),
    ];
    Chapter { title: "Measuring and watching", parts }
}

fn shell() -> Chapter {
    let parts = vec![
        Text(
            "Without a COMMAND on a terminal there is a shell, the same that kvorum dev has in front. While a line is typed, commands, options \
             and quoted words have colours, what is no command is red, and the arguments that are missing stand behind the cursor. \
             An open quote goes on in the next line. Several pasted lines are several commands.",
        ),
        terms(&[
            ("tab", "completes commands, views and options"),
            ("right, end", "takes the rest of the line from the history"),
            ("ctrl-r", "searches the history"),
            ("ctrl-c", "empties the line, or interrupts the command that runs"),
            ("ctrl-d", "leaves; so does QUIT"),
        ]),
        Text(
            "A list that does not fit the screen goes through a pager: KVORUM_PAGER, PAGER, or less. Leaving the pager ends the command. \
             An empty KVORUM_PAGER, or cat, turns that off.",
        ),
        Text("Without a terminal, stdin is a script: a command per line. One that fails does not stop the others."),
    ];
    Chapter { title: "The shell", parts }
}

fn exit_codes() -> Chapter {
    let parts = vec![terms(&[
        ("0", "done"),
        ("1", "an error of the cluster; or the output can't be written; or an interruption"),
        ("2", "the command makes no sense"),
        ("3", "no node could be reached, or none answered in time"),
        ("4", "no such key, or another version"),
    ])];
    Chapter { title: "Exit codes", parts }
}

fn environment() -> Chapter {
    let parts = vec![
        Text(
            "Options win over variables. The password of a variable is that of KVORUM_USER: for another --user you are asked. A password never stands on the command line, which others can read.",
        ),
        terms(&[
            ("KVORUM_URL", "the cluster, as --url"),
            ("KVORUM_USER, KVORUM_PASSWORD, KVORUM_PASSWORD_FILE", "who you are; without the last two you are asked"),
            ("KVORUM_TOKEN, KVORUM_TOKEN_FILE", "a token instead"),
            ("KVORUM_TLS, KVORUM_CA, KVORUM_CERT, KVORUM_KEY, KVORUM_SERVER_NAME", "as the options of these names"),
            ("KVORUM_PAGER, PAGER, LESS", "how long lists are shown in the shell"),
            ("NO_COLOR, TERM", "no colours if the one is set, or the other is dumb"),
            ("XDG_STATE_HOME", "where the history is kept"),
        ]),
    ];
    Chapter { title: "Environment", parts }
}

fn files() -> Chapter {
    let parts = vec![terms(&[(
        "~/.local/state/kvorum/history",
        "what was typed, values included; only its owner can read it, and a line that begins with a blank is not kept",
    )])];
    Chapter { title: "Files", parts }
}

fn examples() -> Chapter {
    let parts = vec![Code(
        "kvorum-cli GET greeting --json\n\
         kvorum-cli -x PUT notes < notes.txt\n\
         kvorum-cli --scan --prefix user: | wc -l\n\
         kvorum-cli --pipeline 64 < script.txt\n\
         kvorum-cli completions bash > ~/.local/share/bash-completion/completions/kvorum-cli\n\
         kvorum-cli completions zsh > ~/.zfunc/_kvorum-cli\n\
         kvorum-cli completions fish > ~/.config/fish/completions/kvorum-cli.fish\n\
         kvorum-cli man ~/.local/share/man/man1",
    )];
    Chapter { title: "Examples", parts }
}
