//! The command line.

pub mod args;
pub mod words;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use args::*;

/// Where the rest is explained.
const AFTER: &str = "\
Environment:
  HONGBAO_TOKEN    token, instead of the profile's
  HONGBAO_SERVER   server, as --server
  HONGBAO_PROFILE  profile, as --profile
  NO_COLOR         no colours

Exit codes: 0 done (a change that waits for a second person too), 1 refused or something found, 2 wrong command line \
or profile, 3 nobody answers, 4 not allowed";

/// Quota administration: validate, plan, apply, approve, change live, watch, roll back.
#[derive(Parser)]
#[command(name = "quotactl", version, after_help = AFTER, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    /// What holds for all commands.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for all commands.
#[derive(Args, Clone)]
pub struct Common {
    /// Profile to use, instead of the default one.
    #[arg(long, global = true, value_name = "NAME", value_parser = crate::profile::check_name)]
    pub profile: Option<String>,
    /// Address of the admin API, instead of the profile's: http://HOST:PORT. There is no TLS here.
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Print the API's answers as they are.
    #[arg(long, global = true)]
    pub json: bool,
    /// How long one try may take, in seconds; there are up to four tries.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Check a campaign file on this machine; all problems with line, column, reason and cure.
    Validate(Validate),
    /// Show what a campaign file would change against what runs, and the effect.
    Plan(FileArg),
    /// Put a campaign file into force, for all or for a share (grey).
    Apply(Apply),
    /// List what waits for a second person.
    Proposals(Proposals),
    /// Agree to a proposal of somebody else.
    Approve(Decide),
    /// Turn a proposal down.
    Reject(Decide),
    /// List a campaign's versions: who, when, why.
    History(History),
    /// Show what runs, or one version of it.
    Show(Show),
    /// List the campaigns.
    Campaigns(Page),
    /// Put an earlier version into force again, under a new SeqNo.
    Rollback(Rollback),
    /// Hold a prize, a vendor, a round or a campaign back until it is resumed.
    Pause(Switch),
    /// Let what was paused go on; what was stopped needs an approver.
    Resume(Switch),
    /// Kill switch for a prize, a vendor, a round or a campaign.
    Stop(Switch),
    /// Take units of a prize's budget away; never what is granted already.
    Lower(Lower),
    /// Change how many units a second a prize, or all prizes of a vendor, may release.
    SetRate(SetRate),
    /// Change a prize's chance against the other prizes of its round.
    SetWeight(SetWeight),
    /// Give the grey version to all.
    Promote(Named),
    /// End the grey version.
    Withdraw(Named),
    /// Change how many awards a second are delivered to a vendor, at once; it holds through restarts.
    VendorLimit(VendorLimit),
    /// How everything stands: nodes, prizes, vendors.
    Status,
    /// Status, live, full-screen; as lines where standard output is no terminal. `q` ends it.
    Watch(Watch),
    /// Rehearse a campaign file: here with `hongbao rehearse`, or on a server that is named.
    Simulate(Simulate),
    /// List the audit trail.
    Audit(Page),
    /// Have the audit trail's chain recomputed; exit code 1 if it is broken.
    VerifyAudit,
    /// The text about quantities and odds that players are to be told.
    Disclosure(Disclosure),
    /// Export the winners above an amount as CSV.
    Winners(Winners),
    /// Export the tax on cash prizes as CSV.
    Tax(Export),
    /// Keep a server and a token; the token comes from standard input or HONGBAO_TOKEN.
    Login(Login),
    /// List, choose and remove profiles.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Whose token this is, and its role.
    Whoami,
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Shells with completions.
#[derive(ValueEnum, Clone, Copy)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// What to do with profiles.
#[derive(Subcommand)]
pub enum ProfileCommand {
    /// All profiles, without their tokens.
    List,
    /// Use this one where none is named.
    Use {
        /// Its name.
        #[arg(value_parser = crate::profile::check_name)]
        name: String,
    },
    /// Forget one, its token too.
    Remove {
        /// Its name.
        #[arg(value_parser = crate::profile::check_name)]
        name: String,
    },
    /// Where the file is.
    Path,
}

/// A campaign file.
#[derive(Args)]
pub struct FileArg {
    /// The campaign file; `-` is standard input.
    pub file: PathBuf,
}
