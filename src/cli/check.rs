//! `gatepost check`

use super::Exit;
use argh::FromArgs;

/// check configuration, users and aliases without starting anything
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
pub(crate) struct Args {}

pub(crate) fn run(args: &Args, _config: &std::path::Path) -> Exit {
    let _ = args;
    todo!("cli")
}
