//! The effective configuration as a file, and what of a change needs a restart.

use super::{
    Config,
    keys::{KEYS, Key, ROUTE_KEYS, ROUTE_TEXT, SECTIONS},
};

/// The effective configuration as a file that [`super::load`] reads back, each key with its text. Secrets stay in their files.
pub fn render(config: &Config) -> String {
    let mut config = config.clone();
    let mut out = format!("# Effective configuration of {}: every key with its value.\n", config.file.display());
    for (section, text) in SECTIONS {
        out.push('\n');
        comment(&mut out, text);
        if !section.is_empty() {
            out.push_str(&format!("[{section}]\n"));
        }
        for key in KEYS.iter().filter(|k| k.path.rsplit_once('.').map_or("", |(s, _)| s) == *section) {
            line(&mut out, key, &mut config);
        }
    }
    out.push('\n');
    comment(&mut out, ROUTE_TEXT);
    for route in &mut config.routes {
        out.push_str("[[route]]\n");
        for key in ROUTE_KEYS {
            line(&mut out, key, route);
        }
    }
    out
}

fn line<T>(out: &mut String, key: &Key<T>, of: &mut T) {
    let name = key.path.rsplit_once('.').map_or(key.path, |(_, n)| n);
    out.push('\n');
    comment(out, key.text);
    match (key.slot)(of).write() {
        Some(value) => out.push_str(&format!("{name} = {value}\n")),
        None => out.push_str(&format!("# {name} =\n")),
    }
}

/// Wrapped at 100 columns.
fn comment(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.len() > 100 {
            out.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push('\n');
}

/// Keys whose change takes effect only when the daemon starts again.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (mut old, mut new) = (old.clone(), new.clone());
    KEYS.iter().filter(|k| !k.reload && (k.slot)(&mut old).write() != (k.slot)(&mut new).write()).map(|k| k.path).collect()
}
