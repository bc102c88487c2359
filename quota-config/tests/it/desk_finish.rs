//! What a desk that died left half done, and who finishes it.

use crate::desk::{AT, SMALL_ID, li, world};
use crate::support::SMALL;
use campaign::{RoundId, SeqNo, VendorId};
use quota_config::{ChangeState, Rollout, Seen, Target};
use runtime::Clock as _;

#[tokio::test]
async fn a_start_finishes_what_the_ledger_has_done() {
    for steps in 1..=3 {
        for done in [false, true] {
            let w = world().await;
            w.crash.arm(steps, done);
            assert!(w.desk.lower(SMALL_ID, AT(), 30, &li(), "less").await.is_err());
            w.crash.restart();
            // Nobody asks again.
            let found = w.desk.finish().await.unwrap();
            let half = matches!((steps, done), (2, true) | (3, false));
            assert_eq!(found.len(), usize::from(half), "{steps} {done} {found:?}");
            let shown = w.desk.active(SMALL_ID).await.unwrap();
            let taken = w.platform.rows.lock()[&AT()].cancelled;
            assert_eq!(shown.adjustments.lowered.get(&AT()).copied().unwrap_or(0), taken);
            if half {
                assert_eq!((&*shown.info.author, &*shown.info.reason), ("li", "less"));
            }
            assert_eq!(w.desk.finish().await.unwrap(), [], "once is enough");
        }
    }
    // A pause that the ledger has, and no version.
    let w = world().await;
    w.crash.arm(3, false);
    assert!(w.desk.pause(SMALL_ID, Target::Prize(AT()), &li(), "wait").await.is_err());
    w.crash.restart();
    assert!(w.platform.rows.lock()[&AT()].paused && !w.plan().await.rounds[0].prizes[0].paused);
    assert_eq!(w.desk.finish().await.unwrap().len(), 1);
    assert!(w.plan().await.rounds[0].prizes[0].paused);
    // The end of a grey version, before the active one said its speeds again.
    w.desk.resume(SMALL_ID, Target::Prize(AT()), &li(), "go").await.unwrap();
    let share = Rollout { users_per_mille: 10, nodes: [].into() };
    let heavier = SMALL.replace("weight: 1", "weight: 9");
    let grey = w.desk.apply(heavier.as_bytes(), Some(share), &li(), "try").await.unwrap().seq_no.unwrap();
    w.crash.arm(1, true);
    assert!(w.desk.withdraw(SMALL_ID, &li(), "bad").await.is_err());
    w.crash.restart();
    assert_eq!(w.desk.finish().await.unwrap().len(), 1);
    assert!(w.desk.active(SMALL_ID).await.unwrap().info.seq_no > grey);
    // The pace of a vendor, which delivery forgets.
    w.desk.set_vendor_limit(VendorId(1), Some(0), &li(), "stop").await.unwrap();
    *w.platform.pace.lock() = None;
    assert_eq!(w.desk.finish().await.unwrap().len(), 1);
    assert_eq!(*w.platform.pace.lock(), Some(0));
    w.desk.set_vendor_limit(VendorId(1), None, &li(), "go").await.unwrap();
    assert_eq!(w.desk.finish().await.unwrap(), []);
    assert!(w.desk.verify_audit(None).await.unwrap().ok);
}

#[tokio::test]
async fn a_start_takes_no_more_than_was_taken() {
    let w = world().await;
    let person = li();
    let lower = |units| w.desk.lower(SMALL_ID, AT(), units, &person, "less");
    let cut_off = |steps, done| w.crash.arm(steps, done);
    // Reserved and no more; asked again, it goes through under the next number. The gap stays.
    cut_off(1, true);
    assert!(lower(1).await.is_err());
    w.crash.restart();
    assert_eq!(w.desk.finish().await.unwrap(), []);
    assert_eq!(lower(1).await.unwrap().seq_no, Some(SeqNo(3)));
    // The ledger has taken these, and no version says so.
    cut_off(3, false);
    assert!(lower(2).await.is_err());
    w.crash.restart();
    let found = w.desk.finish().await.unwrap();
    let said: Vec<_> = found.iter().map(|f| (f.what.as_str(), &f.error)).collect();
    assert_eq!(said, [("SeqNo 4, lower of li: less", &None)]);
    assert_eq!(w.platform.rows.lock()[&AT()].cancelled, 3);
    assert_eq!(w.desk.active(SMALL_ID).await.unwrap().adjustments.lowered[&AT()], 3);
    // Of 10 that were asked for the ledger could take 6, and then the answer was lost: the rest was never said.
    let made = w.platform.rows.lock()[&AT()].made;
    w.platform.grant(AT(), made - 3 - 6);
    cut_off(2, true);
    assert!(lower(10).await.is_err());
    w.crash.restart();
    w.platform.rows.lock().get_mut(&AT()).unwrap().granted = 0;
    assert_eq!(w.desk.finish().await.unwrap().len(), 1);
    assert_eq!(w.platform.rows.lock()[&AT()].cancelled, 9);
    assert_eq!(w.desk.active(SMALL_ID).await.unwrap().adjustments.lowered[&AT()], 9);
    assert_eq!(w.desk.finish().await.unwrap(), []);
    assert!(w.desk.verify_audit(None).await.unwrap().ok);
}

