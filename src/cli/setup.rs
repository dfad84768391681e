//! `gatepost setup`

use super::Exit;
use argh::FromArgs;

/// write a first configuration, keys and user; print the DNS records
#[derive(FromArgs)]
#[argh(subcommand, name = "setup")]
pub(crate) struct Args {}

pub(crate) fn run(args: &Args, _config: &std::path::Path) -> Exit {
    let _ = args;
    todo!("cli")
}
