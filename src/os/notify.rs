//! What systemd hears from us (sd_notify(3)); nothing happens without NOTIFY_SOCKET. Failures are of no
//! consequence for mail and only logged.

use crate::journal::Line;
use sd_notify::NotifyState as N;
use std::time::Duration;

pub fn ready() {
    send(&[N::Ready]);
}

/// Type=notify-reload wants the clock with it; [`ready`] ends the reload.
pub fn reloading() {
    match N::monotonic_usec_now() {
        Ok(now) => send(&[N::Reloading, now]),
        Err(_) => send(&[N::Reloading]),
    }
}

pub fn stopping() {
    send(&[N::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[N::Status(&text.replace(char::is_control, " "))]);
}

/// How often [`watchdog`] is due (half of WatchdogSec); `None`: nobody watches.
pub fn watchdog_interval() -> Option<Duration> {
    let mut microseconds = 0;
    sd_notify::watchdog_enabled(false, &mut microseconds).then(|| Duration::from_micros(microseconds / 2))
}

pub fn watchdog() {
    send(&[N::Watchdog]);
}

fn send(state: &[N<'_>]) {
    if let Err(e) = sd_notify::notify(false, state) {
        Line::debug("os", "notify-failed").with("error", e).send();
    }
}
