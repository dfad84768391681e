//! Deliveries into one folder share the fsync of its `new/`: whoever comes while one is running waits for the next,
//! which is for all that came meanwhile.

use super::lock;
use crate::disk;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

/// The directories in which somebody waits for an fsync.
#[derive(Default)]
pub(super) struct Together(Mutex<HashMap<PathBuf, Arc<Gate>>>);

#[derive(Default)]
struct Gate {
    rounds: Mutex<Rounds>,
    ended: Condvar,
}

#[derive(Default)]
struct Rounds {
    /// How many have begun; each but the last has ended.
    begun: u64,
    running: bool,
    /// Those that failed since anybody waits here.
    failed: Vec<(u64, disk::Error)>,
    /// Who has not got an answer yet.
    waiting: usize,
}

impl Together {
    /// Job. As [`disk::sync_dir`], begun after this was called, by this thread or another; `sync` is that.
    pub(super) fn sync(&self, dir: &Path, sync: impl FnOnce() -> disk::Result<()>) -> disk::Result<()> {
        let gate = {
            let mut gates = lock(&self.0);
            let gate = Arc::clone(gates.entry(dir.to_owned()).or_default());
            lock(&gate.rounds).waiting += 1;
            gate
        };
        let done = gate.pass(sync);
        let mut gates = lock(&self.0);
        let mut rounds = lock(&gate.rounds);
        rounds.waiting -= 1;
        if rounds.waiting == 0 {
            gates.remove(dir);
        }
        done
    }
}

impl Gate {
    fn pass(&self, sync: impl FnOnce() -> disk::Result<()>) -> disk::Result<()> {
        let mut rounds = lock(&self.rounds);
        // What runs now may have begun too early.
        let mine = rounds.begun + 1;
        while rounds.running && rounds.begun <= mine {
            rounds = self.ended.wait(rounds).unwrap_or_else(PoisonError::into_inner);
        }
        if rounds.begun >= mine {
            let failed = rounds.failed.iter().find(|(round, _)| *round == mine);
            return failed.map_or(Ok(()), |(_, e)| Err(e.again()));
        }
        (rounds.begun, rounds.running) = (mine, true);
        drop(rounds);
        let done = sync();
        let mut rounds = lock(&self.rounds);
        rounds.running = false;
        if let Err(e) = &done {
            rounds.failed.push((mine, e.again()));
        }
        self.ended.notify_all();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    };

    #[test]
    fn who_comes_while_one_runs_shares_the_next() {
        let (together, dir) = (Together::default(), Path::new("new"));
        let syncs = AtomicU32::new(0);
        let waiting = || lock(&together.0).get(dir).map_or(0, |g| lock(&g.rounds).waiting);
        let fails = |fail| if fail { Err(disk::Error::new("fsync", dir, std::io::ErrorKind::Other.into())) } else { Ok(()) };
        for fail in [false, true] {
            syncs.store(0, SeqCst);
            let (go, wait) = mpsc::channel::<()>();
            std::thread::scope(|s| {
                let first = s.spawn(|| {
                    together.sync(dir, move || {
                        wait.recv().unwrap();
                        Ok(())
                    })
                });
                while waiting() < 1 {
                    std::thread::yield_now();
                }
                let rest: Vec<_> = (0..5)
                    .map(|_| {
                        s.spawn(|| {
                            together.sync(dir, || {
                                syncs.fetch_add(1, SeqCst);
                                fails(fail)
                            })
                        })
                    })
                    .collect();
                // Another directory waits for nobody.
                together.sync(Path::new("other"), || Ok(())).unwrap();
                while waiting() < 6 {
                    std::thread::yield_now();
                }
                go.send(()).unwrap();
                first.join().unwrap().unwrap();
                assert!(rest.into_iter().all(|t| t.join().unwrap().is_err() == fail));
            });
            // All five may not have come to their wait when the first ended.
            assert!((1..=5).contains(&syncs.load(SeqCst)));
            assert!(lock(&together.0).is_empty());
        }
    }

    #[test]
    fn everybody_gets_a_sync_that_began_after_he_came() {
        let together = Together::default();
        let (written, durable) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..200 {
                        let mine = written.fetch_add(1, SeqCst) + 1;
                        let sync = || {
                            let all = written.load(SeqCst);
                            std::thread::yield_now();
                            durable.fetch_max(all, SeqCst);
                            Ok(())
                        };
                        together.sync(Path::new("new"), sync).unwrap();
                        assert!(durable.load(SeqCst) >= mine);
                    }
                });
            }
        });
    }
}