/// Another desk in the middle of a change looks like one that has died there.
#[tokio::test]
async fn what_may_be_under_way_elsewhere_is_left_alone() {
    let mut seen = Seen::default();
    let w = world().await;
    w.desk.set_vendor_limit(VendorId(1), Some(7), &li(), "slowly").await.unwrap();
    *w.platform.pace.lock() = None;
    w.crash.arm(3, false);
    assert!(w.desk.lower(SMALL_ID, AT(), 30, &li(), "less").await.is_err());
    w.crash.restart();
    w.crash.arm(3, false);
    assert!(w.desk.pause(SMALL_ID, Target::Round(RoundId(1)), &li(), "wait").await.is_err());
    w.crash.restart();
    let began_ms = w.clock.now_ms();
    assert_eq!(w.desk.finish_left(&mut seen, began_ms).await.unwrap(), []);
    // It is old enough, and a younger one is under way: which of them has done what nobody can tell.
    w.clock.advance_ms(10);
    w.crash.arm(1, true);
    assert!(w.desk.lower(SMALL_ID, AT(), 1, &li(), "a little less").await.is_err());
    w.crash.restart();
    let found = w.desk.finish_left(&mut seen, began_ms + 1).await.unwrap();
    let what: Vec<&str> = found.iter().map(|f| f.what.as_str()).collect();
    assert_eq!(what, ["the pace of vendor 1, 7 a second, of li", "SeqNo 3, pause of li: wait"]);
    // Then they share what is gone, the last one first.
    let found = w.desk.finish_left(&mut seen, began_ms + 11).await.unwrap();
    let what: Vec<_> = found.iter().map(|f| (f.what.as_str(), &f.error)).collect();
    assert_eq!(what, [("SeqNo 2, lower of li: less", &None), ("SeqNo 4, lower of li: a little less", &None)]);
    assert_eq!(w.desk.finish_left(&mut seen, u64::MAX).await.unwrap(), []);
    let row = w.platform.rows.lock()[&AT()].clone();
    let said = w.desk.active(SMALL_ID).await.unwrap().adjustments;
    assert_eq!((row.cancelled, said.lowered[&AT()], row.paused), (30, 30, true));
}

/// One that looks for what was left half done, beside one that is at work: whatever their steps come to lie like, nothing
/// is taken twice.
#[tokio::test]
async fn a_look_beside_a_living_desk_takes_nothing() {
    for delay in 0..24 {
        let w = world().await;
        // Long ago somebody wanted the same and got no further than a number.
        w.crash.arm(1, true);
        assert!(w.desk.lower(SMALL_ID, AT(), 5, &li(), "less").await.is_err());
        w.crash.restart();
        w.clock.advance_ms(60_000);
        let before_ms = w.clock.now_ms();
        let mut seen = Seen::default();
        let other = w.desk.finish_left(&mut seen, before_ms);
        let look = async {
            for _ in 0..delay {
                tokio::task::yield_now().await;
            }
            other.await.unwrap()
        };
        let person = li();
        let (lowered, found) = tokio::join!(w.desk.lower(SMALL_ID, AT(), 5, &person, "less now"), look);
        assert_eq!((lowered.unwrap().state, found), (ChangeState::Active, Vec::new()), "{delay}");
        assert_eq!(w.platform.rows.lock()[&AT()].cancelled, 5, "{delay}");
        assert_eq!(w.desk.active(SMALL_ID).await.unwrap().adjustments.lowered[&AT()], 5, "{delay}");
    }
}
