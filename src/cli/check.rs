//! `gatepost check`: everything that a start would refuse, without starting anything.

use super::{Exit, queue::quote, trouble};
use crate::{
    accounts::Accounts,
    config::{self, Config, Problem},
    net::tls::Acceptor,
};
use argh::FromArgs;
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// check configuration, users, aliases and certificate without starting anything. Exit status: 0 all is well (there may
/// be warnings), 1 something is wrong, 2 there is no configuration to read
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
pub(crate) struct Args {
    /// print the effective configuration: every key with its value and what it is for
    #[argh(switch)]
    defaults: bool,
    /// print problems as a JSON array of objects with file, line, warning and text
    #[argh(switch)]
    json: bool,
    /// print gatepost.conf(5) in roff
    #[argh(switch, hidden_help)]
    man: bool,
}

/// Exit status 1 when there is an error; warnings alone are 0; 2 when there is nothing to check.
pub(crate) fn run(args: &Args, file: &Path) -> Exit {
    if args.man {
        print!("{}", config::man());
        return Exit::Ok;
    }
    let (config, problems) = problems(file);
    let bad = problems.iter().any(|p| !p.warning);
    if args.defaults {
        problems.iter().for_each(|p| eprintln!("{p}"));
        match config {
            Some(config) => print!("{}", config::render(&config)),
            None => return trouble("there is no effective configuration while these problems last"),
        }
    } else if args.json {
        println!("[{}]", problems.iter().map(json).collect::<Vec<_>>().join(",\n "));
    } else {
        problems.iter().for_each(|p| println!("{p}"));
        if !bad {
            eprintln!("gatepost: {} is fine", file.display());
        }
    }
    match (bad, std::fs::File::open(file)) {
        (false, _) => Exit::Ok,
        (true, Ok(_)) => Exit::Found,
        (true, Err(_)) => Exit::Trouble,
    }
}

/// The configuration, when it can be read, and all that is wrong with it and the files it names.
pub(super) fn problems(file: &Path) -> (Option<Config>, Vec<Problem>) {
    let (config, mut problems) = match config::load(file) {
        Ok((config, problems)) => (config, problems),
        Err(problems) => return (None, problems),
    };
    let (Ok((_, more)) | Err(more)) = Accounts::load(&config).map(|(a, p)| (drop(a), p));
    problems.extend(more);
    if config.tls.cert.is_some()
        && let Err(text) = Acceptor::load(&config.tls)
    {
        problems.push(Problem { file: config.file.clone(), line: 0, text: format!("tls: {text}"), warning: false });
    }
    problems.extend(unreadable(&config));
    if std::fs::metadata(&config.users).is_ok_and(|m| m.mode() & 0o004 != 0) {
        let text = "everybody on this host can read the password hashes: chmod o-rwx it".to_owned();
        problems.push(Problem { file: config.users.clone(), line: 0, text, warning: true });
    }
    (Some(config), problems)
}

/// As root: files that the daemon's user will not be able to read, at the latest on reload.
fn unreadable(config: &Config) -> Vec<Problem> {
    let Some(name) = config.user.as_deref().filter(|_| nix::unistd::geteuid().is_root()) else { return Vec::new() };
    let Ok(Some(user)) = nix::unistd::User::from_name(name) else {
        let text = format!("user: there is no system user {name}: adduser --system --group --home {} {name}", config.state.display());
        return vec![Problem { file: config.file.clone(), line: 0, text, warning: false }];
    };
    let groups: Vec<u32> = std::ffi::CString::new(name)
        .ok()
        .and_then(|n| nix::unistd::getgrouplist(&n, user.gid).ok())
        .map_or_else(|| vec![user.gid.as_raw()], |list| list.iter().map(|g| g.as_raw()).collect());
    let mut files: Vec<&PathBuf> = vec![&config.file, &config.users, &config.aliases];
    files.extend([&config.tls.cert, &config.tls.key].into_iter().flatten());
    files.extend(config.routes.iter().filter_map(|r| r.password_file.as_ref()));
    let hidden = files.into_iter().filter(|f| f.exists() && !reads(f, user.uid.as_raw(), &groups));
    let problem = |f: &PathBuf| {
        let text = format!("the daemon's user {name} cannot read this file: chgrp {name} and chmod g+r it, and chmod g+x its folders");
        Problem { file: f.clone(), line: 0, text, warning: false }
    };
    hidden.map(problem).collect()
}

/// May this user read the file, and enter all folders above it? Access lists are not looked at.
fn reads(file: &Path, uid: u32, groups: &[u32]) -> bool {
    let may = |path: &Path, bit: u32| {
        std::fs::metadata(path).is_ok_and(|m| {
            let shift = if m.uid() == uid {
                6
            } else if groups.contains(&m.gid()) {
                3
            } else {
                0
            };
            m.mode() >> shift & bit == bit
        })
    };
    let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let enter = |path: &Path| path.ancestors().skip(1).all(|folder| may(folder, 1));
    may(&real, 4) && enter(&real) && enter(file)
}

fn json(problem: &Problem) -> String {
    let file = quote(&problem.file.to_string_lossy());
    format!("{{\"file\": {file}, \"line\": {}, \"warning\": {}, \"text\": {}}}", problem.line, problem.warning, quote(&problem.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_json() {
        let p = Problem { file: "/x".into(), line: 3, text: "t".into(), warning: true };
        assert_eq!(json(&p), "{\"file\": \"/x\", \"line\": 3, \"warning\": true, \"text\": \"t\"}");
    }
}
