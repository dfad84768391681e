//! Directories for tests, removed when they end.

use std::path::{Path, PathBuf};

pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(what: &str) -> Self {
        // In memory: these tests are not about the disk.
        let shm = Path::new("/dev/shm");
        let root = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let path = root.join(format!("gatepost-{what}-{}-{:x}", std::process::id(), crate::disk::unique()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
