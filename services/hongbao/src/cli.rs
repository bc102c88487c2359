//! The command line.

use crate::{admin_cmd, config, demo, reconcile_cmd, rehearse_cmd, run, token_cmd, up};
use clap::{Args, Parser, Subcommand};
use ownership::members::Role;
use runtime::exit;
use std::io::Write as _;
use std::path::PathBuf;

/// Red-envelope and lottery campaigns: draws, delivery, reconciliation.
#[derive(Parser)]
#[command(name = "hongbao", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every role in this process, with its data in one folder.
    Up(UpArgs),
    /// Make a test token for a user, a credential for a gateway, or show the admin token.
    #[command(subcommand)]
    Token(token_cmd::TokenCommand),
    /// Check a campaign file and say everything that is wrong with it.
    Check {
        /// The campaign file.
        file: PathBuf,
    },
    /// Match wins, deliveries, vendor statements and the quota ledger, and settle the campaign.
    Reconcile(Box<reconcile_cmd::ReconcileArgs>),
    /// Play a campaign file through on virtual time, with as many players as are expected.
    Rehearse(rehearse_cmd::RehearseArgs),
    /// Ask a running platform how it stands, or tell it something.
    #[command(subcommand)]
    Admin(admin_cmd::AdminCommand),
    /// Play a whole campaign on this machine, with a crash in the middle, and settle it.
    Demo(demo::DemoArgs),
    /// Play it on roles apart and replicated servers, killing some of each.
    DemoCluster(demo::cluster::DemoClusterArgs),
    /// Run some of the roles in this process, on servers that all processes share.
    Run(RunArgs),
    /// Make the keys of an installation whose roles run apart.
    Keys {
        /// Folder, to be copied to every node.
        dir: PathBuf,
    },
    /// Print the configuration that the binary loads when it is given none.
    DefaultConfig,
}

/// What `up` is told.
#[derive(Args, Clone)]
pub struct UpArgs {
    /// Folder of all data; made at the first start.
    #[arg(long, default_value = "data")]
    pub data: PathBuf,
    /// Configuration file, laid over the default (see `default-config`).
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Campaign file to publish; may be given several times. Changes of the file are noticed.
    #[arg(long = "campaign")]
    pub campaigns: Vec<PathBuf>,
    /// One setting: `--set access.http=127.0.0.1:0`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to write the addresses, once the platform serves.
    #[arg(long)]
    pub port_file: Option<PathBuf>,
}

/// What `run` is told.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// Roles of this process, with commas: access, lottery, flow, delivery, console, chat.
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',', required = true, value_parser = role)]
    pub roles: Vec<Role>,
    /// Configuration file, laid over the default (see `default-config`); its section [cluster] says where the servers are.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Folder of what this process keeps on its own disk: a lottery node's log, chat's log and database.
    #[arg(long, default_value = "data")]
    pub data: PathBuf,
    /// Campaign file to publish; may be given several times. Changes of the file are noticed.
    #[arg(long = "campaign")]
    pub campaigns: Vec<PathBuf>,
    /// One setting: `--set node.id=3`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to write the addresses, once the process serves.
    #[arg(long)]
    pub port_file: Option<PathBuf>,
}

fn role(name: &str) -> Result<Role, String> {
    Role::of_name(name).ok_or_else(|| {
        let known: Vec<_> = Role::ALL.iter().map(|role| role.name()).collect();
        format!("roles are {}", known.join(", "))
    })
}

/// Runs a command; the exit code.
pub fn execute(cli: Cli) -> u8 {
    let done = match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Token(command) => token_cmd::run(command),
        Command::Check { file } => up::check(&file),
        Command::Reconcile(args) => block_on(reconcile_cmd::run(*args)),
        Command::Rehearse(args) => rehearse_cmd::run(&args),
        Command::Admin(command) => block_on(admin_cmd::run(command)),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::DemoCluster(args) => block_on(demo::cluster::run(args)),
        Command::Run(args) => run::run(&args),
        Command::Keys { dir } => run::make_keys(&dir),
        Command::DefaultConfig => {
            print(config::DEFAULT);
            Ok(exit::OK)
        }
    };
    done.unwrap_or_else(|error| {
        eprint(&format!("hongbao: {error:#}"));
        exit_code(&error)
    })
}

