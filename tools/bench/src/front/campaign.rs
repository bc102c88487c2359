//! The campaign that is measured with: one round of a day, released evenly, at a rate that makes the wanted share of
//! the draws win.

use std::fmt::Write as _;

/// Seconds of the round.
const SECONDS: u64 = 86_400;

/// Id of the vendor of cash.
pub const WALLET: u32 = 1;
/// Id of the vendor of vouchers and goods.
pub const VOUCHERS: u32 = 11;
/// Id of the vendor of covers, which are delivered on claim.
pub const COVERS: u32 = 21;

/// A campaign for a bench.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Units released a second, all prizes together.
    pub wins_per_second: u64,
    /// Least interval between a player's submits, in ms.
    pub interval_ms: u32,
    /// How often the five prizes are there: a node holds two leases of a prize, which bounds a prize's speed.
    pub times: u32,
}

impl Campaign {
    /// The campaign file.
    pub fn yaml(&self) -> String {
        let Campaign { wins_per_second, interval_ms, times } = *self;
        let speed = wins_per_second.max(1) * 2;
        let mut out = format!(
            "campaign: 3
name: Benchmark
time_zone: Asia/Shanghai
vendors:
  - {{id: {WALLET}, name: Wallet, release_per_second: {speed}}}
  - {{id: {VOUCHERS}, name: Vouchers, release_per_second: {speed}}}
  - {{id: {COVERS}, name: Covers}}
limits:
  wins_per_round: 60000
  wins_per_day: 60000
  wins_per_campaign: 60000
  interval: {interval_ms}ms
  shakes_per_second: 5
client: {{submit_min: {interval_ms}ms, submit_max: {}ms}}
rounds:
  - id: 1
    name: All day
    open: +0s
    duration: 24h
    prizes:
",
            interval_ms.max(3_000)
        );
        // Shares of the units in percent.
        let prizes = [
            (48, WALLET, "cash", ", min: 0.50, max: 200"),
            (24, WALLET, "cash", ", each: 0.88"),
            (12, VOUCHERS, "voucher", ""),
            (12, VOUCHERS, "goods", ""),
            (4, COVERS, "cover", ", deliver: on_claim, term: 7d"),
        ];
        for id in 0..5 * times {
            let (share, vendor, kind, more) = prizes[id as usize % 5];
            let units = (wins_per_second * SECONDS * share / 100 / u64::from(times)).max(1);
            let sum = if more.contains("min") { format!(", sum: {}", 2 * units) } else { String::new() };
            // Writing to a string can't fail.
            let _ = writeln!(
                out,
                "      - {{id: {}, name: Prize {0}, kind: {kind}, weight: {share}, vendor: {vendor}, units: {units}{sum}{more}}}",
                id + 1
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Campaign;
    use ::campaign::{Prize, SeedKey, SeqNo};
    use quota_config::{CompileOptions, compile};

    #[test]
    fn campaigns_compile_and_release_what_is_asked_for() {
        let seeds = SeedKey { id: 1, key: [0; 32] };
        for (wins_per_second, interval_ms, times) in [(8_300, 1_000, 1), (100, 1, 1), (400_000, 1_000, 4)] {
            let text = Campaign { wins_per_second, interval_ms, times }.yaml();
            let options = CompileOptions { seq_no: SeqNo(1), base_ms: 1_000_000, seeds: &seeds, after: None };
            let plan = compile(text.as_bytes(), &options).map_err(|e| e.to_string()).unwrap().plan;
            let units: u64 = plan.rounds.iter().flat_map(|r| &r.prizes).map(Prize::units).sum();
            assert_eq!(units / 86_400, wins_per_second);
            assert_eq!(plan.rounds[0].prizes.len() as u32, 5 * times);
            assert_eq!(plan.limits.interval_ms, interval_ms);
        }
    }
}
