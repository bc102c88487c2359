//! Reconciliation (对账): matches wins, deliveries, vendors' statements and the quota ledger, prize by prize and award by
//! award, and says of each law of the money whether it holds.
//!
//! It exists because a platform that checks itself finds its own mistakes nowhere. So it reads the published formats
//! (`docs/formats.md`, `docs/vendor-protocol.md`) with readers of its own, shares no code with what wrote them, and takes each
//! number of the settlement from its own source.
//!
//! - [`readers`]: flow archive (流水), statements, delivery journal (发货), ledger (配额), what players were told;
//! - [`sort`]: external merge sort; memory stays constant however many awards there are;
//! - [`matching`]: the core: sorted rows in, totals and breaks out, no I/O of its own;
//! - [`laws`], [`settlement`]: the verdicts and the lines for each round (场次) and prize;
//! - [`report`]: for people (text, HTML) and for programs (JSON, CSV);
//! - [`books`]: all of this behind one door for callers with rows in memory; [`run()`]: the same for files and databases.
//!
//! It refuses an archive that is not whole, a statement without its footer, and a table with rows that nobody of ours
//! writes: half a book proves nothing. It changes nothing: what is missing goes into `redo.csv`, which delivery takes
//! through its own state machine. After a crash it is run again; the same books give the same bytes.

pub mod books;
pub mod breaks;
pub mod laws;
pub mod matching;
pub mod plans;
pub mod readers;
pub mod report;
pub mod rows;
pub mod run;
pub mod settlement;
pub mod sort;

pub use books::Books;
pub use breaks::{Break, Class, Kind};
pub use laws::{Law, Verdict};
pub use matching::Terms;
pub use plans::{Plans, Seeds};
pub use readers::tables::TableSource;
pub use run::{Inputs, RunError, StatementFile, StoredPlanError, plans_in, plans_of, run, run_with};
pub use settlement::{PrizeLine, Settlement};
