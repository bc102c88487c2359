//! `hongbao reconcile`: settles the books of a data directory and says of each law of the money whether it holds.
//!
//! It exists so that one command answers 'is every fen where it belongs'. It gathers the sources (flow archive, delivery
//! journal, ledger and plans from the data directory, or from a cluster's archives and PostgreSQL; vendors' statements from files or fetched by a signed call; what
//! players were told, if somebody wrote it down), has them matched by the `reconcile` crate, prints the settlement, and
//! writes what was asked for. It changes nothing in the books, so it may be run at any time, also beside a running
//! platform, and again after a crash.
//!
//! Of a cluster `--config FILE` is enough, the file that its processes are run with: see [`cluster`].
//!
//! It refuses an archive that is not whole, a statement without its footer, and a data directory without keys or plans.
//! Exit codes: 0 every law was checked and holds; 3 a law is broken; 4 none is broken, but a source was missing, so that
//! not all could be checked; 1 it could not be done.

mod cluster;
mod fetch;
mod job;
mod sources;
mod tails;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use campaign::VendorId;
use reconcile::readers::copies::read_copies;
use reconcile::{Settlement, StatementFile, report};
use runtime::{Clock as _, SystemClock};

use crate::config::{self, Config, Mistake};

pub(crate) use fetch::{Span, fetch};
pub(crate) use job::Job;
pub(crate) use sources::{ClusterSources, Sources};
pub(crate) use tails::{RoundTail, round_tails, write_tails};

/// Settles the books: flow archive, delivery journal, vendors' statements and ledger against each other.
#[derive(clap::Args, Debug)]
pub struct ReconcileArgs {
    /// Data directory of the platform [default: data]; of a cluster, the folder that has its `keys` [default: as the
    /// configuration says].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The database of a cluster, postgres://USER:PASSWORD@HOST:PORT/DATABASE, instead of the data directory's files.
    #[arg(long, value_name = "URL", env = "HONGBAO_RECONCILE_POSTGRES", hide_env_values = true)]
    pub postgres: Option<String>,
    /// A folder with the archive of a node or of several, of a cluster, instead of a copy of its lanes. May be given many
    /// times.
    #[arg(long, value_name = "DIR")]
    pub archive: Vec<PathBuf>,
    /// The platform's configuration file: its vendors, for --fetch. With a section [cluster] it is that cluster whose books
    /// are settled: database, lanes and keys are where it says, and vendors' statements are fetched unless some are given.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting: `--set cluster.postgres=postgres://...`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A statement of a vendor, as `11=tea-house.csv`. May be given many times.
    #[arg(long, value_name = "VENDOR=FILE", value_parser = statement_of)]
    pub statement: Vec<StatementFile>,
    /// Fetch the statements of all vendors of the configuration.
    #[arg(long)]
    pub fetch: bool,
    /// With --fetch: take the statements as they stand now, not the vendors' final ones.
    #[arg(long)]
    pub provisional: bool,
    /// What players were told: CSV `award,user,campaign,round,prize,fen`.
    #[arg(long, value_name = "FILE")]
    pub told: Option<PathBuf>,
    /// How each round went for its players: rounds.csv of loadgen, or CSV `campaign,round,entries,units_left`.
    #[arg(long, value_name = "FILE")]
    pub rounds: Option<PathBuf>,
    /// Times in which one copy only was kept of what was acknowledged: CSV `server,from_ms,to_ms`.
    #[arg(long, value_name = "FILE")]
    pub one_copy: Option<PathBuf>,
    /// The instant that ages are counted to, ms UTC; now, if it is not given.
    #[arg(long, value_name = "MS")]
    pub now: Option<u64>,
    /// Who answers for what is open; stands in every list.
    #[arg(long, value_name = "NAME", default_value = "operator on duty")]
    pub responsible: String,
    /// Write the settlement as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the settlement as a page.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write prizes.csv, breaks.csv and redo.csv into this folder.
    #[arg(long, value_name = "DIR")]
    pub csv: Option<PathBuf>,
    /// Write the awards that delivery should look at again, for `hongbao admin redo`.
    #[arg(long, value_name = "FILE")]
    pub redo: Option<PathBuf>,
    /// Folder for fetched statements and for sorting, and of a cluster for the copy of its lanes; `reconcile` in the data
    /// directory (of a cluster: in the current one), if it is not given.
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
}

fn statement_of(text: &str) -> Result<StatementFile, String> {
    let wrong = || format!("`{text}` is not VENDOR=FILE, as in 11=tea-house.csv");
    let (vendor, path) = text.split_once('=').ok_or_else(wrong)?;
    let vendor = vendor.trim().parse().map(VendorId).map_err(|_| wrong())?;
    if path.is_empty() { Err(wrong()) } else { Ok(StatementFile { vendor, path: path.into() }) }
}

