//! The command line: argh verbs, one file each. Exit status 0, 1 (it found something), 2 (usage or environment).

use argh::FromArgs;
use std::{path::PathBuf, process::ExitCode};

// In the place of std's, which panic when nobody reads any more (`gatepost queue list | head`) or the disk is full.
macro_rules! print {
    ($($words:tt)*) => { $crate::cli::out::say(format_args!($($words)*)) };
}
macro_rules! println {
    () => { $crate::cli::out::say(format_args!("\n")) };
    ($($words:tt)*) => { $crate::cli::out::say(format_args!("{}\n", format_args!($($words)*))) };
}
macro_rules! eprintln {
    () => { $crate::cli::out::complain(format_args!("\n")) };
    ($($words:tt)*) => { $crate::cli::out::complain(format_args!("{}\n", format_args!($($words)*))) };
}

mod check;
mod demo;
mod out;
mod queue;
mod sendmail;
mod serve;
mod setup;
mod user;

/// Where the configuration is looked for when `--config` is not given.
pub const DEFAULT_CONFIG: &str = "/etc/gatepost/gatepost.conf";

/// gatepost: one small mail server. SMTP in and out, submission, IMAP and POP3 over plain Maildir.
#[derive(FromArgs)]
struct Args {
    /// configuration file (default: /etc/gatepost/gatepost.conf, or $GATEPOST_CONFIG)
    #[argh(option, short = 'c')]
    config: Option<PathBuf>,
    /// print version and exit
    #[argh(switch, short = 'V')]
    version: bool,
    #[argh(subcommand)]
    verb: Option<Verb>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Serve(serve::Args),
    Demo(demo::Args),
    Check(check::Args),
    Setup(setup::Args),
    User(user::Args),
    Queue(queue::Args),
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Ok = 0,
    /// It found something (as grep: no match).
    Found = 1,
    /// Wrong usage or environment.
    Trouble = 2,
}

/// Prints the chain of causes and answers [`Exit::Trouble`].
pub(crate) fn trouble(what: &str) -> Exit {
    eprintln!("gatepost: {what}");
    Exit::Trouble
}

/// Log lines on stderr. Under systemd without the time, which the journal knows, and with its priority prefix.
pub(crate) fn start_log(level: &str) {
    use std::io::Write;
    let journal = crate::os::stderr_is_journal();
    let level = level.parse().unwrap_or(log::LevelFilter::Info);
    let mut builder = env_logger::Builder::new();
    builder.filter(None, log::LevelFilter::Off).format(move |out, record| {
        if !journal {
            return writeln!(out, "{} {} {}", out.timestamp_millis(), record.level(), record.args());
        }
        let priority = match record.level() {
            log::Level::Error => 3,
            log::Level::Warn => 4,
            log::Level::Info => 6,
            log::Level::Debug | log::Level::Trace => 7,
        };
        writeln!(out, "<{priority}>{}", record.args())
    });
    // Only our rooms: a library's lines may hold what must not be logged.
    for room in crate::journal::ROOMS {
        builder.filter(Some(room), level);
    }
    let _ = builder.try_init();
}

pub fn main() -> ExitCode {
    let argv: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let called = argv.first().map(|a| a.rsplit('/').next().unwrap_or(a).to_owned()).unwrap_or_default();
    let exit = match called.as_str() {
        "sendmail" | "mailq" | "newaliases" => sendmail::main(&called, argv.get(1..).unwrap_or_default()),
        _ => match verbs(&argv) {
            Exit::Ok if out::lost() => Exit::Trouble,
            exit => exit,
        },
    };
    ExitCode::from(exit as u8)
}

/// What argh says, and what to do about it.
fn usage(said: &str, words: &[&str]) -> String {
    let said = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
    if said.ends_with(": -c") || said.ends_with(": --config") {
        return format!("{said}: it stands before the verb, as in `gatepost -c FILE check`");
    }
    let verb = words.iter().find(|w| VERBS.contains(w)).map_or(String::new(), |v| format!(" {v}"));
    format!("{said}; `gatepost{verb} --help` says what there is")
}

const VERBS: &[&str] = &["serve", "demo", "check", "setup", "user", "queue"];

fn verbs(argv: &[String]) -> Exit {
    let words: Vec<&str> = argv.iter().skip(1).map(String::as_str).collect();
    let args = match Args::from_args(&["gatepost"], &words) {
        Ok(a) => a,
        Err(early) => {
            return match early.status {
                Ok(()) => {
                    println!("{}", early.output.trim_end());
                    Exit::Ok
                }
                Err(()) => trouble(&usage(early.output.trim_end(), &words)),
            };
        }
    };
    if args.version {
        println!("gatepost {}", env!("CARGO_PKG_VERSION"));
        return Exit::Ok;
    }
    let config = args.config.or_else(|| std::env::var_os("GATEPOST_CONFIG").map(PathBuf::from)).unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    match args.verb {
        None => trouble("a verb is missing; `gatepost --help` lists them, `gatepost demo` shows the server at work"),
        Some(Verb::Serve(a)) => serve::run(&a, &config),
        Some(Verb::Demo(a)) => demo::run(&a),
        Some(Verb::Check(a)) => check::run(&a, &config),
        Some(Verb::Setup(a)) => setup::run(&a, &config),
        Some(Verb::User(a)) => user::run(&a, &config),
        Some(Verb::Queue(a)) => queue::run(&a, &config),
    }
}

#[cfg(test)]
mod tests {
    use super::usage;

    #[test]
    fn wrong_usage_hears_the_remedy() {
        const CASES: &[(&str, &[&str], &str)] = &[
            (
                "Unrecognized argument: -c",
                &["check", "-c", "f"],
                "Unrecognized argument: -c: it stands before the verb, as in `gatepost -c FILE check`",
            ),
            ("Unrecognized argument: nope", &["nope"], "Unrecognized argument: nope; `gatepost --help` says what there is"),
            ("One of:\n    add\n", &["user"], "One of: add; `gatepost user --help` says what there is"),
        ];
        for (said, words, want) in CASES {
            assert_eq!(usage(said, words), *want);
        }
    }
}
