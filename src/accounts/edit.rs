//! Changes to the text of `users` that leave every other line as it was.

use super::{AccountId, quota, users};

/// A new line at the end. `Err`: the account is there already.
pub(crate) fn add(text: &str, domains: &[String], id: &AccountId, hash: &str, quota: Option<&str>) -> Result<String, String> {
    if let Some(found) = find(text, domains, id) {
        return Err(format!("{id} stands in line {} already: gatepost user passwd {id} changes its password", found.number));
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { end };
    let quota = quota.map(|q| format!(":quota={q}")).unwrap_or_default();
    Ok(format!("{text}{gap}{id}:{hash}{quota}{end}"))
}

/// Another hash in the account's line; its other fields stay.
pub(crate) fn password(text: &str, domains: &[String], id: &AccountId, hash: &str) -> Result<String, String> {
    let found = find(text, domains, id).ok_or_else(|| missing(id))?;
    let mut fields: Vec<&str> = found.line.splitn(3, ':').collect();
    if let Some(second) = fields.get_mut(1) {
        *second = hash;
    }
    Ok(format!("{}{}{}", found.before, fields.join(":"), found.after))
}

/// Another quota in the account's line, or none there: then it has what everybody has.
pub(crate) fn quota(text: &str, domains: &[String], id: &AccountId, limit: Option<&str>) -> Result<String, String> {
    let found = find(text, domains, id).ok_or_else(|| missing(id))?;
    let mut fields = found.line.splitn(3, ':');
    let (name, hash) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let rest = fields.next().map(quota::without).unwrap_or_default();
    let mut kept: Vec<&str> = [name, hash].into_iter().chain(rest.iter().map(String::as_str)).collect();
    let new = limit.map(|l| format!("quota={l}"));
    kept.extend(new.as_deref());
    Ok(format!("{}{}{}", found.before, kept.join(":"), found.after))
}

/// The text without the account's line.
pub(crate) fn remove(text: &str, domains: &[String], id: &AccountId) -> Result<String, String> {
    let found = find(text, domains, id).ok_or_else(|| missing(id))?;
    let after = found.after.strip_prefix("\r\n").or_else(|| found.after.strip_prefix('\n')).unwrap_or(found.after);
    Ok(format!("{}{after}", found.before))
}

fn missing(id: &AccountId) -> String {
    format!("{id} is not in the users file: gatepost user list shows who is")
}

/// A line and what stands before and after it; its line end belongs to `after`.
struct Found<'a> {
    number: usize,
    before: &'a str,
    line: &'a str,
    after: &'a str,
}

fn find<'a>(text: &'a str, domains: &[String], id: &AccountId) -> Option<Found<'a>> {
    let mut start = 0;
    for (index, piece) in text.split_inclusive('\n').enumerate() {
        let line = piece.strip_suffix('\n').map_or(piece, |l| l.strip_suffix('\r').unwrap_or(l));
        let name = line.split_once(':').map(|(name, _)| name.trim()).filter(|name| !name.starts_with('#'));
        if name.and_then(|n| users::account(n, domains).ok()).is_some_and(|found| found == *id) {
            let (before, rest) = text.split_at_checked(start)?;
            let (line, after) = rest.split_at_checked(line.len())?;
            return Some(Found { number: index + 1, before, line, after });
        }
        start += piece.len();
    }
    None
}

/// The account that a person means on the command line.
pub(crate) fn account(name: &str, domains: &[String]) -> Result<AccountId, String> {
    users::account(name, domains)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lines_stay() {
        let domains = vec!["example.org".to_owned()];
        let alice = account("Alice", &domains).unwrap();
        const TEXT: &str = "# alice:not me\r\nbob:!\r\n alice@example.org:old:quota=1G:x=y\r\n#end";
        const TEXT_2G: &str = "# alice:not me\r\nbob:!\r\n alice@example.org:old:x=y:quota=2G,5\r\n#end";
        const RULE_1M: &str = "alice:!:1:1::/h::x=y:quota=1M";
        let changed = password(TEXT, &domains, &alice, "{X}$new").unwrap();
        assert_eq!(changed, "# alice:not me\r\nbob:!\r\n alice@example.org:{X}$new:quota=1G:x=y\r\n#end");
        assert_eq!(remove(TEXT, &domains, &alice).unwrap(), "# alice:not me\r\nbob:!\r\n#end");
        assert!(add(TEXT, &domains, &alice, "h", None).unwrap_err().contains("line 3"));
        const RULE: &str = "alice:!:1:1::/h::userdb_quota_rule=*:storage=1G:messages=5 x=y userdb_quota_rule2=Trash:storage=+1G";
        let limits = [("bob:!", Some("0"), "bob:!:quota=0"), ("bob:!", None, "bob:!"), (TEXT, Some("2G,5"), TEXT_2G), (RULE, Some("1M"), RULE_1M)];
        for (old, limit, new) in limits {
            let id = account(if old.starts_with("bob:!") && old.len() == 5 { "bob" } else { "alice" }, &domains).unwrap();
            assert_eq!(quota(old, &domains, &id, limit).unwrap(), new);
        }
        let carol = account("carol@EXAMPLE.org", &domains).unwrap();
        assert_eq!(add(TEXT, &domains, &carol, "h", Some("2G")).unwrap(), format!("{TEXT}\r\ncarol@example.org:h:quota=2G\r\n"));
        assert_eq!(add("", &domains, &carol, "h", None).unwrap(), "carol@example.org:h\n");
        assert!(password(TEXT, &domains, &carol, "h").is_err() && remove("", &domains, &carol).is_err());
        assert_eq!(remove("alice:x", &domains, &alice).unwrap(), "");
    }
}
