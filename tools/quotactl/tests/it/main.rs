//! The real binary against a server that answers as the admin API does.

mod changes;
mod command_line;
mod exports;
mod fake;
mod looks;
mod offline;
mod profiles;
mod retries;
mod simulate;
mod support;
mod watch;
