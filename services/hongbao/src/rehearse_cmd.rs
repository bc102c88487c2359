//! `hongbao rehearse`: plays a campaign file through on virtual time, with as many players as are expected, and shows
//! what the evening comes to.
//!
//! It needs no data folder and no keys, and touches neither: the rehearsal draws under seeds of its own. It refuses a
//! campaign file with mistakes, a table of arrivals or districts that it can't read, and vendors that the plan does not have.
//! Exit codes: 0 rehearsed, whatever was warned of; 3 a law of the money was broken; 64 a file is wrong; 2 the command
//! line is wrong; 1 it could not be done.

use crate::cli::{eprint, print};
use crate::config::Mistake;
use anyhow::Context as _;
use campaign::SeqNo;
use clap::Args;
use quota_config::{CompileOptions, compile};
use runtime::{Clock as _, SystemClock, exit};
use sim::rehearse::{self, Arrivals, Behaviour, Districts, Progress, Rehearsal, Setup, VendorSetup};
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Largest table of arrivals or of districts, bytes.
const TABLE_BYTES_MAX: u64 = 32 << 20;
/// Time between two progress lines on a terminal, and elsewhere, ns.
const LINE_NS: [u64; 2] = [200_000_000, 5_000_000_000];

/// What `rehearse` is told.
#[derive(Args)]
pub struct RehearseArgs {
    /// The campaign file.
    file: PathBuf,
    /// Players there are.
    #[arg(long, default_value_t = 100_000)]
    players: u64,
    /// When they come: CSV `minute,players` (or `second`, `ms`; or `share`), counted from the first opening. Left out:
    /// all come in the minute before it.
    #[arg(long, value_name = "CSV")]
    arrivals: Option<PathBuf>,
    /// Where they are: CSV `district,players` (or `share`). Left out: nowhere that is known, so that prizes limited to
    /// regions are not won.
    #[arg(long, value_name = "CSV")]
    districts: Option<PathBuf>,
    /// A player leaves so long after he came: 90s, 15m, 2h. Left out: when the last round has closed.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    stay: Option<u64>,
    /// Shakes of each submit.
    #[arg(long, default_value_t = 3)]
    shakes: u32,
    /// Winners of prizes that must be claimed who claim them, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    claims: u8,
    /// Lottery nodes.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Threads to rehearse on. A node that several threads work for is rehearsed as that many smaller ones.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A vendor's limit (calls a second) and how long a call takes; may be given many times. Left out: the limit of
    /// the campaign file and 100 ms.
    #[arg(long = "vendor", value_name = "ID=RATE:LATENCY_MS[:AT_ONCE]")]
    vendors: Vec<VendorSetup>,
    /// Where all chance comes from: the same seed gives the same rehearsal.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write everything as JSON; `-` for standard output, instead of the summary.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Say how far it is even where standard error is no terminal.
    #[arg(long)]
    progress: bool,
}

/// A duration in ms.
fn millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no duration: write 500ms, 90s, 15m or 2h");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|ms| *ms > 0).ok_or_else(wrong)
}

/// Rehearses, prints, writes; the exit code.
pub fn run(args: &RehearseArgs) -> anyhow::Result<u8> {
    let source = std::fs::read(&args.file)
        .map_err(|e| Mistake(format!("campaign file {} can't be read: {e}", args.file.display())))?;
    let key = rehearse::compile_key();
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: rehearse::START_MS, seeds: &key, after: None };
    let compiled =
        compile(&source, &options).map_err(|e| Mistake(format!("{}:\n{e}", args.file.display())))?;
    for warning in &compiled.warnings {
        eprint(&format!("{}: {warning}", args.file.display()));
    }
    let arrivals = match &args.arrivals {
        Some(path) => arrivals(path, args.players)?,
        None => Setup::new(args.players).arrivals,
    };
    let setup = Setup {
        arrivals,
        districts: args.districts.as_deref().map(districts).transpose()?,
        behaviour: Behaviour {
            stay_ms: args.stay,
            shakes: args.shakes,
            claims_percent: args.claims,
            ..Behaviour::default()
        },
        nodes: args.nodes,
        threads: args.threads,
        vendors: args.vendors.clone(),
        seed: args.seed,
        ..Setup::new(args.players)
    };
    setup.check(&compiled.plan).map_err(|e| Mistake(e.to_string()))?;
    let began_ns = SystemClock.mono_ns();
    let mut teller = Teller::new(args.progress);
    let rehearsal = rehearse::rehearse(&compiled.plan, &setup, |progress| teller.tell(progress))?;
    teller.end();
    let took_ns = SystemClock.mono_ns() - began_ns;
    show(args, &rehearsal, took_ns)?;
    for law in rehearsal.laws.iter().filter(|law| !law.holds) {
        eprint(&format!("hongbao: LAW BROKEN: {}: {}", law.law, law.detail));
    }
    Ok(if rehearsal.holds() { exit::OK } else { exit::CHECK_FAILED })
}

