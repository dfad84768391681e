//! `gatepost queue`

use super::Exit;
use argh::FromArgs;

/// look at and act on the outbound queue
#[derive(FromArgs)]
#[argh(subcommand, name = "queue")]
pub(crate) struct Args {}

pub(crate) fn run(args: &Args, _config: &std::path::Path) -> Exit {
    let _ = args;
    todo!("cli")
}
