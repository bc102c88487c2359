//! What each command does.

mod audit;
mod change;
mod changes;
mod export;
mod file;
mod look;
mod profiles;
mod simulate;
mod status;
mod validate;

use std::time::Duration;

use clap::CommandFactory as _;
use serde_json::Value;

use crate::api::{Answer, Api, Ask};
use crate::cli::{Cli, Command, Common, Shell};
use crate::failure::{Failure, OK};
use crate::out;
use crate::profile::{self, choose};
use crate::text::paint::Paint;

/// Runs a command; its exit code.
///
/// # Errors
/// Why it did not do what it was asked to.
pub fn run(cli: Cli) -> Result<u8, Failure> {
    let context = Context { common: cli.common, paint: out::paint() };
    match cli.command {
        Command::Validate(args) => return validate::run(&context, &args),
        Command::Profile(command) => return profiles::run(&context, &command),
        Command::Completions { shell } => return completions(shell),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("starting: {error}")))?;
    runtime.block_on(over_the_api(&context, cli.command))
}

async fn over_the_api(context: &Context, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Plan(args) => changes::plan(context, &args.file).await,
        Command::Apply(args) => changes::apply(context, &args).await,
        Command::Approve(args) => changes::decide(context, &args, "approve").await,
        Command::Reject(args) => changes::decide(context, &args, "reject").await,
        Command::Rollback(args) => changes::rollback(context, &args).await,
        Command::Pause(args) => changes::switch(context, &args, "pause").await,
        Command::Resume(args) => changes::switch(context, &args, "resume").await,
        Command::Stop(args) => changes::switch(context, &args, "stop").await,
        Command::Lower(args) => changes::lower(context, &args).await,
        Command::SetRate(args) => changes::set_rate(context, &args).await,
        Command::SetWeight(args) => changes::set_weight(context, &args).await,
        Command::Promote(args) => changes::grey(context, &args, "promote").await,
        Command::Withdraw(args) => changes::grey(context, &args, "withdraw").await,
        Command::VendorLimit(args) => changes::vendor_limit(context, &args).await,
        Command::Proposals(args) => look::proposals(context, &args).await,
        Command::History(args) => look::history(context, &args).await,
        Command::Show(args) => look::show(context, &args).await,
        Command::Campaigns(page) => look::campaigns(context, &page).await,
        Command::Audit(page) => audit::rows(context, &page).await,
        Command::VerifyAudit => audit::verify_audit(context).await,
        Command::Disclosure(args) => look::disclosure(context, &args).await,
        Command::Whoami => look::whoami(context).await,
        Command::Status => status::run(context).await,
        Command::Watch(args) => crate::watch::run(context, &args).await,
        Command::Simulate(args) => simulate::run(context, &args).await,
        Command::Winners(args) => export::winners(context, &args).await,
        Command::Tax(args) => export::tax(context, &args).await,
        Command::Login(args) => profiles::login(context, &args).await,
        // Done before, without a server.
        Command::Validate(_) | Command::Profile(_) | Command::Completions { .. } => Ok(OK),
    }
}

fn completions(shell: Shell) -> Result<u8, Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quotactl", &mut script);
    out::raw(&script, false)?;
    Ok(OK)
}

/// What every command needs.
pub struct Context {
    /// The options that hold for all.
    pub common: Common,
    /// Colours of standard output.
    pub paint: Paint,
}

impl Context {
    /// What names the server and the token.
    pub fn wishes(&self) -> choose::Wishes {
        choose::Wishes::new(self.common.profile.as_deref(), self.common.server.as_deref())
    }

    /// How long one try may take.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.common.timeout)
    }

    /// A caller of the server that is meant.
    ///
    /// # Errors
    /// When none is named, or the profiles' file can't be used.
    pub fn api(&self) -> Result<Api, Failure> {
        let wishes = self.wishes();
        // Where the environment says everything, the profiles' file is not even opened.
        let profiles = match (&wishes.profile, &wishes.server, &wishes.token) {
            (None, Some(_), Some(_)) => profile::Profiles::default(),
            _ => profile::load(&profile::path()?)?,
        };
        let chosen = choose::choose(&wishes, &profiles)?;
        Api::new(chosen.address, chosen.token.as_deref(), self.patience())
    }

    /// Reads something and shows it: as it came with `--json`, else as `lines` makes of it.
    ///
    /// # Errors
    /// As [`Api::ask`].
    pub async fn look(
        &self,
        ask: &Ask,
        lines: impl FnOnce(&Value, Paint) -> Result<Vec<String>, Failure>,
    ) -> Result<Value, Failure> {
        let answer = self.api()?.ask(ask, None).await?;
        let value = answer.json()?;
        if self.common.json {
            self.as_it_is(&answer)?;
        } else {
            out::print(&lines(&value, self.paint)?.join("\n"))?;
        }
        Ok(value)
    }

    /// Shows an answer as it came.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn as_it_is(&self, answer: &Answer) -> Result<(), Failure> {
        out::raw(&answer.body, !answer.body.ends_with(b"\n")).map(|_| ())
    }
}
