//! The operating system: privileges, sandbox, activation, signals. Knows nothing of mail. The only `unsafe`.
