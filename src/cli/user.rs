//! `gatepost user`

use super::Exit;
use argh::FromArgs;

/// add, list, remove users and change passwords
#[derive(FromArgs)]
#[argh(subcommand, name = "user")]
pub(crate) struct Args {}

pub(crate) fn run(args: &Args, _config: &std::path::Path) -> Exit {
    let _ = args;
    todo!("cli")
}