/// Settles, prints, writes; the exit code.
///
/// # Errors
/// When a source can't be had or is not whole, or a file can't be written.
pub async fn run(args: ReconcileArgs) -> anyhow::Result<u8> {
    let config = config::load(args.config.as_deref(), &args.set)?;
    let is_cluster = !config.cluster.name.is_empty();
    let data = cluster::data_of(&args, &config)?;
    let now_ms = args.now.unwrap_or_else(|| SystemClock.now_ms());
    let work = args.work.clone().unwrap_or_else(|| match is_cluster {
        true => PathBuf::from("reconcile"),
        false => data.join("reconcile"),
    });
    std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let sources = match is_cluster {
        true => cluster::sources(&args, &config, &work).await?,
        false => sources_of(&args, &data)?,
    };
    let plans = sources.plans(now_ms).await?;
    let mut statements = args.statement.clone();
    let fetches = args.fetch || (is_cluster && statements.is_empty() && !config.delivery.vendors.is_empty());
    if args.provisional && !fetches {
        return Err(Mistake("--provisional is about statements that are fetched: add --fetch".into()).into());
    }
    if fetches {
        statements.extend(fetch_all(&args, &config, Span::of(&plans, now_ms), &work).await?);
    }
    let lists = match (&args.csv, &args.redo) {
        (Some(folder), _) => Some(folder.clone()),
        (None, Some(_)) => Some(work.join("lists")),
        (None, None) => None,
    };
    let mut job = Job::new(&data, sources.clone(), now_ms, &work);
    (job.statements, job.told, job.lists) = (statements, args.told.clone(), lists);
    job.terms.responsible.clone_from(&args.responsible);
    if let Some(rounds) = &args.rounds {
        job.tails = Some(tails::tails_file(rounds, &sources, &work).await?);
    }
    if let Some(path) = &args.one_copy {
        job.one_copy = read_copies(path)?;
    }
    if is_cluster && args.archive.is_empty() {
        job.lanes = Some((config, cluster::archive_in(&work)));
    }
    let settlement = job.settle(plans).await?;
    std::io::stdout().write_all(report::text(&settlement).as_bytes()).context("printing the settlement")?;
    write_files(&args, &job, &settlement)?;
    Ok(settlement.exit_code())
}

/// Fetches the statements of all configured vendors.
async fn fetch_all(
    args: &ReconcileArgs,
    config: &Config,
    span: Span,
    work: &Path,
) -> anyhow::Result<Vec<StatementFile>> {
    ensure!(
        !config.delivery.vendors.is_empty(),
        "--fetch: the configuration has no [[delivery.vendors]]; name the platform's own with --config"
    );
    let mut statements = Vec::new();
    for vendor in &config.delivery.vendors {
        let path = work.join(format!("statement-{}.csv", vendor.id));
        fetch(vendor, span, !args.provisional, &path, &SystemClock)
            .await
            .with_context(|| format!("fetching the statement of vendor {} ({})", vendor.id, vendor.name))?;
        statements.push(StatementFile { vendor: VendorId(vendor.id), path });
    }
    Ok(statements)
}

/// Where the books are, without the configuration of a cluster.
fn sources_of(args: &ReconcileArgs, data: &Path) -> anyhow::Result<Sources> {
    if let Some(postgres) = args.postgres.clone() {
        return Sources::cluster(&ClusterSources { postgres, archives: args.archive.clone() });
    }
    ensure!(
        args.archive.is_empty(),
        "--archive is for a cluster; name its configuration too, with --config, or its database, with --postgres or \
         HONGBAO_RECONCILE_POSTGRES"
    );
    Ok(Sources::embedded(data))
}

fn write_files(args: &ReconcileArgs, job: &Job, settlement: &Settlement) -> anyhow::Result<()> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    };
    if let Some(path) = &args.json {
        write(path, report::json(settlement))?;
    }
    if let Some(path) = &args.html {
        write(path, report::html(settlement))?;
    }
    if let Some(folder) = &args.csv {
        write(&folder.join("prizes.csv"), report::csv::prizes_csv(settlement))?;
    }
    if let (Some(path), Some(lists)) = (&args.redo, &job.lists) {
        std::fs::copy(lists.join("redo.csv"), path).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::statement_of;
    use campaign::VendorId;

    #[test]
    fn statements_are_named_by_vendor() {
        let file = statement_of("11=a=b.csv").unwrap();
        assert_eq!((file.vendor, file.path.to_str()), (VendorId(11), Some("a=b.csv")));
        for wrong in ["a.csv", "11=", "tea=a.csv", "-1=a.csv", ""] {
            assert!(statement_of(wrong).unwrap_err().contains("VENDOR=FILE"), "{wrong}");
        }
    }
}
