//! The one binary: every role of the platform, composed from configuration, and the commands around it.

mod admin;
mod admin_cmd;
mod call;
mod cli;
mod cluster_cmd;
mod config;
mod demo;
mod desk;
mod keys;
mod memory;
mod play;
mod reconcile_cmd;
mod rehearse_cmd;
mod run;
mod token_cmd;
mod up;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    memory::keep();
    ExitCode::from(cli::execute(cli::Cli::parse()))
}
