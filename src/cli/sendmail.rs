//! `sendmail`, `mailq`, `newaliases`: the names every Debian program expects.

use super::Exit;

pub(crate) fn main(called: &str, args: &[String]) -> Exit {
    let _ = (called, args);
    todo!("cli")
}
