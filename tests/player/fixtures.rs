//! What is there before the first connection.

#[derive(Default, Clone)]
pub(crate) struct Fixtures {
    /// Name (without domain: of example.org) and password.
    pub(crate) users: Vec<(String, String)>,
    pub(crate) aliases: Vec<String>,
    pub(crate) mails: Vec<Mail>,
    pub(crate) zone: String,
    pub(crate) remotes: Vec<String>,
    /// `section.key`, value.
    pub(crate) keys: Vec<(String, String)>,
    pub(crate) blocks: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Mail {
    pub(crate) user: String,
    pub(crate) folder: String,
    /// `Err`: a file of `tests/golden`.
    pub(crate) text: Result<String, String>,
    /// Maildir letters; `None`: in `new/`.
    pub(crate) flags: Option<String>,
}

pub(crate) const WORDS: &[&str] = &["user", "alias", "mail", "zone", "remote", "config"];

impl Fixtures {
    pub(crate) fn add(&mut self, word: &str, rest: &str, block: Option<Vec<String>>) -> Result<(), String> {
        match (word, block) {
            ("user", None) => {
                let (name, password) = rest.split_once(' ').ok_or("`user NAME PASSWORD`")?;
                self.users.push((name.to_owned(), password.trim().to_owned()));
            }
            ("alias", None) => self.aliases.push(rest.to_owned()),
            ("mail", block) => self.mails.push(Mail::read(rest, block)?),
            ("zone", None) => {
                self.zone.push_str(rest);
                self.zone.push('\n');
            }
            ("remote", None) => self.remotes.push(rest.to_owned()),
            ("config", Some(block)) => self.blocks.push(block.join("\n")),
            ("config", None) => {
                let (key, value) = rest.split_once('=').ok_or("`config section.key = value`")?;
                self.keys.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            _ => return Err(format!("`{word}` takes no block")),
        }
        Ok(())
    }
}

impl Mail {
    /// `alice INBOX file.eml \Seen` or `alice "A folder" \Seen <<`.
    pub(crate) fn read(rest: &str, block: Option<Vec<String>>) -> Result<Self, String> {
        let words = super::host::words(rest.trim_end_matches("<<"));
        let mut words = words.into_iter();
        let user = words.next().ok_or("whose mail?")?;
        let folder = words.next().ok_or("in which folder?")?;
        let text = match block {
            Some(lines) => Ok(lines.iter().map(|l| format!("{l}\r\n")).collect()),
            None => Err(words.next().ok_or("which file of tests/golden?")?),
        };
        let mut flags = String::new();
        let mut any = false;
        for word in words {
            any = true;
            flags.push_str(match word.as_str() {
                "-" => "",
                "\\Seen" => "S",
                "\\Answered" => "R",
                "\\Flagged" => "F",
                "\\Deleted" => "T",
                "\\Draft" => "D",
                _ => return Err(format!("`{word}` is no flag: \\Seen \\Answered \\Flagged \\Deleted \\Draft, or `-` for none")),
            });
        }
        let mut letters: Vec<char> = flags.chars().collect();
        letters.sort_unstable();
        Ok(Self { user, folder, text, flags: any.then(|| letters.into_iter().collect()) })
    }
}