fn block_on(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// The exit code that tells a program what kind of thing went wrong.
fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<runtime::ConfigError>() || cause.is::<config::Mistake>() {
            return exit::BAD_CONFIG;
        }
        if cause.is::<flowlog::DirLockError>() {
            return exit::DATA_IN_USE;
        }
        if let Some(e) = cause.downcast_ref::<flowlog::FormatVersionError>() {
            return if matches!(e, flowlog::FormatVersionError::Newer { .. }) {
                exit::DATA_NEWER
            } else {
                exit::FAILURE
            };
        }
        if let Some(code) = log_error(cause).map(log_code) {
            return code;
        }
        if let Some(storage::MigrationError::NewerDatabase { .. }) = cause.downcast_ref() {
            return exit::DATA_NEWER;
        }
        if cause.is::<access::BindError>() || cause.downcast_ref().is_some_and(is_taken) {
            return exit::CANNOT_LISTEN;
        }
        if refused_by_a_server(cause) {
            return exit::BAD_CONFIG;
        }
    }
    exit::FAILURE
}

/// An address that can't be listened on.
fn is_taken(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AddrNotAvailable)
}

/// A server that answers and does not fit what the configuration says of it: somebody must change one of the two.
fn refused_by_a_server(cause: &(dyn std::error::Error + 'static)) -> bool {
    let postgres: Option<&storage::pg::PgOpenError> = cause.downcast_ref();
    let members: Option<&ownership::members::MemberError> = cause.downcast_ref();
    postgres.is_some_and(|error| !error.is_temporary())
        || matches!(members, Some(ownership::members::MemberError::Taken { .. }))
        || cause.is::<queue::kafka::OpenError>()
        || cause.is::<run::TooOld>()
        || matches!(cause.downcast_ref(), Some(delivery::book::OpenBookError::Divided { .. }))
}

/// The error of a log in this link of a chain of errors. (Errors that pass on another's text pass on its source too, so
/// the log's own error is no link of its own.)
fn log_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a flowlog::LogError> {
    if let Some(lottery::node::StartError::Log(e)) = cause.downcast_ref() {
        return Some(e);
    }
    cause.downcast_ref()
}

fn log_code(error: &flowlog::LogError) -> u8 {
    match error {
        flowlog::LogError::Corrupt(_) => exit::DATA_DAMAGED,
        flowlog::LogError::NewerVersion { .. } => exit::DATA_NEWER,
        _ => exit::FAILURE,
    }
}

/// A line on standard output. A reader that has gone away wants no more of it.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A line for a person, on standard error.
pub fn eprint(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::exit_code;
    use anyhow::Context as _;
    use runtime::exit;
    use storage::pg::PgOpenError;

    /// What a person must put right is told from what comes back by itself.
    #[test]
    fn a_server_that_does_not_fit_is_a_mistake_and_one_that_is_away_is_not() {
        let at = || "db:5432".to_owned();
        let code = |error: PgOpenError| {
            let error = Err::<(), _>(error).context("PostgreSQL (cluster.postgres)").unwrap_err();
            (exit_code(&error), format!("{error:#}"))
        };
        let (old, said) = code(PgOpenError::OldVersion { at: at(), found: "13".into(), least: 14 });
        assert_eq!(old, exit::BAD_CONFIG);
        assert_eq!(
            said,
            "PostgreSQL (cluster.postgres): PostgreSQL at db:5432 has version 13; 14 or newer is needed"
        );
        let refused = PgOpenError::Refused { at: at(), who: "user u, database d".into(), why: "no".into() };
        assert_eq!(code(refused).0, exit::BAD_CONFIG);
        assert_eq!(code(PgOpenError::Unreachable { tried: at() }).0, exit::FAILURE);
    }
}
