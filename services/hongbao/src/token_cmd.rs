//! `hongbao token`: test tokens. An app's own login mints its users' tokens itself (`docs/tokens.md`).

use crate::cli::print;
use crate::keys::{Keys, operators_file};
use access::token::GatewayGrant;
use anyhow::bail;
use clap::{Args, Subcommand};
use console::Operators;
use quota_config::Role;
use runtime::{Clock as _, SystemClock, exit};
use std::path::PathBuf;

/// What to make.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// A user's token.
    User {
        /// The user's number, from 1.
        #[arg(long)]
        user: u64,
        #[command(flatten)]
        common: Common,
    },
    /// A credential for a gateway, which carries many players on one connection.
    Gateway {
        /// Its name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// The key that signs tokens, `ID SECRET`, for whoever mints them: an app's login, a load generator. Keep it secret.
    Key {
        /// Folder of all data.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
    /// A token for a person or script that changes campaigns (`quotactl`). It is shown once.
    Operator {
        /// Who it is: the name that history and audit trail show.
        #[arg(long)]
        name: String,
        /// viewer, operator, approver or admin.
        #[arg(long, default_value = "operator")]
        role: Role,
        /// Take the token of that name away instead.
        #[arg(long, conflicts_with = "role")]
        revoke: bool,
        /// Folder of all data.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
    /// The token of `hongbao admin`.
    Admin {
        /// Folder of all data.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
}

/// What all tokens have.
#[derive(Args)]
pub struct Common {
    /// Folder of all data.
    #[arg(long, default_value = "data")]
    data: PathBuf,
    /// How long it is good: 90s, 15m, 12h, 30d.
    #[arg(long, default_value = "1d", value_parser = seconds)]
    ttl: u64,
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no duration: write 90s, 15m, 12h or 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|s| *s > 0).ok_or_else(wrong)
}

/// Prints the token.
pub fn run(command: TokenCommand) -> anyhow::Result<u8> {
    let now_s = SystemClock.now_ms() / 1000;
    match command {
        TokenCommand::User { user: 0, .. } => bail!("user numbers begin at 1"),
        TokenCommand::User { user, common } => {
            print(&Keys::open(&common.data)?.token.mint_user(user, now_s, now_s + common.ttl, None));
        }
        TokenCommand::Gateway { name, common } => {
            if name.is_empty() || name.len() > 64 {
                bail!("a gateway's name has 1 to 64 characters");
            }
            let grant = GatewayGrant { name, ..GatewayGrant::default() };
            print(&Keys::open(&common.data)?.token.mint_gateway(&grant, now_s, now_s + common.ttl, None));
        }
        TokenCommand::Key { data } => print(&Keys::open(&data)?.token_key),
        TokenCommand::Operator { name, revoke: true, data, .. } => {
            Operators::revoke(&operators_file(&data), &name)?;
            print(&format!("{name} has no token any more"));
        }
        TokenCommand::Operator { name, role, data, .. } => {
            // Makes the folder with its mode where there is none yet.
            Keys::open(&data)?;
            print(&Operators::add(&operators_file(&data), &name, role)?);
        }
        TokenCommand::Admin { data } => print(&Keys::open(&data)?.admin_token),
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn reads_durations() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("2d"), Ok(172_800));
        for bad in ["", "d", "5", "0s", "-1m", "5w", "1é", "99999999999999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
