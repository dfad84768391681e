//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 3501 §6.3.3–§6.3.7).

use super::session::{Done, Outcome, Session, State, job};

impl Session {
    /// `work/` says that folders will be made below; every folder can have some.
    pub(super) async fn create(&mut self, name: String) -> Outcome {
        let home = self.home()?;
        job(move || home.create(&name)).await?;
        Ok(Done::ok("Created."))
    }
    pub(super) async fn delete(&mut self, name: String) -> Outcome {
        let home = self.home()?;
        job(move || home.delete(&name)).await?;
        // A client that takes its selected folder away has none selected any more.
        if matches!(&self.state, State::Selected(_, view) if view.folder.is_gone()) {
            self.deselect();
        }
        Ok(Done::ok("Deleted."))
    }
    pub(super) async fn rename(&mut self, from: String, to: String) -> Outcome {
        let home = self.home()?;
        // Who has it selected, here or in another session, goes on under the new name.
        job(move || home.rename(&from, &to)).await?;
        Ok(Done::ok("Renamed."))
    }
    pub(super) async fn subscribe(&mut self, name: String, on: bool) -> Outcome {
        let home = self.home()?;
        job(move || home.subscribe(&name, on)).await?;
        Ok(Done::ok("Done."))
    }
}
