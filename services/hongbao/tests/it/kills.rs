//! `kill -9` at moments that nobody chose.

use crate::books;
use crate::platform::{CROWD, PATIENCE, Place};
use crate::players::Crowd;
use crate::vendor::Vendor;
use std::time::{Duration, Instant};

/// SplitMix64: the same moments in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn five_in_a_row() {
    let vendor = Vendor::start();
    let place = Place::new(CROWD).with_config(&vendor.config());
    place.start().stop();
    let mut crowd = Crowd::new(&place, 40);
    let mut seed = 2026;
    // Five times, and more where little was won in between.
    for kill in 0..100 {
        if kill >= 5 && crowd.told.len() > 100 {
            break;
        }
        // In the middle of play, and then in the middle of the start that follows.
        let platform = place.start();
        let play = Duration::from_millis(200 + random(&mut seed) % 600);
        crowd.play(platform.http, Instant::now() + play + Duration::from_secs(5), || {
            std::thread::sleep(play);
            platform.kill();
        });
        let starting = place.spawn(None, &[]);
        std::thread::sleep(Duration::from_millis(random(&mut seed) % 120));
        starting.kill();
    }
    let mut platform = place.start();
    assert!(crowd.told.len() > 100, "only {} wins", crowd.told.len());
    crowd.win_some(&mut platform);
    crowd.resend_all(&mut platform);
    crowd.check_lists(&platform);
    crowd.check_delivery(&platform, &vendor);
    platform.stop();
    books::check(&place, &crowd.told, &vendor);
}

/// Everybody wins up to his limit; a kill forgets none of it, and who can win no more still hears what he has won.
#[test]
fn limits_hold_and_hide_no_win() {
    let vendor = Vendor::start();
    let few = CROWD.replace("wins_per_round: 150", "wins_per_round: 3");
    let place = Place::new(&few).with_config(&vendor.config());
    let mut platform = place.start();
    let mut crowd = Crowd::new(&place, 30);
    for round in 0..3 {
        let since = Instant::now();
        let mut limited = 0;
        while limited < 30 {
            assert!(since.elapsed() < PATIENCE, "round {round}: only {limited} have reached their limit");
            crowd.play_for(&mut platform, Duration::from_millis(200));
            limited = crowd.try_again();
        }
        // Once with the limits fresh in the front door's memory, once without it.
        crowd.resend_all(&mut platform);
        assert_eq!(crowd.told.len(), 90);
        platform.kill();
        platform = place.start();
        crowd.resend_all(&mut platform);
        assert_eq!(crowd.told.len(), 90);
    }
    platform.stop();
    books::check_within(&place, &crowd.told, &vendor, 3);
}
