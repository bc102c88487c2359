use super::{RoundPool, passed};
use crate::core::lease::tests::got;
use crate::core::tests_support::round;
use campaign::{DistrictRange, Fen, LeaseId, Places, Region, Regions, RoundSeed, Tranche};

#[test]
fn falls_through_to_what_is_winnable_and_says_what_was_held() {
    let round = round(&[(1, 100, 50), (2, 1, 50), (3, 1, 50)]);
    let (pool, picks) = RoundPool::new(&round, RoundSeed([1; 32]).keys());
    assert!(!pool.may_hit(u64::MAX - 1));
    assert!(pool.install(&got(1, 3, &[(0, 2, 1000, 2, 1)]), 4));
    assert!(!pool.install(&got(1, 3, &[(0, 2, 1000, 2, 1)]), 4), "the same lease again");
    assert!(!pool.install(&got(9, 8, &[(0, 2, 1000, 2, 1)]), 4), "no such prize");
    assert!(!pool.may_hit(99_999));
    assert_eq!(pool.draw((&picks, 0), |_, _| 0, 3, 99_999, |h| Some(*h)), None);
    let hit = pool.draw((&picks, 0), |_, _| 0, 3, 100_100, |h| Some(*h)).unwrap();
    assert_eq!((hit.position, hit.held, hit.try_no), (2, 0b011, 1));
    assert!(
        pool.draw((&picks, 0), |_, _| 0, 3, 100_100, |_| None::<()>).is_none(),
        "refused: the unit stays"
    );
    assert!(pool.draw((&picks, 0), |_, _| u64::MAX, 1, 100_100, |h| Some(*h)).is_some_and(|h| h.held == 0));
    assert!(!pool.may_hit(u64::MAX - 1));
    let sealed = pool.seal(|_| false);
    assert_eq!((sealed.len(), sealed[0].used, sealed[0].returned.len()), (1, 2, 0));
}

