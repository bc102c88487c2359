//! Official accounts and applications, as they are configured.

use crate::options::OptionsError;
use campaign::{AwardId, Fen};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The applications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Default for AccountsConfig {
    fn default() -> AccountsConfig {
        AccountsConfig { applications: vec![Application::awards()] }
    }
}

impl Application {
    /// The one that is there without any configuration: tells of every award, in Chinese and English.
    pub fn awards() -> Application {
        let texts = |won: &str, arrived: &str, won_thing: &str, arrived_thing: &str| Texts {
            won: won.to_owned(),
            arrived: arrived.to_owned(),
            won_thing: Some(won_thing.to_owned()),
            arrived_thing: Some(arrived_thing.to_owned()),
        };
        let chinese = texts(
            "\u{606d}\u{559c}\u{4f60}\u{ff0c}\u{4e2d}\u{4e86} {yuan} \u{5143}\u{7ea2}\u{5305}\u{ff01}",
            "{yuan} \u{5143}\u{7ea2}\u{5305}\u{5df2}\u{5230}\u{8d26}\u{3002}",
            "\u{606d}\u{559c}\u{4f60}\u{ff0c}\u{4e2d}\u{5956}\u{4e86}\u{ff01}",
            "\u{4f60}\u{7684}\u{5956}\u{54c1}\u{5df2}\u{5230}\u{8d26}\u{3002}",
        );
        let english = texts(
            "You have won a red envelope of {yuan} yuan!",
            "Your red envelope of {yuan} yuan has arrived.",
            "You have won a prize!",
            "Your prize has arrived.",
        );
        let name = |language: &str, name: &str| (language.to_owned(), name.to_owned());
        Application {
            group: "chat".to_owned(),
            topic: queue::JOURNAL.to_owned(),
            account: 900_000_000_001,
            names: [name("zh-CN", "\u{7ea2}\u{5305}\u{52a9}\u{624b}"), name("en", "Red envelopes")].into(),
            texts: [("zh-CN".to_owned(), chinese), ("en".to_owned(), english)].into(),
            campaign: 0,
        }
    }
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

impl Texts {
    /// The text that says so, filled in.
    pub fn text(&self, arrived: bool, award: AwardId, fen: Fen) -> String {
        let (money, thing) = match arrived {
            true => (&self.arrived, &self.arrived_thing),
            false => (&self.won, &self.won_thing),
        };
        let template = if fen.0 == 0 { thing.as_ref().unwrap_or(money) } else { money };
        let yuan = format!("{}.{:02}", fen.0 / 100, fen.0.unsigned_abs() % 100);
        template.replace("{yuan}", &yuan).replace("{award}", &award.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ChatOptions;

    #[test]
    fn a_language_is_found_by_its_nearest_name() {
        let all: BTreeMap<String, u8> = [("en".to_owned(), 1), ("zh-CN".to_owned(), 2)].into();
        let of = |language| in_language(&all, language, "zh-CN").copied();
        assert_eq!(
            (of("EN"), of("en-GB"), of("zh"), of(""), of("fr")),
            (Some(1), Some(1), Some(2), Some(2), Some(2))
        );
        assert_eq!(in_language(&all, "fr", "de"), Some(&1));
    }

    #[test]
    fn texts_are_filled_in_and_mistakes_are_named() {
        let app = Application::awards();
        let text = app.texts["en"].text(true, AwardId(7), Fen(123_405));
        assert_eq!(text, "Your red envelope of 1234.05 yuan has arrived.");
        assert_eq!(app.texts["en"].text(false, AwardId(7), Fen(0)), "You have won a prize!");
        let twice = AccountsConfig { applications: vec![app.clone(), app] };
        let error = ChatOptions { accounts: twice, ..ChatOptions::default() }.check().unwrap_err();
        assert!(error.to_string().contains("a group and an account of its own"), "{error}");
    }
}
