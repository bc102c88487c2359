//! What lottery nodes ask: how far the award store has read their lanes, and what users have won.

use async_trait::async_trait;
use campaign::{CampaignId, NodeId, UserId};
use protocol::calls::{CallError, HISTORY_USERS_MAX, Histories, PastWin};
use records::Won;

use super::handle::{FlowHandle, unavailable};
use crate::limits::WINS_USERS_MAX;

const _: () = assert!(HISTORY_USERS_MAX <= WINS_USERS_MAX);

#[async_trait]
impl Histories for FlowHandle {
    async fn passed(&self, lanes: &[u16]) -> Result<Vec<(u16, u64)>, CallError> {
        let nodes: Vec<NodeId> = lanes.iter().map(|lane| NodeId(*lane)).collect();
        let passed = self.store().passed(&nodes).await.map_err(unavailable)?;
        Ok(passed.into_iter().map(|(node, position)| (node.0, position)).collect())
    }

    async fn wins(&self, asked: &[(UserId, CampaignId)]) -> Result<Vec<Vec<PastWin>>, CallError> {
        if asked.len() > HISTORY_USERS_MAX {
            let why =
                format!("{} users; at most {HISTORY_USERS_MAX} may be asked about in a call", asked.len());
            return Err(CallError::Invalid(why));
        }
        let wins = self.store().wins_of(asked).await.map_err(unavailable)?;
        Ok(wins.iter().map(|of_user| of_user.iter().map(past_win).collect()).collect())
    }
}

fn past_win(won: &Won) -> PastWin {
    let Won { award, user, campaign, round, day, counter, prize, unit, fen, .. } = *won;
    PastWin { award, user, campaign, round, day, counter, prize, unit, fen }
}
