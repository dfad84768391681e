//! Changes to the text of `users` that leave every other line as it was.
