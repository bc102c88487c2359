//! What the tests share: a key, options, a small campaign.

use campaign::{CampaignId, SeedKey, SeqNo};
use quota_config::{
    Adjustments, CompileOptions, Compiled, Draft, Kind, Problems, Publisher, Role, StoredCommitments, compile,
};

pub const KEY: SeedKey = SeedKey { id: 7, key: [9; 32] };

/// 2026-02-16 20:00 in Shanghai.
pub const EVENING_MS: u64 = 1_771_243_200_000;

pub fn compile_text(text: &str) -> Result<Compiled, Problems> {
    compile(
        text.as_bytes(),
        &CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None },
    )
}

pub fn publisher(now_ms: u64) -> Publisher {
    Publisher { author: "li".into(), reason: "a test".into(), now_ms }
}

/// A version of whatever text, with the commitments of [`SMALL`].
pub fn draft(campaign: u32, after: u64, source: &str) -> Draft {
    Draft {
        campaign: CampaignId(campaign),
        after: SeqNo(after),
        kind: Kind::File,
        of: None,
        source: source.as_bytes().to_vec(),
        adjustments: Adjustments::default(),
        base_ms: EVENING_MS,
        commitments: StoredCommitments::of(&compile_text(SMALL).unwrap().plan),
        author: "李雷".into(),
        role: Role::Operator,
        reason: "more cash".into(),
        at_ms: EVENING_MS + 2_000,
        proposal: None,
        approvals: Vec::new(),
        summary: Vec::new(),
    }
}

/// A campaign with one vendor and two rounds of a minute; `+0s` and `+5m`. 18 lines long.
pub const SMALL: &str = "\
campaign: 4
name: Small
time_zone: Asia/Shanghai
vendors:
  - {id: 1, name: Wallet}
prize_sets:
  cash:
    - id: 1
      name: Cash
      kind: cash
      weight: 1
      vendor: 1
      units: 100
      sum: 400
      min: 0.50
      max: 20
rounds:
  - {id: 1, name: One, open: +0s, duration: 1m, prizes: cash}
  - {id: 2, name: Two, open: +5m, duration: 1m, prizes: cash}
";
