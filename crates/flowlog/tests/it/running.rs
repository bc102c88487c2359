//! The log behind its thread: many callers, readers beside it, failure, closing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use flowlog::{AppendError, Class, FlowLog, Hooks, LogOptions, LogWriter, Position, RealDisk};
use testkit::SimDisk;

use crate::support::*;

fn start(disk: &SimDisk, hooks: Hooks) -> FlowLog<SimDisk> {
    start_with(disk, hooks, options())
}

/// With nobody but its own thread at the disk.
fn start_alone(disk: &SimDisk, hooks: Hooks) -> FlowLog<SimDisk> {
    start_with(disk, hooks, LogOptions { spare_segment: false, ..options() })
}

fn start_with(disk: &SimDisk, hooks: Hooks, options: LogOptions) -> FlowLog<SimDisk> {
    let (mut writer, _) = open(disk, &dir(), options).unwrap();
    writer.begin_epoch(1).unwrap();
    FlowLog::start(writer, disk.clone(), clock(), hooks).unwrap()
}

#[test]
fn every_record_is_in_the_group_that_its_caller_was_told() {
    let temporary = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 64 << 10, group_bytes_max: 4096, ..options() };
    let (mut writer, _) = LogWriter::open(RealDisk, temporary.path(), options, None, None).unwrap();
    writer.begin_epoch(1).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let seen_by_hook = Arc::clone(&seen);
    let hooks = Hooks {
        on_durable: Some(Box::new(move |p| {
            assert!(seen_by_hook.swap(p.0, Ordering::SeqCst) < p.0, "the durable end only rises");
        })),
        ..Hooks::default()
    };
    let log = FlowLog::start(writer, RealDisk, clock(), hooks).unwrap();
    let caller = |id: u32| {
        let log = log.clone();
        move || {
            let mut told = Vec::new();
            for i in 0..2_000u32 {
                let record = [id.to_le_bytes(), i.to_le_bytes()].concat();
                loop {
                    match log.append(&record, Class::Normal) {
                        Ok(position) => break told.push((record, position)),
                        Err(AppendError::Busy) => std::thread::yield_now(),
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            let last = told.last().map(|t| t.1).unwrap();
            log.wait_durable_blocking(last).unwrap();
            assert!(log.durable() > last);
            told
        }
    };
    // A reader follows while they write, over many segments.
    let follower = {
        let log = log.clone();
        move || {
            let mut reader = log.reader(Position::ZERO);
            let mut found: Vec<(Vec<u8>, Position)> = Vec::new();
            while found.len() < 8_000 {
                let limit = log.durable();
                if reader.position() >= limit {
                    log.wait_durable_blocking(limit).unwrap();
                }
                let batch = reader.read_batch(log.durable(), 10_000).unwrap();
                for group in batch.groups() {
                    assert!(group.position() < log.durable());
                    found.extend(group.records().map(|r| (r.to_vec(), group.position())));
                }
            }
            found
        }
    };
    let (mut told, mut found) = std::thread::scope(|s| {
        let follower = s.spawn(follower);
        let callers: Vec<_> = (0..4).map(|id| s.spawn(caller(id))).collect();
        let told: Vec<_> = callers.into_iter().flat_map(|c| c.join().unwrap()).collect();
        (told, follower.join().unwrap())
    });
    told.sort();
    found.sort();
    assert_eq!(told, found);
    let stats = log.stats();
    assert_eq!((stats.records, stats.groups), (8_000, log.durable().0));
    assert_eq!(stats.sync_buckets.iter().sum::<u64>(), stats.groups);
    assert_eq!(log.close().unwrap().0, seen.load(Ordering::SeqCst));
    assert_eq!(log.append(b"late", Class::Normal), Err(AppendError::Closed));
}

#[test]
fn records_given_together_stay_together_and_closing_keeps_what_was_taken() {
    let disk = SimDisk::new(1);
    let log = start(&disk, Hooks::default());
    let position = log.append_many(&[&b"a"[..], b"", b"c"], Class::Normal).unwrap();
    assert_eq!(log.append_many::<&[u8]>(&[], Class::Normal), Err(AppendError::Empty));
    let long = vec![0u8; 2_000];
    assert_eq!(log.append(&long, Class::Normal), Err(AppendError::TooLarge { len: 2_004, max: 1_024 }));
    let end = log.close().unwrap();
    assert!(end > position);
    disk.crash();
    let groups = read_from(&disk, &dir(), position, end).unwrap();
    assert_eq!(groups[0], [&b"a"[..], b"", b"c"]);
    // Dropping the last handle closes too.
    let log = start(&disk, Hooks::default());
    let position = log.append(b"last", Class::Normal).unwrap();
    drop(log);
    disk.crash();
    assert_eq!(open(&disk, &dir(), options()).unwrap().1.end, position.next());
}

#[test]
fn a_full_buffer_says_busy_until_the_disk_has_caught_up() {
    let disk = SimDisk::new(1);
    let (release, held) = mpsc::sync_channel::<()>(0);
    let (entered, at_hook) = mpsc::sync_channel::<()>(8);
    let mut first = true;
    let hooks = Hooks {
        on_durable: Some(Box::new(move |_| {
            if std::mem::take(&mut first) {
                entered.send(()).unwrap();
                held.recv().unwrap();
            }
        })),
        ..Hooks::default()
    };
    let log = start(&disk, hooks);
    assert_eq!(log.append(b"one", Class::Normal), Ok(Position(0)));
    at_hook.recv_timeout(Duration::from_secs(60)).unwrap();
    // The thread is held: everything now goes into group 1, 1,024 bytes of it.
    for _ in 0..8 {
        assert_eq!(log.append(&[1; 124], Class::Normal), Ok(Position(1)));
    }
    assert_eq!(log.append(b"x", Class::Ending), Err(AppendError::Busy));
    release.send(()).unwrap();
    log.wait_durable_blocking(Position(1)).unwrap();
    assert_eq!(log.append(b"x", Class::Normal), Ok(Position(2)));
    assert_eq!(log.close(), Ok(Position(3)));
}

#[test]
fn a_failed_sync_is_told_once_and_stops_everything() {
    let disk = SimDisk::new(1);
    let (told, fatal) = mpsc::sync_channel::<String>(2);
    let hooks =
        Hooks { on_fatal: Some(Box::new(move |e| told.send(e.to_string()).unwrap())), ..Hooks::default() };
    let log = start_alone(&disk, hooks);
    let fine = log.append(b"fine", Class::Normal).unwrap();
    log.wait_durable_blocking(fine).unwrap();
    disk.fail_syncs(1);
    let lost = log.append(b"lost", Class::Normal).unwrap();
    let error = log.wait_durable_blocking(lost).unwrap_err();
    assert_eq!((error.wanted, error.durable), (lost, fine.next()));
    let message = fatal.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(message.contains("sync") && log.failure() == Some(message.clone()), "{message}");
    assert_eq!(log.append(b"late", Class::Ending), Err(AppendError::Failed(message.clone())));
    assert_eq!(log.close(), Err(AppendError::Failed(message)));
}

#[test]
fn async_waiters_wake_when_durable_and_when_it_will_never_be() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let disk = SimDisk::new(1);
    let log = start_alone(&disk, Hooks::default());
    let position = log.append(b"one", Class::Normal).unwrap();
    runtime.block_on(log.wait_durable(position)).unwrap();
    disk.fail_syncs(1);
    let position = log.append(b"two", Class::Normal).unwrap();
    assert_eq!(runtime.block_on(log.wait_durable(position)).unwrap_err().durable, Position(1));
    drop(log);
    disk.crash();
    let log = start_alone(&disk, Hooks::default());
    let end = log.close().unwrap();
    assert!(runtime.block_on(log.wait_durable(end)).is_err());
}

#[test]
fn retention_goes_through_the_thread() {
    let disk = SimDisk::new(1);
    let log = start(&disk, Hooks::default());
    for _ in 0..40 {
        let position = log.append(&[0; 300], Class::Normal).unwrap();
        log.wait_durable_blocking(position).unwrap();
    }
    let before = disk.paths().len();
    log.remove_before(Position(30));
    let end = log.close().unwrap();
    assert_eq!(end, Position(40));
    assert!(disk.paths().len() < before);
    assert_eq!(read_from(&disk, &dir(), Position(30), end).unwrap().len(), 10);
}

#[test]
fn a_hook_that_panics_ends_the_log_and_leaves_nobody_waiting() {
    let disk = SimDisk::new(1);
    let (told, fatal) = mpsc::sync_channel::<()>(1);
    let hooks = Hooks {
        on_durable: Some(Box::new(|p| assert!(p < Position(2), "a planted panic"))),
        on_fatal: Some(Box::new(move |_| told.send(()).unwrap())),
    };
    let log = start(&disk, hooks);
    let position = log.append(b"one", Class::Normal).unwrap();
    log.wait_durable_blocking(position).unwrap();
    let position = log.append(b"two", Class::Normal).unwrap();
    // Durable it is; the one after it never will be.
    assert!(log.wait_durable_blocking(position.next()).is_err());
    fatal.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(log.append(b"three", Class::Normal), Err(AppendError::Failed(_))));
}

#[test]
fn behind_a_crowd_a_group_is_let_fill_and_a_close_does_not_wait_for_it() {
    let disk = SimDisk::new(1);
    let long = Duration::from_secs(3_600);
    let log = start_with(&disk, Hooks::default(), LogOptions { gather: long, ..options() });
    let one = |record: &[u8]| log.append(record, Class::Normal).unwrap();
    log.wait_durable_blocking(one(b"alone")).unwrap();
    // Nobody waits behind a group of one.
    log.wait_durable_blocking(one(b"alone again")).unwrap();
    let crowd: Vec<&[u8]> = vec![b"one of many"; 20];
    let last = log.append_many(&crowd, Class::Normal).unwrap();
    log.wait_durable_blocking(last).unwrap();
    let first = one(b"the first of a group that fills");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(one(b"another one"), first, "it was let fill");
    assert_eq!(log.durable(), first);
    log.close().unwrap();
    assert_eq!(log.durable(), first.next());
}
