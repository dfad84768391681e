//! The task that waits for what other programs do in selected folders, and has the store look at them.

use crate::store::Store;
use smol::{Async, Timer, future::FutureExt};
use std::sync::Arc;

/// Never ends.
pub(super) async fn look(store: Arc<Store>) {
    let notices = store.notices();
    // Without it, looks are due by the clock.
    let mut source = notices.source().and_then(|s| Async::new_nonblocking(s).ok());
    loop {
        // Listening begins before asking, so that nothing falls between the two.
        let planned = notices.listen();
        notices.read();
        while let Some(look) = notices.due() {
            smol::unblock(move || look.run()).detach();
        }
        let next = notices.next();
        let due = async {
            match next {
                Some(at) => drop(Timer::at(at).await),
                None => smol::future::pending().await,
            }
            true
        };
        let planned = async {
            planned.await;
            true
        };
        let told = async {
            match &source {
                Some(source) => source.readable().await.is_ok(),
                None => smol::future::pending().await,
            }
        };
        if !told.or(planned).or(due).await {
            source = None;
        }
    }
}
