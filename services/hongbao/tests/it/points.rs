//! Kills at every named point between decision and answer, and wherever else money could be lost: the process dies
//! exactly there, is started again, and must stand by everything that it has said.

use crate::books;
use crate::platform::{CROWD, Place};
use crate::players::Crowd;
use crate::vendor::Vendor;
use std::time::{Duration, Instant};

/// Time in which play must reach a point, on a slow machine too.
const REACHED_WITHIN: Duration = Duration::from_secs(150);

/// Dies at one point after the other on the same data, with a whole check of what was told after each.
fn die_at(points: &[&str]) {
    let vendor = Vendor::start();
    let place = Place::new(CROWD).with_config(&vendor.config());
    let mut platform = place.start();
    let mut crowd = Crowd::new(&place, 40);
    crowd.win_some(&mut platform);
    platform.kill();
    for point in points {
        // A point of the start itself is passed before anybody plays.
        let ended = match place.spawn(Some(point), &[]).serving() {
            Ok(platform) => {
                crowd.play(platform.http, Instant::now() + REACHED_WITHIN, || {});
                platform.ended()
            }
            Err(ended) => ended,
        };
        ended.expect_fault(point);
        let mut platform = place.start();
        crowd.win_some(&mut platform);
        crowd.resend_all(&mut platform);
        crowd.check_lists(&platform);
        platform.kill();
    }
    let platform = place.start();
    crowd.check_lists(&platform);
    crowd.check_delivery(&platform, &vendor);
    platform.stop();
    books::check(&place, &crowd.told, &vendor);
}

#[test]
fn around_the_log() {
    die_at(&[
        "log.before_write:40",
        "log.after_write:55",
        "log.after_sync:70",
        "log.before_segment_rename",
        "log.after_segment_rename",
    ]);
}

#[test]
fn between_decision_and_answer() {
    die_at(&["win.after_append", "win.after_append:50", "win.before_answer:40", "win.after_answer:45"]);
}

#[test]
fn around_leases_and_ticks() {
    die_at(&[
        "lease.got_appended:3",
        "lease.closed_appended:2",
        "tick.before_send:5",
        "tick.after_answer:6",
        "tick.after_answer:1",
    ]);
}

#[test]
fn while_starting() {
    die_at(&[
        "start.after_recovery",
        "start.after_end_epoch",
        "start.after_mark",
        "start.after_end_position",
        "start.after_settle",
        "start.after_begin_epoch",
        "start.after_epoch_began",
        "start.after_claim",
    ]);
}

#[test]
fn on_the_way_to_the_vendor() {
    die_at(&[
        "flow.after_apply:3",
        "flow.after_orders:4",
        "flow.after_commit:5",
        "flow.after_events:4",
        "delivery.before_call:20",
        "delivery.after_call:20",
        "delivery.after_write:10",
    ]);
}
