//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 3501 §6.3.3–§6.3.7).

use super::session::{Done, Outcome, Session, State, job};

impl Session {
    pub(super) async fn create(&mut self, mut name: String) -> Outcome {
        // `work/` says that folders will be made below; every folder can have some.
        if name.ends_with('/') {
            name.pop();
        }
        if name == "INBOX" {
            return Ok(Done::no("ALREADYEXISTS", "INBOX is always there."));
        }
        let home = self.home()?;
        job(move || home.create(&name)).await?;
        Ok(Done::ok("Created."))
    }
    pub(super) async fn delete(&mut self, name: String) -> Outcome {
        if name == "INBOX" {
            return Ok(Done::no("CANNOT", "INBOX cannot be deleted."));
        }
        let home = self.home()?;
        let removed = name.clone();
        job(move || home.delete(&removed)).await?;
        self.leave(&name);
        Ok(Done::ok("Deleted."))
    }
    pub(super) async fn rename(&mut self, from: String, mut to: String) -> Outcome {
        if to.ends_with('/') {
            to.pop();
        }
        if to == "INBOX" {
            return Ok(Done::no("ALREADYEXISTS", "INBOX is always there."));
        }
        let home = self.home()?;
        let old = from.clone();
        job(move || home.rename(&from, &to)).await?;
        if old != "INBOX" {
            self.leave(&old);
        }
        Ok(Done::ok("Renamed."))
    }
    pub(super) async fn subscribe(&mut self, name: String, on: bool) -> Outcome {
        let home = self.home()?;
        job(move || home.subscribe(&name, on)).await?;
        Ok(Done::ok("Done."))
    }
    /// A client that takes its selected folder away has none selected any more.
    fn leave(&mut self, name: &str) {
        let State::Selected(_, view) = &self.state else { return };
        if view.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            self.deselect();
        }
    }
}
