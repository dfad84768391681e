//! `gatepost demo`

use super::Exit;
use argh::FromArgs;

/// run the whole server in a throwaway directory and show a message's way
#[derive(FromArgs)]
#[argh(subcommand, name = "demo")]
pub(crate) struct Args {}

pub(crate) fn run(args: &Args) -> Exit {
    let _ = args;
    todo!("cli")
}