#[test]
fn a_new_plan_keeps_the_leases_and_has_its_own_order() {
    let first = round(&[(1, 1, 50), (2, 1, 50)]);
    let (pool, old) = RoundPool::new(&first, RoundSeed([1; 32]).keys());
    pool.install(&got(1, 2, &[(0, 5, 1000, 5, 1)]), 4);
    let second = round(&[(2, 7, 50), (3, 1, 50)]);
    let new = pool.follow(&second, Some((&first, &old)));
    assert_eq!(pool.oldest_got(), Some(4));
    assert_eq!(pool.draw((&new, 0), |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap().position, 0);
    assert_eq!(pool.draw((&old, 0), |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap().position, 1, "beside it");
    assert!(!pool.install(&got(2, 1, &[(0, 5, 1000, 5, 1)]), 4), "the plan has it no more");
    assert!(pool.install(&got(3, 3, &[(0, 5, 1000, 5, 1)]), 4));
    let same = pool.follow(&round(&[(2, 9, 50), (3, 4, 50)]), Some((&second, &new)));
    assert_eq!(pool.draw((&same, 0), |_, _| u64::MAX, 1, 200_000, |h| Some(*h)).unwrap().prize.0, 3);
    pool.follow(&first, None);
    let sealed = pool.seal(|_| false);
    assert_eq!((sealed.len(), sealed[0].prize.0, sealed[0].returned.len()), (1, 3, 4), "no plan has it");
    assert!(!pool.retire());
    assert_eq!(pool.seal(|_| false)[0].used, 2);
    assert!(pool.retire() && !pool.install(&got(9, 2, &[(9, 1, 1000, 1, 1)]), 4));
}

#[test]
fn units_of_a_later_plan_are_given_under_it_alone() {
    let first = round(&[(1, 1, 2), (2, 1, 2)]);
    let (pool, old) = RoundPool::new(&first, RoundSeed([1; 32]).keys());
    pool.install(&got(1, 1, &[(2, 1, 1000, 1, 1)]), 4);
    pool.install(&got(2, 2, &[(0, 1, 1000, 1, 1)]), 4);
    let mut raised = first.clone();
    raised.prizes[0].tranches.push(Tranche { first: 2, units: 1, fen: Fen(70), min: Fen(70), max: Fen(70) });
    let new = pool.follow(&raised, Some((&first, &old)));
    let hit = pool.draw((&old, 0), |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap();
    assert_eq!((hit.prize.0, hit.held), (2, 1), "the old plan passes it over");
    assert_eq!(pool.draw((&old, 0), |_, _| 0, 1, 200_000, |h| Some(*h)), None);
    let hit = pool.draw((&new, 0), |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap();
    assert_eq!((hit.unit, hit.fen), (2, Fen(70)));
}

#[test]
fn a_prize_for_elsewhere_is_passed_over_and_nobody_waits_for_it() {
    let mut round = round(&[(1, 1, 50), (2, 0, 50)]);
    round.prizes[0].regions = Regions(1);
    let (pool, picks) = RoundPool::new(&round, RoundSeed([1; 32]).keys());
    let districts = vec![DistrictRange { first: 7, last: 9 }];
    let places = Places::new(&[Region { name: "north".into(), districts }]);
    let barred = [0, 6, 7, 9, 10].map(|district| picks.barred(&places, district));
    assert_eq!(barred, [1, 1, 0, 0, 1]);
    pool.install(&got(1, 1, &[(0, 2, 1000, 2, 1)]), 4);
    assert!(pool.may_hit(200_000) && !pool.came_barred(&picks, 1, 200_000), "not for him");
    assert_eq!(pool.draw((&picks, 1), |_, _| 0, 1, 200_000, |h| Some(*h)), None);
    pool.install(&got(2, 2, &[(0, 2, 1000, 2, 1)]), 4);
    assert!(pool.came_barred(&picks, 1, 200_000));
    let hit = pool.draw((&picks, 1), |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap();
    assert_eq!((hit.prize.0, hit.held), (2, 1), "held back for him");
    let hit = pool.draw((&picks, 0), |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap();
    assert_eq!((hit.prize.0, hit.held), (1, 0));
    // Somebody came for the second prize, and nobody for the first: it alone goes to other nodes.
    let came: Vec<u64> = pool.usage().iter().map(|u| u.came_ms).collect();
    assert_eq!(came, [0, 200_000]);
    assert_eq!(pool.overdue(150_000), [LeaseId(1)]);
    pool.came(200_000);
    assert!(pool.overdue(150_000).is_empty());
}

#[test]
fn a_plan_that_limits_a_prize_later_draws_at_once_by_it() {
    let everywhere = round(&[(1, 1, 50), (2, 1, 50)]);
    let (pool, old) = RoundPool::new(&everywhere, RoundSeed([1; 32]).keys());
    pool.install(&got(1, 1, &[(0, 9, 1000, 9, 1)]), 4);
    let mut limited = everywhere.clone();
    limited.prizes[0].regions = Regions(2);
    let new = pool.follow(&limited, Some((&everywhere, &old)));
    let barred = new.barred(&Places::default(), 5);
    assert_eq!(barred, 1);
    assert!(!pool.came_barred(&new, barred, 200_000), "what was leased before is known of");
    assert_eq!(pool.draw((&new, barred), |_, _| 0, 1, 200_000, |h| Some(*h)), None);
    assert!(pool.draw((&old, 0), |_, _| 0, 1, 200_000, |h| Some(*h)).is_some(), "the old one, beside it");
    let again = pool.follow(&everywhere, Some((&limited, &new)));
    assert_eq!(again.barred(&Places::default(), 5), 0);
}

#[test]
fn passed_goes_around() {
    assert_eq!(passed(2, 1, 4), 0b1101);
    assert_eq!(passed(2, 2, 4), 0);
}
