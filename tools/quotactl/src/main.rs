//! `quotactl`: quota administration from the command line, over the admin API.
//!
//! The people who use it make decisions that cost money by the second, so a change is shown before it is made, made
//! once however often it has to be asked for, and answered with what the platform did.

mod api;
mod cli;
mod commands;
mod failure;
mod out;
mod profile;
mod text;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

/// Faster than the system's where many threads take and give back small pieces, as requests and plans do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let json = cli.common.json;
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ExitCode::from(told(&failure, json)),
    }
}

/// Tells why a command failed; its exit code. With `--json` the server's own words go to standard output.
fn told(failure: &failure::Failure, json: bool) -> u8 {
    if json
        && let failure::Failure::Problem { body, .. } = failure
        && !body.is_empty()
    {
        // What can't be written here can't be told either.
        let _ = out::raw(body, !body.ends_with(b"\n"));
    }
    out::tell(&format!("quotactl: {failure}"));
    failure.code()
}
