//! Flow and delivery in other processes.

use super::peer::{Again, Peers};
use crate::calls::wire::{CallKind, v1};
use crate::calls::{Accounts, AwardView, Awards, CallError, HISTORY_USERS_MAX, Histories, PastWin};
use crate::v1 as play;
use async_trait::async_trait;
use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId, VendorId};
use prost::Message;
use std::sync::Arc;

/// [`Awards`] at any flow node.
#[derive(Clone)]
pub struct RemoteAwards(Arc<Peers>);

/// [`Accounts`] at any delivery node.
#[derive(Clone)]
pub struct RemoteAccounts(Arc<Peers>);

/// [`Histories`] at any flow node.
#[derive(Clone)]
pub struct RemoteHistories(Arc<Peers>);

impl RemoteAwards {
    /// Awards at these nodes.
    pub fn new(peers: Arc<Peers>) -> RemoteAwards {
        RemoteAwards(peers)
    }
}

impl RemoteAccounts {
    /// Accounts at these nodes.
    pub fn new(peers: Arc<Peers>) -> RemoteAccounts {
        RemoteAccounts(peers)
    }
}

impl RemoteHistories {
    /// Histories at these nodes.
    pub fn new(peers: Arc<Peers>) -> RemoteHistories {
        RemoteHistories(peers)
    }
}

async fn ask<A: Message + Default>(
    peers: &Peers,
    (kind, answer): (CallKind, CallKind),
    message: &impl Message,
    again: Again,
) -> Result<A, CallError> {
    let body = peers.call(kind, &message.encode_to_vec(), answer, again).await?;
    A::decode(&body[..])
        .map_err(|error| CallError::Unavailable(format!("{answer:?} that can't be read: {error}")))
}

#[async_trait]
impl Awards for RemoteAwards {
    async fn prizes(
        &self,
        user: UserId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<(Vec<AwardView>, bool), CallError> {
        let after = after.map(|after| after.to_string()).unwrap_or_default();
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let request = play::PrizesRequest { user: user.0, after, limit };
        let kinds = (CallKind::Prizes, CallKind::PrizesAnswer);
        let page: play::PrizesAnswer = ask(&self.0, kinds, &request, Again::Safe).await?;
        Ok((page.awards, page.more))
    }

    async fn claim(&self, user: UserId, award: AwardId) -> Result<AwardView, CallError> {
        let claim = play::Claim { user: user.0, award: award.to_string() };
        let kinds = (CallKind::Claim, CallKind::ClaimAnswer);
        // Pressing again is harmless: the answer is the award's present state.
        let answer: play::ClaimAnswer = ask(&self.0, kinds, &claim, Again::Safe).await?;
        answer.award.ok_or_else(|| CallError::Unavailable("a claim's answer has no award".to_owned()))
    }
}

#[async_trait]
impl Accounts for RemoteAccounts {
    async fn set_account(&self, user: UserId, vendor: VendorId, account: &str) -> Result<u64, CallError> {
        let message = play::Account { user: user.0, vendor: vendor.0, account: account.to_owned() };
        let kinds = (CallKind::Account, CallKind::AccountAnswer);
        let answer: play::AccountAnswer = ask(&self.0, kinds, &message, Again::IfNotDone).await?;
        Ok(answer.version)
    }
}

#[async_trait]
impl Histories for RemoteHistories {
    async fn passed(&self, lanes: &[u16]) -> Result<Vec<(u16, u64)>, CallError> {
        let message = v1::Passed { lanes: lanes.iter().map(|lane| u32::from(*lane)).collect() };
        let kinds = (CallKind::Passed, CallKind::PassedAnswer);
        let answer: v1::PassedAnswer = ask(&self.0, kinds, &message, Again::Safe).await?;
        if answer.positions.len() != lanes.len() {
            let (asked, got) = (lanes.len(), answer.positions.len());
            return Err(CallError::Unavailable(format!("{got} positions came for {asked} lanes")));
        }
        Ok(lanes.iter().copied().zip(answer.positions).collect())
    }

    async fn wins(&self, asked: &[(UserId, CampaignId)]) -> Result<Vec<Vec<PastWin>>, CallError> {
        if asked.len() > HISTORY_USERS_MAX {
            let text = format!("{} users are asked about, at most {HISTORY_USERS_MAX} a call", asked.len());
            return Err(CallError::Invalid(text));
        }
        let mut wins = Vec::with_capacity(asked.len());
        while wins.len() < asked.len() {
            let left = &asked[wins.len()..];
            let message = v1::Wins {
                users: left.iter().map(|(user, _)| user.0).collect(),
                campaigns: left.iter().map(|(_, campaign)| campaign.0).collect(),
            };
            let kinds = (CallKind::Wins, CallKind::WinsAnswer);
            let answer: v1::WinsAnswer = ask(&self.0, kinds, &message, Again::Safe).await?;
            if answer.users.is_empty() || answer.users.len() > left.len() {
                let (n, got) = (left.len(), answer.users.len());
                return Err(CallError::Unavailable(format!("{got} histories came for {n} users")));
            }
            for (of_user, &(user, campaign)) in answer.users.into_iter().zip(left) {
                let read = of_user.wins.into_iter().map(|win| past_win(user, campaign, &win));
                wins.push(read.collect::<Result<_, _>>()?);
            }
        }
        Ok(wins)
    }
}

fn past_win(user: UserId, campaign: CampaignId, win: &v1::Win) -> Result<PastWin, CallError> {
    let award: [u8; 16] = win.award[..]
        .try_into()
        .map_err(|_| CallError::Unavailable(format!("an award id has 16 bytes, not {}", win.award.len())))?;
    Ok(PastWin {
        award: AwardId::from_bytes(award),
        user,
        campaign,
        round: RoundId(win.round),
        day: win.day,
        counter: win.counter,
        prize: PrizeId(win.prize),
        unit: win.unit,
        fen: Fen(win.fen),
    })
}
