//! Builds every room from a Config and hands them to each other; reload, drain, control socket.
