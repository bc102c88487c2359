//! `simulate`: rehearses a campaign. Here, `hongbao rehearse` does it; where a server is named, that server does.

mod arrivals;
mod remote;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::Simulate;
use crate::failure::{Failure, REFUSED};

use super::Context;

/// `simulate`.
pub async fn run(context: &Context, args: &Simulate) -> Result<u8, Failure> {
    if context.common.server.is_some() || context.common.profile.is_some() {
        return remote::run(context, args).await;
    }
    let program = find(args.hongbao.as_deref(), std::env::current_exe().ok().as_deref());
    let mut command = Command::new(&program);
    command.args(arguments(args, context.common.json));
    let status = command.status().map_err(|error| {
        Failure::Refused(format!(
            "running {}: {error}; put `hongbao` beside quotactl or on the PATH, name it with --hongbao, or name a \
             server with --server",
            program.display()
        ))
    })?;
    match status.code() {
        // Exit codes have eight bits.
        Some(code) => Ok(u8::try_from(code & 0xff).unwrap_or(REFUSED)),
        None => {
            Err(Failure::Refused(format!("{} rehearse was ended by a signal ({status})", program.display())))
        }
    }
}

/// What `hongbao` is told.
fn arguments(args: &Simulate, json: bool) -> Vec<OsString> {
    let mut out: Vec<OsString> = vec!["rehearse".into(), args.file.clone().into()];
    out.extend(["--players".into(), args.players.to_string().into()]);
    out.extend(["--arrivals".into(), args.arrivals.clone().into()]);
    if let Some(districts) = &args.districts {
        out.extend(["--districts".into(), districts.clone().into()]);
    }
    if let Some(html) = &args.html {
        out.extend(["--html".into(), html.clone().into()]);
    }
    if json {
        // Behind it stands a file; `-` is standard output.
        out.extend(["--json".into(), "-".into()]);
    }
    out.extend(args.more.iter().cloned());
    out
}

/// The program: the one that is named, the one beside this program, else whatever the PATH has.
fn find(named: Option<&Path>, own: Option<&Path>) -> PathBuf {
    let beside = || own?.parent().map(|dir| dir.join("hongbao")).filter(|path| path.is_file());
    named.map(Path::to_owned).or_else(beside).unwrap_or_else(|| PathBuf::from("hongbao"))
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_program_beside_goes_before_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("quotactl");
        assert_eq!(find(None, Some(&own)), PathBuf::from("hongbao"));
        let beside = dir.path().join("hongbao");
        std::fs::write(&beside, "").unwrap();
        assert_eq!(find(None, Some(&own)), beside);
        assert_eq!(find(Some(Path::new("/x/hb")), Some(&own)), PathBuf::from("/x/hb"));
    }
}
