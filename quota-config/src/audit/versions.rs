//! Versions held against the trail: each `reserve` row pins down what was stored under its number, and the rows behind
//! it say what became of it.

use super::{AuditRow, Broken};
use crate::repository::check;
use crate::repository::{PlanRepository, RepositoryError, State, Version};
use campaign::{CampaignId, SeqNo};
use serde_json::Value;
use std::collections::BTreeMap;

type Key = (CampaignId, SeqNo);

/// What the trail tells of versions.
#[derive(Default)]
pub(super) struct Told {
    reserved: BTreeMap<Key, Reserved>,
    states: BTreeMap<Key, (State, u64)>,
}

/// What a `reserve` row says.
struct Reserved {
    row: u64,
    detail: String,
    of: Option<SeqNo>,
    promotes: bool,
}

/// What holding them against each other has found.
#[derive(Default)]
pub(super) struct Held {
    pub good: u64,
    pub before_trail: u64,
    pub broken: Option<Broken>,
}

impl Told {
    /// Takes the next row.
    pub fn take(&mut self, row: &AuditRow) {
        let (Some(campaign), Some(seq_no)) = (row.campaign, row.seq_no) else { return };
        let key = (campaign, seq_no);
        let detail = || serde_json::from_str::<Value>(&row.detail).unwrap_or_default();
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).map(SeqNo);
        let state = match row.action.as_str() {
            "reserve" => {
                let said = detail();
                let (of, promotes) = (number(&said["of"]), said["kind"] == "promote");
                self.reserved.insert(key, Reserved { row: row.n, detail: row.detail.clone(), of, promotes });
                State::Reserved
            }
            "activate" => {
                let promoted = self.reserved.get(&key).filter(|r| r.promotes).and_then(|r| r.of);
                if let Some(of) = promoted {
                    self.states.insert((campaign, of), (State::Promoted, row.n));
                }
                State::Active
            }
            "grey" => {
                if let Some(before) = number(&detail()["instead_of"]) {
                    self.states.insert((campaign, before), (State::Withdrawn, row.n));
                }
                State::Grey
            }
            "withdraw" => State::Withdrawn,
            _ => return,
        };
        self.states.insert(key, (state, row.n));
    }

    /// Holds what is stored against it.
    pub async fn hold(&self, repository: &dyn PlanRepository) -> Result<Held, RepositoryError> {
        let mut held = Held::default();
        for ((campaign, seq_no), reserved) in &self.reserved {
            let what = match repository.get(*campaign, *seq_no).await {
                Ok(Some(version)) => self.differs(&version, reserved),
                Ok(None) => Some((reserved.row, "is not stored any more".to_string())),
                Err(RepositoryError::Damaged { what, .. }) => {
                    Some((reserved.row, format!("is damaged: {what}")))
                }
                Err(e) => return Err(e),
            };
            if let Some((at, what)) = what {
                let why = format!("campaign {campaign}, SeqNo {seq_no} {what}");
                held.broken = Some(Broken { at, why });
                return Ok(held);
            }
            held.good += 1;
        }
        self.unknown(repository, &mut held).await?;
        Ok(held)
    }

    /// The row that says otherwise, and what.
    fn differs(&self, version: &Version, reserved: &Reserved) -> Option<(u64, String)> {
        let row = reserved.row;
        let Ok(Value::Object(said)) = serde_json::from_str(&reserved.detail) else {
            return Some((row, format!("has a row {row} that can't be read")));
        };
        let now: Value = serde_json::from_str(&check::reserved(version).detail).unwrap_or_default();
        // Rows that an older program wrote may say less.
        if let Some((key, value)) = said.iter().find(|(key, value)| now.get(key.as_str()) != Some(*value)) {
            let is = now.get(key).unwrap_or(&Value::Null);
            return Some((row, format!("has {key} {is}; row {row} says {value}")));
        }
        let (state, row) = self.states.get(&(version.info.campaign, version.info.seq_no))?;
        let is = version.info.state;
        (is != *state).then(|| (*row, format!("is {}; row {row} says {}", is.name(), state.name())))
    }

    /// Versions that no row knows: those from before the trail, and what was put in behind its back.
    async fn unknown(&self, repository: &dyn PlanRepository, held: &mut Held) -> Result<(), RepositoryError> {
        let mut first: BTreeMap<CampaignId, SeqNo> =
            repository.heads().await?.into_iter().map(|(campaign, _)| (campaign, SeqNo(u64::MAX))).collect();
        for (campaign, seq_no) in self.reserved.keys().rev() {
            first.insert(*campaign, *seq_no);
        }
        for (campaign, from) in first {
            for info in repository.all(campaign).await? {
                if self.reserved.contains_key(&(campaign, info.seq_no)) {
                    continue;
                }
                if info.seq_no < from {
                    held.before_trail += 1;
                    continue;
                }
                let at = self.reserved.get(&(campaign, from)).map_or(1, |r| r.row);
                let why = format!(
                    "campaign {campaign}, SeqNo {} is stored, and no row reserved it: it was put in",
                    info.seq_no
                );
                held.broken = Some(Broken { at, why });
                return Ok(());
            }
        }
        Ok(())
    }
}
