//! `gatepost serve`: the daemon, in the foreground; systemd and its kin do the rest.

use super::{Exit, trouble};
use crate::{config, daemon, disk, os};
use argh::FromArgs;
use std::path::Path;

/// run the daemon in the foreground until SIGTERM or Ctrl-C; SIGHUP reads configuration, users, aliases, certificate and
/// DKIM keys again. Started as root it becomes the configuration's `user` once the ports are bound
#[derive(FromArgs)]
#[argh(subcommand, name = "serve")]
pub(crate) struct Args {
    /// log level: error, warn, info, debug (default: `log` of the configuration)
    #[argh(option)]
    log: Option<String>,
}

pub(crate) fn run(args: &Args, config: &Path) -> Exit {
    if let Some(level) = args.log.as_deref().filter(|l| l.parse::<log::LevelFilter>().is_err()) {
        return trouble(&format!("--log {level} is not a level: write error, warn, info or debug"));
    }
    let (config, warnings) = match config::load(config) {
        Ok(c) => c,
        Err(problems) => {
            for p in &problems {
                eprintln!("{p}");
            }
            return trouble("the configuration is wrong; nothing was started (`gatepost check` says the same)");
        }
    };
    super::start_log(args.log.as_deref().unwrap_or(&config.log));
    daemon::warn(&warnings);
    disk::fault::arm_from_env();
    if let Err(e) = os::blocking_threads(config.limits.threads) {
        return trouble(&e);
    }
    match daemon::run(config) {
        Ok(()) => Exit::Ok,
        Err(e) => trouble(&e),
    }
}
