//! `gatepost serve`

use super::Exit;
use argh::FromArgs;

/// run the daemon in the foreground
#[derive(FromArgs)]
#[argh(subcommand, name = "serve")]
pub(crate) struct Args {}

pub(crate) fn run(args: &Args, _config: &std::path::Path) -> Exit {
    let _ = args;
    todo!("cli")
}
