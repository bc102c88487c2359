//! The command line of the vendor simulator: reads the configuration, opens the books, binds, serves, drains.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use vendor_sim::{config, server, sign, vendor::Sim};

/// Plays wallets and voucher systems, and misbehaves on request. The protocol: docs/vendor-protocol.md.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    /// Print the commented default configuration.
    #[arg(long)]
    print_default_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Run(Run),
    /// Print a new secret.
    MakeSecret,
}

#[derive(Args)]
struct Run {
    /// Laid over the default configuration.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address to listen on, instead of the configured one; port 0 takes a free port.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Folder of the journals, instead of the configured one.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Written with the bound port when calls are answered.
    #[arg(long)]
    port_file: Option<PathBuf>,
}

/// Exit code for a wrong configuration, as for a wrong command line.
const BAD_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.print_default_config {
        return print(config::DEFAULT);
    }
    match cli.command {
        Some(Command::Run(run)) => start(run),
        Some(Command::MakeSecret) => match sign::make_secret() {
            Ok(secret) => print(&format!("{secret}\n")),
            Err(error) => fail(1, &format!("can't read the system's randomness: {error}")),
        },
        None => fail(BAD_CONFIG, "a command is needed; see --help"),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "vendor-sim: {message}");
    ExitCode::from(code)
}

fn start(run: Run) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let mut config = match config::load(run.config.as_deref(), |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIG, &error.to_string()),
    };
    config.listen = run.listen.unwrap_or(config.listen);
    config.state_dir = run.state_dir.unwrap_or(config.state_dir);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(config.threads).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("can't start threads: {error}")),
    };
    match runtime.block_on(run_until_signal(config, run.port_file.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(1, &message),
    }
}

async fn run_until_signal(config: config::Config, port_file: Option<&Path>) -> Result<(), String> {
    let address = config.listen;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| format!("can't watch for SIGTERM: {e}"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| format!("can't watch for SIGINT: {e}"))?;
    let listener = TcpListener::bind(address).await.map_err(|e| format!("can't listen on {address}: {e}"))?;
    let bound = listener.local_addr().map_err(|e| format!("can't learn the bound address: {e}"))?;
    let sim = Arc::new(Sim::open(config).map_err(|e| e.to_string())?);
    for vendor in &sim.vendors {
        let payouts = vendor.book.lock().len();
        tracing::info!(vendor = vendor.id, name = vendor.name, payouts, "books open");
    }
    tracing::info!(%bound, "serving");
    if let Some(path) = port_file {
        write_port(path, bound.port()).map_err(|e| format!("can't write {}: {e}", path.display()))?;
    }
    server::serve(sim, listener, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
    .await;
    Ok(())
}

/// By rename, so that nobody reads half a number.
fn write_port(path: &Path, port: u16) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    std::fs::write(&name, format!("{port}\n"))?;
    std::fs::rename(&name, path)
}
