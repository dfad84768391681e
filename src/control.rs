//! The daemon's UNIX sockets: `control.sock` (queue verbs, reload; root and the daemon's user) and `submit.sock`
//! (local submission by `sendmail`, SO_PEERCRED says who). Both ends of both live here.
