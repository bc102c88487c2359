//! Lists for authorities: every fen, each row once, and never a wrong order.

use crate::support::{SMALL, compile_text};
use campaign::{AwardId, Fen, NodeEpoch, NodeId, PrizeId, PrizeKind, RoundId, UserId};
use proptest::prelude::*;
use quota_config::{AwardRow, AwardState, CN_WINNERS_ABOVE, TaxError, tax, tax_csv, winners_csv};

/// 2026-02-16 20:00 in Shanghai.
const AT_MS: u64 = 1_771_243_200_000;

fn row(user: u64, kind: PrizeKind, fen: i64, state: AwardState) -> AwardRow {
    let value = (kind != PrizeKind::Cash).then_some(Fen(fen));
    AwardRow {
        award: AwardId::new(AT_MS, NodeId(1), NodeEpoch(1), user),
        user: UserId(user),
        round: RoundId(2),
        prize: PrizeId(11),
        kind,
        fen: if kind == PrizeKind::Cash { Fen(fen) } else { Fen::ZERO },
        value,
        at_ms: AT_MS,
        state,
    }
}

#[test]
fn winners_above_five_hundred_yuan() {
    use AwardState::{Delivered, Failed, Lapsed, Won};
    let plan = compile_text(SMALL).unwrap().plan;
    let rows = [
        row(1, PrizeKind::Cash, 50_000, Delivered),
        row(2, PrizeKind::Cash, 50_001, Delivered),
        row(3, PrizeKind::Goods, 300_000, Won),
        row(4, PrizeKind::Voucher, 300_000, Lapsed),
        row(5, PrizeKind::Cash, 300_000, Failed),
    ];
    let mut out = Vec::new();
    assert_eq!(winners_csv(rows.clone(), CN_WINNERS_ABOVE, &plan, &mut out).unwrap(), 2);
    let expected = format!(
        "award,user,round,prize,kind,yuan,won_at,state\r\n\
         {},2,2,11,cash,500.01,2026-02-16 20:00:00,delivered\r\n\
         {},3,2,11,goods,3000.00,2026-02-16 20:00:00,won\r\n",
        rows[1].award, rows[2].award
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn tax_by_user() {
    use AwardState::{Delivered, Won};
    let rows = [
        row(1, PrizeKind::Cash, 88, Delivered),
        row(1, PrizeKind::Cash, 88, Delivered),
        row(1, PrizeKind::Cash, 1_000, Won),
        row(2, PrizeKind::Goods, 80_000, Delivered),
        row(3, PrizeKind::Cash, 20_000, Delivered),
    ];
    let mut out = Vec::new();
    let total = tax_csv(rows, &mut out).unwrap();
    // 20 % of 0.88 is 0.176: each payment's 0.18, not 0.35 on both together.
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "user,payments,paid_yuan,tax_yuan\r\n1,2,1.76,0.36\r\n3,1,200.00,40.00\r\n"
    );
    assert_eq!((total.users, total.payments, total.paid_fen, total.tax_fen), (2, 3, 20_176, 4_036));
    assert_eq!(total.to_string(), "2 users, 3 payments, 201.76 yuan paid, 40.36 yuan of tax");
}

#[test]
fn rows_out_of_order_are_refused() {
    let cash = |user| row(user, PrizeKind::Cash, 100, AwardState::Delivered);
    let error = tax_csv([cash(2), cash(3), cash(2)], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, TaxError::Order { user: UserId(2), last: UserId(3), .. }), "{error}");
    let mut much = cash(9);
    much.fen = Fen(i64::MAX);
    assert!(matches!(tax_csv([much.clone(), much], &mut Vec::new()), Err(TaxError::Sum(UserId(9)))));
}

proptest! {
    /// The tax is the fen nearest to a fifth, on any amount.
    #[test]
    fn tax_is_the_nearest_fen(fen in 0..=i64::MAX) {
        let off = i128::from(tax(Fen(fen)).0) * 5 - i128::from(fen);
        prop_assert!(off.abs() <= 2);
    }

    /// The list is whole: what it sums to is what was paid.
    #[test]
    fn nothing_is_lost(mut pays in prop::collection::vec((1u64..20, 1i64..10_000, any::<bool>()), 0..100)) {
        pays.sort_by_key(|p| p.0);
        let state = |paid| if paid { AwardState::Delivered } else { AwardState::Won };
        let rows = pays.iter().map(|p| row(p.0, PrizeKind::Cash, p.1, state(p.2)));
        let mut out = Vec::new();
        let total = tax_csv(rows, &mut out).unwrap();
        let paid: i128 = pays.iter().filter(|p| p.2).map(|p| i128::from(p.1)).sum();
        let due: i128 = pays.iter().filter(|p| p.2).map(|p| i128::from(tax(Fen(p.1)).0)).sum();
        prop_assert_eq!((total.paid_fen, total.tax_fen), (paid, due));
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.lines().count() as u64, total.users + 1);
        let listed: i128 = text.lines().skip(1).map(|l| {
            let yuan = l.split(',').nth(2).unwrap();
            yuan.replace('.', "").parse::<i128>().unwrap()
        }).sum();
        prop_assert_eq!(listed, paid);
    }
}
