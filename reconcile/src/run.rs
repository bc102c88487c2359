//! A reconciliation (对账) of files and databases: opens every source, fills the books, settles, writes the lists.
//!
//! Sources are read from the vendor's end towards the ledger, so that a platform that is still running can't make a
//! payment look as if it had no award. What is found is then at worst an order or a payment on its way.

use crate::books::Books;
use crate::matching::Terms;
use crate::plans::{Plans, PlansError, Seeds};
use crate::readers::archive::{ArchiveError, read_lanes};
use crate::readers::copies::OneCopy;
use crate::readers::csv::TextError;
use crate::readers::tables::{self, TableError, TableSource, Tables};
use crate::readers::{players, statement};
use crate::report::csv::Lists;
use crate::settlement::Settlement;
use crate::sort;
use campaign::{CampaignId, MacKey, Plan, VendorId};
use quota_config::{PlanRepository, RepositoryError, State, compile_version};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Memory for sorting, unless said otherwise: 64 MiB.
pub const MEMORY: usize = 64 << 20;

/// A statement file of a vendor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatementFile {
    /// Whose it is.
    pub vendor: VendorId,
    /// The file.
    pub path: PathBuf,
}

/// What to reconcile.
pub struct Inputs {
    /// Folders of the flow archive; searched for segment files, also in folders below.
    pub archives: Vec<PathBuf>,
    /// The platform may be writing: a last group that is not whole is left out instead of refused.
    pub live: bool,
    /// Where the delivery journal is.
    pub delivery: Option<TableSource>,
    /// Where the ledger is.
    pub ledger: Option<TableSource>,
    /// Statements, in any order; they may overlap.
    pub statements: Vec<StatementFile>,
    /// Plans of every SeqNo that was in force.
    pub plans: Vec<Plan>,
    /// Seeds of the rounds, or the keys that make them.
    pub seeds: Seeds,
    /// Keys of the awards' MACs; none: MACs are not checked.
    pub mac_keys: Vec<MacKey>,
    /// What players were told.
    pub told: Option<PathBuf>,
    /// Entries and units of each round's last seconds.
    pub tails: Option<PathBuf>,
    /// What was acknowledged lay on several machines; `None`: not known.
    pub replicated: Option<bool>,
    /// Times in which it lay on one machine all the same.
    pub one_copy: Vec<OneCopy>,
    /// Now, patience, and who answers for what is open.
    pub terms: Terms,
    /// Folder for run files; made if missing, cleared of old run files.
    pub work_dir: PathBuf,
    /// Folder for `breaks.csv` and `redo.csv`; made if missing. `None`: they are not written.
    pub out_dir: Option<PathBuf>,
    /// Memory for sorting, bytes.
    pub memory: usize,
}

impl Inputs {
    /// Inputs with nothing but plans and a folder for run files.
    pub fn new(plans: Vec<Plan>, work_dir: impl Into<PathBuf>, terms: Terms) -> Inputs {
        Inputs {
            archives: Vec::new(),
            live: false,
            delivery: None,
            ledger: None,
            statements: Vec::new(),
            plans,
            seeds: Seeds::default(),
            mac_keys: Vec::new(),
            told: None,
            tails: None,
            replicated: None,
            one_copy: Vec::new(),
            terms,
            work_dir: work_dir.into(),
            out_dir: None,
            memory: MEMORY,
        }
    }
}

/// Why a reconciliation was not done. Nothing of the books was changed, and it may be run again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The flow archive is not whole.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A text file is not what it should be.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A database can't be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Plans or seeds.
    #[error(transparent)]
    Plans(#[from] PlansError),
    /// A file of ours can't be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

fn at(path: &Path) -> impl Fn(io::Error) -> RunError + '_ {
    move |error| RunError::Io { path: path.to_owned(), error }
}

/// Reconciles. The same inputs give the same settlement and the same lists, byte for byte.
///
/// It reads and sorts on the calling thread, for as long as that takes: not for a thread that serves requests.
///
/// # Errors
/// When a source can't be read or is not whole.
pub async fn run(inputs: &Inputs) -> Result<Settlement, RunError> {
    run_with(inputs, async || Ok(())).await
}

/// The same, with something to be done between the journal and the archives: bringing these up to date. Of a platform that
/// is running the journal has to be read first, or it knows awards that the archives do not have yet.
///
/// # Errors
/// As [`run`], and what bringing them up to date says.
pub async fn run_with<E: From<RunError>>(
    inputs: &Inputs,
    archives: impl AsyncFnOnce() -> Result<(), E>,
) -> Result<Settlement, E> {
    let plans = Plans::new(inputs.plans.clone(), &inputs.seeds).map_err(RunError::from)?;
    let books = begin(inputs).await?;
    archives().await?;
    Ok(end(inputs, &plans, books).await?)
}

