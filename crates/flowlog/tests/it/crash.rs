//! The disk crashes at every step: whatever was synced is there afterwards, and nothing but the last group is lost.

use flowlog::{Class, LogError, LogWriter, Position, WriteError};
use testkit::{SimDisk, SimRng};

use crate::support::*;

/// Appends groups until `count` or until the disk fails. Returns what was acknowledged, after what was there before.
fn work(disk: &SimDisk, epoch: u32, rng: &mut SimRng, acknowledged: &mut Vec<Vec<Vec<u8>>>, count: u64) {
    let Ok((mut writer, report)) = open(disk, &dir(), options()) else { return };
    // A group that was never acknowledged may have survived; then it counts from now on.
    assert!(report.end.0 >= acknowledged.len() as u64, "acknowledged groups are missing");
    if report.end.0 > acknowledged.len() as u64 {
        let Ok(found) = read_from(disk, &dir(), Position(acknowledged.len() as u64), report.end) else {
            return;
        };
        assert_eq!(found.len(), 1, "at most one group can be unacknowledged");
        acknowledged.extend(found);
    }
    if writer.begin_epoch(epoch).is_err() {
        return;
    }
    // Chores begin and end at other times than groups do.
    let mut chore = None;
    if rng.one_in(2) {
        writer.work_aside();
    }
    for _ in 0..count {
        let records: Vec<Vec<u8>> =
            (0..1 + rng.below(3)).map(|_| vec![rng.next_u64() as u8; rng.below(200) as usize]).collect();
        if writer.append_group(&records, 1, Class::Normal).is_err() || writer.sync().is_err() {
            return;
        }
        acknowledged.push(records);
        if chore.is_none() {
            chore = writer.chore();
        }
        if rng.one_in(3)
            && let Some(chore) = chore.take()
            && writer.chore_done(chore.run(&|| true)).is_err()
        {
            return;
        }
        if rng.one_in(3) && writer.zero_ahead(rng.below(300)).is_err() {
            return;
        }
        if rng.one_in(4) && writer.make_room(rng.below(1_000)).is_err_and(|e| e.is_fatal()) {
            return;
        }
        if rng.one_in(20) && writer.remove_before(Position::ZERO).is_err() {
            return;
        }
    }
}

fn check(disk: &SimDisk, acknowledged: &[Vec<Vec<u8>>], what: &str) -> Result<(), String> {
    let count = acknowledged.len() as u64;
    let opened =
        LogWriter::open(disk.clone(), &dir(), options(), Some(Position(count)), Some(Position::ZERO));
    let (_, report) = opened.map_err(|e| format!("{what}: {e}"))?;
    if report.end.0 > count + 1 {
        return Err(format!("{what}: {} groups of {count}", report.end));
    }
    let all = read_from(disk, &dir(), Position::ZERO, report.end).map_err(|e| format!("{what}: {e}"))?;
    if all[..count as usize] != *acknowledged {
        return Err(format!("{what}: other groups than were acknowledged"));
    }
    Ok(())
}

/// One life after another on one disk, each ended by a crash at a step of the seed's choice.
fn lives(seed: u64, ignore_sync: bool) -> Result<(), String> {
    let mut rng = SimRng::new(seed);
    let disk = SimDisk::new(seed);
    disk.set_ignore_sync(ignore_sync);
    let mut acknowledged = Vec::new();
    for epoch in 1..6 {
        disk.go_down_after(rng.below(60));
        work(&disk, epoch, &mut rng, &mut acknowledged, 30);
        disk.crash();
        // Another crash in the middle of recovery must do no harm either.
        disk.go_down_after(rng.below(6));
        let _ = open(&disk, &dir(), options());
        disk.crash();
        check(&disk.fork(seed), &acknowledged, &format!("seed {seed}, epoch {epoch}"))?;
    }
    Ok(())
}

#[test]
fn a_crash_at_any_step_of_many_seeds_loses_nothing_that_was_synced() {
    for seed in 0..400 {
        lives(seed, false).unwrap();
    }
}

#[test]
fn the_test_above_notices_a_disk_that_ignores_syncs() {
    let noticed = (0..100).filter(|seed| {
        std::panic::catch_unwind(|| lives(*seed, true)).map_or(true, |result| result.is_err())
    });
    assert!(noticed.count() > 50);
}

#[test]
fn a_crash_at_each_step_of_one_run_loses_nothing_that_was_synced() {
    // Some of these runs have their work done aside and go over to spare segments, some do it themselves.
    let mut spares = 0;
    for run in 0..8 {
        let mut steps = 0;
        loop {
            let disk = SimDisk::new(steps);
            disk.go_down_after(steps);
            let mut acknowledged = Vec::new();
            work(&disk, 1, &mut SimRng::new(run), &mut acknowledged, 25);
            let finished = !disk.is_down();
            spares += u64::from(disk.paths().contains(&dir().join("spare.tmp")));
            disk.crash();
            check(&disk, &acknowledged, &format!("run {run}, step {steps}")).unwrap();
            if finished {
                assert!(steps > 60);
                break;
            }
            steps += 1;
        }
    }
    assert!(spares > 100, "{spares} of the crashes met a spare segment");
}

#[test]
fn a_failed_sync_ends_the_writer_and_the_next_start_makes_up_for_it() {
    let disk = SimDisk::new(9);
    let (mut writer, _) = open(&disk, &dir(), options()).unwrap();
    writer.begin_epoch(1).unwrap();
    put(&mut writer, &records_of(0));
    disk.fail_syncs(1);
    writer.append_group(&records_of(1), 0, Class::Normal).unwrap();
    let error = writer.sync().unwrap_err();
    assert!(matches!(error, WriteError::FatalSync { .. }) && error.is_fatal(), "{error}");
    // The kernel would now say yes and mean nothing: the writer must not ask again.
    assert!(matches!(writer.sync(), Err(WriteError::Poisoned(_))));
    assert!(matches!(writer.append_group(&records_of(1), 0, Class::Normal), Err(WriteError::Poisoned(_))));
    assert_eq!(writer.durable(), Position(1));
    // The process ends and starts again: it still sees the group, and what it sees must be durable from then on.
    let (writer, report) = open(&disk, &dir(), options()).unwrap();
    assert_eq!(report.end, Position(2));
    drop(writer);
    for _ in 0..3 {
        disk.crash();
        assert_eq!(open(&disk, &dir(), options()).unwrap().1.end, Position(2));
    }
}

#[test]
fn an_error_of_the_disk_is_no_corruption() {
    let disk = log_of(3, &options());
    disk.go_down_after(0);
    match open(&disk, &dir(), options()) {
        Err(LogError::Io { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened on a disk that is down"),
    }
    disk.crash();
    assert_eq!(open(&disk, &dir(), options()).unwrap().1.end, Position(3));
}
