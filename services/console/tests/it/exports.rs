//! Lists for authorities: whole, in order, in pages, and never half of one taken for all.

use crate::support::World;
use campaign::{AwardId, Fen, PrizeId, PrizeKind, RoundId, UserId};
use quota_config::{AwardRow, AwardState};
use std::sync::atomic::Ordering;

fn row(award: u128, user: u64, prize: u32, fen: i64) -> AwardRow {
    AwardRow {
        award: AwardId(award),
        user: UserId(user),
        round: RoundId(1),
        prize: PrizeId(prize),
        kind: if prize == 1 { PrizeKind::Cash } else { PrizeKind::Voucher },
        fen: Fen(fen),
        value: None,
        at_ms: 1_771_243_200_000,
        state: AwardState::Delivered,
    }
}

#[tokio::test]
async fn winners_and_tax_stream_page_by_page() {
    let world = World::new().await;
    world.begin().await;
    *world.awards.rows.lock() =
        (1..=10).map(|i| row(i, 11 - i as u64, 1, 40_000 + 2_000 * i as i64)).collect();
    world.awards.rows.lock().push(row(11, 99, 2, 0));
    let path = "/v1/campaigns/4/winners.csv";
    world.get("vic", path).send().await.problem(403, "not-allowed");
    let list = world.get("olga", path).send().await;
    assert!(list.header("content-type").starts_with("text/csv"));
    assert_eq!(list.header("content-disposition"), "attachment; filename=\"winners-4.csv\"");
    let text = list.text();
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    // Above 500.00 yuan: from the sixth on, and the voucher that the file says is worth 600.
    assert_eq!((lines.len(), lines[0]), (7, "award,user,round,prize,kind,yuan,won_at,state"), "{text}");
    assert!(lines[6].contains("voucher") && lines[6].contains("600.00"), "{text}");
    let all = world.get("olga", &format!("{path}?min_fen=0")).send().await.text();
    assert_eq!(all.lines().count(), 12);
    world.get("olga", &format!("{path}?min_fen=-1")).send().await.problem(400, "malformed");

    let tax = world.get("olga", "/v1/campaigns/4/tax.csv").send().await.text();
    let lines: Vec<&str> = tax.lines().collect();
    assert_eq!((lines.len(), lines[0]), (11, "user,payments,paid_yuan,tax_yuan"));
    assert_eq!((lines[1], lines[10]), ("1,1,600.00,120.00", "10,1,420.00,84.00"));
    world.get("olga", "/v1/campaigns/5/tax.csv").send().await.problem(404, "not-found");
    world.end().await;
}

#[tokio::test]
async fn a_list_that_can_not_begin_says_so_and_one_that_breaks_off_is_seen_to() {
    let world = World::new().await;
    world.begin().await;
    *world.awards.rows.lock() = (1..=10).map(|i| row(i, i as u64, 1, 60_000)).collect();
    world.awards.fails_after.store(1, Ordering::SeqCst);
    world.get("olga", "/v1/campaigns/4/winners.csv").send().await.problem(503, "unavailable");
    world.awards.fails_after.store(3, Ordering::SeqCst);
    let broken = world.get("olga", "/v1/campaigns/4/winners.csv").try_send().await;
    assert!(broken.is_err(), "half a list was taken for a whole one");
    // Its turn is free again.
    world.awards.fails_after.store(0, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(world.get("olga", "/v1/campaigns/4/winners.csv").send().await.text().lines().count(), 11);
    }
    world.end().await;
}
