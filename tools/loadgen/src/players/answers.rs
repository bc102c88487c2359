//! What answers mean to the crowd: counts, rounds, latencies, and what was told.

use std::collections::HashSet;

use client::Heard;
use protocol::error::Code;
use protocol::v1::{self, Outcome, SubmitAnswer};

use super::links::Asked;
use super::world::World;
use super::{RoundReport, Wait};
use crate::LoadError;

/// Rounds' last stretch, in which every unit left must find a player.
const LAST_MS: u64 = 3_000;

/// When an error allows the same again; `None`: never.
pub(super) fn retry_of(error: &v1::Error) -> Option<u32> {
    let passing =
        [Code::Busy, Code::Unavailable, Code::RateLimited].iter().any(|code| code.word() == error.code);
    (passing || error.retry_after_ms > 0).then_some(error.retry_after_ms)
}

/// Keeps the longest wait of a second. Seconds come in order; a clock that was set back counts into the last.
fn note_wait(waits: &mut Vec<Wait>, at_s: u64, ms: u64) {
    match waits.last_mut() {
        Some(last) if last.at_s >= at_s => last.longest_ms = last.longest_ms.max(ms),
        _ => waits.push(Wait { at_s, longest_ms: ms }),
    }
}

impl World {
    /// An answer to a player's submit.
    pub fn answered(&mut self, player: u32, attempt: u32, answer: &SubmitAnswer) -> Result<(), LoadError> {
        let server_ms = self.server_ms();
        let outcome = answer.outcome();
        let slot = &mut self.players[player as usize];
        let draw = slot.core.draw();
        let heard = slot.core.on_answer(server_ms, attempt, answer, &self.config.rules);
        if outcome == Outcome::NotOpen
            && let Some(window) = self.schedule.as_ref().and_then(|schedule| schedule.at(answer.until_ms))
            && draw.is_some_and(|(round, _)| round == window.round)
        {
            slot.delay_ms = answer.until_ms - window.open_ms;
        }
        self.count(outcome, heard);
        if let (Outcome::Won, Some(award)) = (outcome, &answer.award) {
            let user = self.players[player as usize].core.user();
            if self.told.hear(user, award)? {
                if let Some((round, _)) = self.round(award.round) {
                    round.wins_told += 1;
                }
                self.after_win(player, award);
            }
        }
        if let (Heard::Lost | Heard::Won { settled: true }, Some((round, _))) = (heard, draw) {
            self.entered(player, round, outcome);
        }
        self.arm(player, 0);
        Ok(())
    }

    fn entered(&mut self, player: u32, round: u32, outcome: Outcome) {
        let slot = &self.players[player as usize];
        let latency_us = self.now_us.saturating_sub(slot.intended_us);
        let asked_ms = slot.asked_ms;
        let at_s = self.wall_ms() / 1_000;
        note_wait(&mut self.waits, at_s, latency_us / 1_000);
        if outcome == Outcome::Won {
            self.won.record_us(latency_us)
        } else {
            self.lost.record_us(latency_us)
        }
        let Some((report, players)) = self.round(round) else { return };
        report.entries += 1;
        report.entries_last_3s +=
            u64::from(asked_ms.is_some_and(|ms| ms + LAST_MS >= report.close_ms && ms < report.close_ms));
        players.insert(player);
    }

    fn round(&mut self, round: u32) -> Option<&mut (RoundReport, HashSet<u32>)> {
        let schedule = self.schedule.as_ref()?;
        let window = schedule.windows().iter().find(|w| w.round == round)?;
        let place = match self.rounds.iter().position(|(known, _)| known.round == round) {
            Some(place) => place,
            None => {
                let campaign = schedule.campaign();
                self.rounds.push((RoundReport { campaign, round, ..RoundReport::default() }, HashSet::new()));
                self.rounds.len() - 1
            }
        };
        let report = &mut self.rounds[place];
        (report.0.open_ms, report.0.close_ms) = (window.open_ms, window.close_ms);
        Some(report)
    }

    fn count(&mut self, outcome: Outcome, heard: Heard) {
        let counts = &mut self.counts;
        let count = match (outcome, heard) {
            (_, Heard::Nonsense) => &mut counts.nonsense,
            (_, Heard::Stale | Heard::KnownWin) => &mut counts.stale,
            (Outcome::Lost, _) => &mut counts.lost,
            (Outcome::Won, _) => &mut counts.won,
            (Outcome::Pending, _) => &mut counts.pending,
            (Outcome::TooEarly, _) => &mut counts.too_early,
            (Outcome::NotOpen, _) => &mut counts.not_open,
            (Outcome::LimitReached, _) => &mut counts.limit_reached,
            (Outcome::Busy, _) => &mut counts.busy,
            (Outcome::Unavailable, _) => &mut counts.unavailable,
            (Outcome::BadCounter, _) => &mut counts.bad_counter,
            (Outcome::UnknownCampaign, _) => &mut counts.unknown_campaign,
            (Outcome::Unspecified, _) => &mut counts.nonsense,
        };
        *count += 1;
    }

    /// A request failed.
    pub fn failed(&mut self, asked: Asked, error: &v1::Error) {
        self.counts.errors += 1;
        match asked {
            Asked::Submit { player, attempt } => {
                let server_ms = self.server_ms();
                let slot = &mut self.players[player as usize];
                slot.core.on_error(server_ms, attempt, retry_of(error), &self.config.rules);
                self.arm(player, 0);
            }
            Asked::Errand(place) => self.errand_error(place, error),
            Asked::Campaigns => {}
        }
    }
}
