//! Bare servers: what a machine can do at best with the same messages. They know no user and decide nothing; they log
//! everybody in, show one campaign, and answer every submit with a loss of the usual size.

mod frames;
mod http;

pub use frames::FrameEcho;
pub use http::HttpEcho;

use protocol::v1::{CampaignView, Outcome, RoundView, SubmitAnswer};

/// A campaign that has been open for an hour and stays open for a day.
fn campaign(now_ms: u64) -> CampaignView {
    let round = RoundView {
        round: 1,
        name: "Echo".to_owned(),
        open_ms: now_ms.saturating_sub(3_600_000),
        close_ms: now_ms + 86_400_000,
        start_delay_ms: 0,
        seed_commitment: vec![0; 32],
    };
    CampaignView {
        campaign: 1,
        name: "Echo".to_owned(),
        seq_no: 1,
        rounds: vec![round],
        interval_ms: 1_000,
        submit_min_ms: 1_000,
    }
}

/// A loss with numbers as large as usual.
fn loss(user: u64) -> SubmitAnswer {
    SubmitAnswer {
        counter: 4_000,
        next_counter: 4_001,
        outcome: Outcome::Lost.into(),
        next_submit_ms: 1_000,
        user,
        ..SubmitAnswer::default()
    }
}
