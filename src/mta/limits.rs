//! How many connections the queue has under way.

use event_listener::Event;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

/// Connections under way, in all and by host. Limits are read each time, so a reload changes them.
#[derive(Default)]
pub(super) struct Limits {
    all: Rc<Gate>,
    hosts: RefCell<HashMap<String, Rc<Gate>>>,
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
