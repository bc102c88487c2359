//! People who chat while the platform is killed: every acknowledged message is at every device of every member once, in
//! order, without holes, and every unread count equals a recount. The crowd and its oracle are `loadgen`'s.

use crate::platform::{CROWD, Place, Platform};
use client::ReconnectPolicy;
use client::chat::ChatRules;
use loadgen::chat::Harm;
use loadgen::chat::crowd::{self, CrowdConfig, CrowdReport};
use loadgen::token::TokenKey;
use runtime::{Shutdown, SystemClock};
use std::net::SocketAddr;
use std::time::Duration;

fn config(place: &Place, platform: &Platform) -> CrowdConfig {
    let path = place.data().parent().unwrap().join("token-key");
    std::fs::write(&path, place.print(&["token", "key"])).unwrap();
    crowd(vec![platform.tcp], TokenKey::from_file(&path).unwrap())
}

/// Neighbours and groups of both kinds on bad networks, at these front doors.
pub fn crowd(frames: Vec<SocketAddr>, key: TokenKey) -> CrowdConfig {
    CrowdConfig {
        frames,
        key,
        users: 300,
        first_user: 1_000,
        devices: 2,
        groups: 10,
        group_size: 30,
        large: 60,
        group_permille: 300,
        large_permille: 30,
        rate: 250.0,
        body: 128,
        run_ms: 8_000,
        // A loaded machine may take ten seconds for each start.
        grace_ms: 180_000,
        seed: 11,
        harm: Harm {
            cut: 50,
            stall: 50,
            stall_ms: 1_000,
            lose: 10,
            repeat: 20,
            offline: 100,
            offline_ms: 3_000,
        },
        reconnect: ReconnectPolicy::default().scaled(20),
        rules: ChatRules { answer_ms: 1_500, answer_max_ms: 3_000, ..ChatRules::default() },
    }
}

fn judge(report: &CrowdReport) {
    assert!(report.is_good(), "{report:#?}");
    let v = &report.verdict;
    assert!(v.acknowledged > 500 && v.unread_compared > 300, "{report:#?}");
    assert!(report.drops > 100 && report.absences > 10, "{report:#?}");
}

/// Two of each: groups by write fan-out, and one that is told by its head, because it has more members than the bound.
#[test]
fn nothing_is_lost_doubled_or_out_of_order_over_kills() {
    let large = ["--set", "chat.write_members_max=50"];
    let place = Place::new(CROWD);
    let mut platform = place.spawn(None, &large).serving().unwrap();
    let config = config(&place, &platform);
    let running = std::thread::spawn(move || {
        crowd::run(config, SystemClock::shared(), &Shutdown::new()).map_err(|error| error.to_string())
    });
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(2_500));
        if running.is_finished() {
            break;
        }
        let tcp = format!("access.tcp={}", platform.tcp);
        platform.kill();
        let more = ["--set", "chat.write_members_max=50", "--set", &tcp];
        platform = place.start_again(&more);
    }
    judge(&running.join().unwrap().unwrap());
    platform.stop();
}