/// Text files and the journal.
async fn begin(inputs: &Inputs) -> Result<Books, RunError> {
    let work = &inputs.work_dir;
    fs::create_dir_all(work).map_err(at(work))?;
    sort::clear(work).map_err(at(work))?;
    let mut books = Books::new(work, inputs.memory, inputs.mac_keys.clone());
    books.given().replicated = inputs.replicated;
    books.given().one_copy.clone_from(&inputs.one_copy);
    read_text(inputs, &mut books)?;
    if let Some(source) = &inputs.delivery {
        books.given().journal = true;
        let mut tables = Tables::open(source).await?;
        let read = tables::read_journal(&mut tables, &mut |step| books.step(step)).await;
        tables.close().await;
        read?;
    }
    Ok(books)
}

/// Archives and ledger, and what it all comes to.
async fn end(inputs: &Inputs, plans: &Plans, mut books: Books) -> Result<Settlement, RunError> {
    let work = &inputs.work_dir;
    read_archive(inputs, &mut books)?;
    if let Some(source) = &inputs.ledger {
        let mut tables = Tables::open(source).await?;
        let ledger = tables::read_ledger(&mut tables).await;
        tables.close().await;
        books.ledger(ledger?);
    }
    let mut lists = match &inputs.out_dir {
        Some(folder) => Some(Lists::create(folder, &inputs.terms).map_err(at(folder))?),
        None => None,
    };
    let settled = books.settle(plans, &inputs.terms, &mut |found| match &mut lists {
        Some(lists) => lists.add(found),
        None => Ok(()),
    });
    let settlement = settled.map_err(at(work))?;
    if let (Some(lists), Some(folder)) = (lists, &inputs.out_dir) {
        lists.finish().map_err(at(folder))?;
    }
    Ok(settlement)
}

fn read_text(inputs: &Inputs, books: &mut Books) -> Result<(), RunError> {
    for file in &inputs.statements {
        let footer = statement::read_file(&file.path, file.vendor, &mut |line| books.statement_line(line))?;
        books.statement(file.vendor, &footer);
    }
    if let Some(path) = &inputs.told {
        books.given().told = true;
        players::read_told(path, &mut |row| books.told(row))?;
    }
    if let Some(path) = &inputs.tails {
        books.tails(players::read_tails(path)?);
    }
    Ok(())
}

fn read_archive(inputs: &Inputs, books: &mut Books) -> Result<(), RunError> {
    let lanes = read_lanes(&inputs.archives, inputs.live, &mut |place, record| books.record(place, &record))?;
    for lane in lanes {
        books.groups(lane.groups);
        if lane.unfinished {
            books.note(format!(
                "node {}: a group behind position {} is not whole yet and was left out",
                lane.node, lane.groups
            ));
        }
    }
    Ok(())
}

/// Every plan of a campaign that was drawn under, from its repository: those of all, and those that went out grey.
///
/// # Errors
/// When the repository can't be read, or a stored version does not compile.
pub async fn plans_of(
    repository: &dyn PlanRepository,
    campaign: CampaignId,
) -> Result<Vec<Plan>, StoredPlanError> {
    let mut plans = Vec::new();
    for info in repository.all(campaign).await? {
        if info.state == State::Reserved {
            continue;
        }
        let version = repository.get(campaign, info.seq_no).await?;
        let version = version.ok_or(RepositoryError::NotFound { campaign, seq_no: info.seq_no })?;
        let compiled = compile_version(&version).map_err(|problems| {
            StoredPlanError::Compile(format!("campaign {campaign} SeqNo {}: {problems}", info.seq_no))
        })?;
        plans.push(compiled.plan);
    }
    Ok(plans)
}

/// Every plan of every campaign that was in force, from the repository.
///
/// # Errors
/// As [`plans_of`].
pub async fn plans_in(repository: &dyn PlanRepository) -> Result<Vec<Plan>, StoredPlanError> {
    let mut plans = Vec::new();
    for (campaign, _) in repository.heads().await? {
        plans.extend(plans_of(repository, campaign).await?);
    }
    Ok(plans)
}

/// Why stored plans could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StoredPlanError {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A version that was accepted once does not compile any more.
    #[error("a stored plan does not compile: {0}")]
    Compile(String),
}
