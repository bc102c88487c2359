//! Official accounts and applications, as they are configured.

use crate::options::OptionsError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The applications.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsConfig {
    /// Each with an official account of its own.
    pub applications: Vec<Application>,
}

/// An application: reads a topic and tells users about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Name of its group of consumers: lower-case letters, digits, `-`.
    pub group: String,
    /// Topic that it reads; its records are those of delivery's journal.
    pub topic: String,
    /// Number of its account among the users.
    pub account: u64,
    /// Its account's names by language.
    pub names: BTreeMap<String, String>,
    /// Its texts by language.
    pub texts: BTreeMap<String, Texts>,
    /// Only awards of this campaign; 0: of all.
    #[serde(default)]
    pub campaign: u32,
}

/// Texts of an application in one language. `{yuan}` is the amount in yuan with two decimals, `{award}` the award's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// Sent when an award is on record.
    pub won: String,
    /// Sent when it is with the user.
    pub arrived: String,
    /// Instead of `won`, when the award has no amount (vouchers, goods).
    #[serde(default)]
    pub won_thing: Option<String>,
    /// Instead of `arrived`, when the award has no amount.
    #[serde(default)]
    pub arrived_thing: Option<String>,
}

impl AccountsConfig {
    /// Checks names, accounts and texts.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self) -> Result<(), OptionsError> {
        let wrong = |must: String| Err(OptionsError { field: "accounts.applications", must });
        for (at, app) in self.applications.iter().enumerate() {
            let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if app.group.is_empty() || app.group.len() > 40 || !app.group.chars().all(right) {
                return wrong(format!("group `{}`: 1 to 40 lower-case letters, digits and `-`", app.group));
            }
            if app.account == 0 || app.texts.is_empty() {
                return wrong(format!(
                    "application {}: an account above 0, and texts in a language",
                    app.group
                ));
            }
            let before = &self.applications[..at];
            if before.iter().any(|b| b.group == app.group || b.account == app.account) {
                return wrong(format!("application {}: a group and an account of its own", app.group));
            }
        }
        Ok(())
    }
}

/// What is there in a language: exactly, else in its main language, else in the default one, else the first.
pub fn in_language<'a, T>(all: &'a BTreeMap<String, T>, language: &str, default: &str) -> Option<&'a T> {
    let main = |tag: &str| tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
    let like = |tag: &str| {
        let exact = all.iter().find(|(have, _)| have.eq_ignore_ascii_case(tag));
        exact.or_else(|| all.iter().find(|(have, _)| !tag.is_empty() && main(have) == main(tag)))
    };
    like(language).or_else(|| like(default)).or_else(|| all.iter().next()).map(|(_, value)| value)
}
