//! How many connections the queue has under way, and which hosts were not there.

use event_listener::Event;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

/// Connections under way, in all and by host. Limits are read each time, so a reload changes them.
#[derive(Default)]
pub(super) struct Limits {
    all: Rc<Gate>,
    hosts: RefCell<HashMap<String, Rc<Gate>>>,
    /// Hosts that could not be talked to: until when nobody tries again, and why.
    down: RefCell<HashMap<(String, u16), (Instant, String)>>,
}

#[derive(Default)]
struct Gate {
    inside: Cell<usize>,
    left: Event,
}

/// Gives the place back when dropped.
pub(super) struct Pass(Rc<Gate>);

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        self.0.left.notify(1);
    }
}

impl Limits {
    pub(super) async fn all(&self, limit: usize) -> Pass {
        Gate::enter(self.all.clone(), limit).await
    }
    pub(super) async fn host(&self, name: &str, limit: usize) -> Pass {
        let gate = {
            let mut hosts = self.hosts.borrow_mut();
            // Those that nobody waits for or is inside of.
            hosts.retain(|_, g| Rc::strong_count(g) > 1);
            hosts.entry(name.to_owned()).or_default().clone()
        };
        Gate::enter(gate, limit).await
    }
    /// Why the host need not be tried at `now`.
    pub(super) fn is_down(&self, host: &str, port: u16, now: Instant) -> Option<String> {
        let mut down = self.down.borrow_mut();
        down.retain(|_, (until, _)| *until > now);
        down.get(&(host.to_owned(), port)).map(|(_, why)| why.clone())
    }
    /// Nobody is to try this host for so long.
    pub(super) fn set_down(&self, host: &str, port: u16, now: Instant, pause: Duration, why: String) {
        if let Some(until) = now.checked_add(pause) {
            self.down.borrow_mut().insert((host.to_owned(), port), (until, why));
        }
    }
    /// Somebody knows better: all may be tried again.
    pub(super) fn forgive(&self) {
        self.down.borrow_mut().clear();
    }
}

impl Gate {
    async fn enter(gate: Rc<Self>, limit: usize) -> Pass {
        while gate.inside.get() >= limit.max(1) {
            let left = gate.left.listen();
            if gate.inside.get() < limit.max(1) {
                break;
            }
            left.await;
        }
        gate.inside.set(gate.inside.get() + 1);
        Pass(gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::poll_once;

    #[test]
    fn a_host_that_is_down_is_left_alone_for_a_while() {
        let (limits, now, pause) = (Limits::default(), Instant::now(), Duration::from_secs(60));
        assert_eq!(limits.is_down("a", 25, now), None);
        limits.set_down("a", 25, now, pause, "refused".into());
        assert_eq!(limits.is_down("a", 25, now + pause / 2).as_deref(), Some("refused"));
        assert_eq!((limits.is_down("a", 587, now), limits.is_down("b", 25, now)), (None, None));
        assert_eq!(limits.is_down("a", 25, now + pause), None);
        assert!(limits.down.borrow().is_empty());
        limits.set_down("a", 25, now, pause, "refused".into());
        limits.forgive();
        assert_eq!(limits.is_down("a", 25, now), None);
    }

    #[test]
    fn nobody_enters_above_the_limit() {
        smol::block_on(async {
            let limits = Limits::default();
            let a = limits.host("a", 2).await;
            let b = limits.host("a", 2).await;
            assert!(poll_once(limits.host("a", 2)).await.is_none(), "full");
            assert!(poll_once(limits.host("other", 2)).await.is_some(), "another host");
            assert!(poll_once(limits.host("a", 3)).await.is_some(), "the limit was raised");
            drop(b);
            assert!(poll_once(limits.host("a", 2)).await.is_some(), "a place was given back");
            drop(a);
            assert!(poll_once(limits.all(0)).await.is_some(), "a limit of nothing would stop all mail");
            assert!(limits.hosts.borrow().len() <= 2);
        });
    }
}