fn arrivals(path: &Path, players: u64) -> Result<Arrivals, Mistake> {
    let text = table(path, "arrivals", "take longer steps")?;
    Arrivals::parse(&text, players).map_err(|e| Mistake(format!("{}: {e}", path.display())))
}

fn districts(path: &Path) -> Result<Districts, Mistake> {
    let text = table(path, "districts", "join small districts")?;
    Districts::parse(&text).map_err(|e| Mistake(format!("{}: {e}", path.display())))
}

/// The text of a table, if it is not too long.
fn table(path: &Path, what: &str, shorter: &str) -> Result<String, Mistake> {
    let shown = path.display();
    let unreadable = |e: std::io::Error| Mistake(format!("{what} {shown} can't be read: {e}"));
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > TABLE_BYTES_MAX {
        return Err(Mistake(format!("{shown}: {bytes} bytes; at most {TABLE_BYTES_MAX}: {shorter}")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn show(args: &RehearseArgs, rehearsal: &Rehearsal, took_ns: u64) -> anyhow::Result<()> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if to_stdout {
        print(&rehearsal.json());
    } else {
        print(rehearse::text(rehearsal).trim_end());
        if let Some(path) = &args.json {
            std::fs::write(path, rehearsal.json()).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    if let Some(path) = &args.html {
        std::fs::write(path, rehearse::html(rehearsal))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let seconds = took_ns as f64 / 1e9;
    let draws = rehearsal.totals.draws;
    eprint(&format!(
        "rehearsed {draws} draws in {seconds:.1} s, {:.0} a second",
        draws as f64 / seconds.max(0.001)
    ));
    Ok(())
}

/// Says on standard error how far it is: one line that is written over, on a terminal.
struct Teller {
    is_terminal: bool,
    speaks: bool,
    next_ns: u64,
    began_ns: u64,
}

impl Teller {
    fn new(asked: bool) -> Teller {
        let is_terminal = std::io::stderr().is_terminal();
        let now_ns = SystemClock.mono_ns();
        Teller { is_terminal, speaks: asked || is_terminal, next_ns: now_ns, began_ns: now_ns }
    }

    fn tell(&mut self, p: &Progress) -> ControlFlow<()> {
        if !self.speaks {
            return ControlFlow::Continue(());
        }
        let now_ns = SystemClock.mono_ns();
        if now_ns >= self.next_ns {
            self.next_ns = now_ns + LINE_NS[usize::from(!self.is_terminal)];
            let seconds = ((now_ns - self.began_ns) as f64 / 1e9).max(0.001);
            let line = format!(
                "{:3} %  {} players came, {} draws, {} wins, {:.2} million draws a second",
                p.permille / 10,
                p.come,
                p.draws,
                p.wins,
                p.draws as f64 / seconds / 1e6
            );
            if self.is_terminal {
                let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
            } else {
                eprint(&line);
            }
        }
        ControlFlow::Continue(())
    }

    fn end(&self) {
        if self.is_terminal && self.speaks {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn reads_durations() {
        assert_eq!([millis("500ms"), millis("90s"), millis("2h")], [Ok(500), Ok(90_000), Ok(7_200_000)]);
        for bad in ["", "5", "s", "0s", "-1m", "5w", "99999999999999999999s"] {
            assert!(millis(bad).is_err(), "{bad}");
        }
    }
}
