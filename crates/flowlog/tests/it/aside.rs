//! Work beside the writer: a spare segment, room that is given back, segments that are removed.

use flowlog::{Class, Disk, DiskFile, FlowLog, Hooks, LogOptions, LogWriter, Position, RealDisk, WriteError};
use testkit::SimDisk;

use crate::support::*;

/// Groups that count as small beside the zeros, so that spares have some.
fn zeroed() -> LogOptions {
    LogOptions { zero_ahead_bytes: 4096, ..options() }
}

fn aside(disk: &SimDisk, options: LogOptions, epoch: u32) -> LogWriter<SimDisk> {
    let (mut writer, _) = open(disk, &dir(), options).unwrap();
    writer.begin_epoch(epoch).unwrap();
    writer.work_aside();
    writer
}

/// Runs what there is to do; how many chores that was.
fn chores(writer: &mut LogWriter<SimDisk>) -> usize {
    let mut count = 0;
    while let Some(chore) = writer.chore() {
        assert!(writer.chore().is_none(), "one at a time");
        writer.chore_done(chore.run(&|| true)).unwrap();
        count += 1;
    }
    count
}

fn names(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list(&dir()).unwrap();
    names.sort();
    names
}

fn has_spare(disk: &SimDisk) -> bool {
    names(disk).iter().any(|n| n == "spare.tmp")
}

/// Appends groups until the log goes over to a new segment.
fn until_rolled(disk: &SimDisk, writer: &mut LogWriter<SimDisk>) {
    let segments = |disk: &SimDisk| names(disk).iter().filter(|n| n.ends_with(".seg")).count();
    let before = segments(disk);
    while segments(disk) == before {
        let records = records_of(writer.end().0);
        put(writer, &records);
        // As a running log does behind each group.
        writer.make_room(10).unwrap();
    }
}

#[test]
fn a_full_segment_is_followed_by_the_spare_and_cut_by_a_chore() {
    for options in [options(), zeroed()] {
        let disk = SimDisk::new(1);
        let mut writer = aside(&disk, options.clone(), 1);
        assert_eq!(chores(&mut writer), 1);
        assert!(has_spare(&disk));
        let syncs_before = disk.operations();
        until_rolled(&disk, &mut writer);
        assert!(!has_spare(&disk) && disk.operations() > syncs_before);
        let len = |name: &str| disk.open(&dir().join(name), false).unwrap().len().unwrap();
        let names = names(&disk);
        let last = names.last().unwrap();
        // What the spare was made with: the segment, zeros ahead of it, the reserve and two groups.
        assert_eq!(len(last), 2048 + options.zero_ahead_bytes + 512 + 2 * (1024 + 88));
        let uncut = len(&names[0]);
        assert_eq!(chores(&mut writer), 2, "one cuts, one makes the next spare");
        assert!(len(&names[0]) < uncut);
        until_rolled(&disk, &mut writer);
        let end = writer.end();
        disk.crash();
        let (_, report) =
            LogWriter::open(disk.clone(), &dir(), options, Some(end), Some(Position::ZERO)).unwrap();
        assert_eq!((report.end, report.cut), (end, None));
        let all = read_from(&disk, &dir(), Position::ZERO, end).unwrap();
        assert!((0..end.0).all(|g| all[g as usize] == records_of(g)));
    }
}

#[test]
fn a_short_first_segment_is_left_for_a_spare_with_zeros() {
    let disk = SimDisk::new(1);
    let wide = LogOptions { segment_bytes: 64 << 10, ..zeroed() };
    let mut writer = aside(&disk, wide, 1);
    assert_eq!(chores(&mut writer), 1);
    until_rolled(&disk, &mut writer);
    let first = disk.contents(&dir().join("00000000000000000000.seg")).unwrap().len();
    assert!(first < 8 << 10, "{first}");
}

#[test]
fn recovery_removes_a_spare_whatever_stands_in_it() {
    for bytes in [&b""[..], &[0; 9000], b"HBLOGSEG and more"] {
        let disk = log_of(3, &options());
        disk.put(&dir().join("spare.tmp"), bytes);
        // Readers don't see it.
        assert_eq!(read_from(&disk, &dir(), Position::ZERO, Position::MAX).unwrap().len(), 3);
        assert_eq!(open(&disk, &dir(), options()).unwrap().1.end, Position(3));
        assert!(!has_spare(&disk));
        disk.crash();
        assert!(!has_spare(&disk), "durably");
    }
}

#[test]
fn the_room_of_the_spare_is_used_when_the_disk_has_no_more() {
    let disk = SimDisk::new(1);
    let mut writer = aside(&disk, LogOptions { segment_bytes: 1 << 20, ..options() }, 1);
    disk.set_capacity(Some(2 << 20));
    assert_eq!(chores(&mut writer), 1);
    let full = disk.contents(&dir().join("spare.tmp")).unwrap().len() as u64;
    disk.set_capacity(Some(full + 2_000));
    until_rolled(&disk, &mut writer);
    assert!(!has_spare(&disk) && writer.room(Class::Normal) > 500_000);
}

#[test]
fn without_room_for_a_spare_the_log_goes_on_and_asks_again_later() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(9_000));
    let mut writer = aside(&disk, LogOptions { segment_bytes: 8_000, ..options() }, 1);
    assert_eq!(chores(&mut writer), 1);
    assert!(!has_spare(&disk));
    disk.set_capacity(None);
    let mut groups = 0;
    while !has_spare(&disk) {
        put(&mut writer, &records_of(groups));
        chores(&mut writer);
        groups += 1;
    }
    assert!(groups > 3, "not at each group: {groups}");
    // Given up half-way, nothing is left.
    let disk = SimDisk::new(1);
    let mut writer =
        aside(&disk, LogOptions { segment_bytes: 4 << 20, zero_ahead_bytes: 4096, ..options() }, 1);
    let chore = writer.chore().unwrap();
    writer.chore_done(chore.run(&|| false)).unwrap();
    assert!(!has_spare(&disk));
}

#[test]
fn a_chore_that_fails_ends_the_log() {
    let disk = SimDisk::new(1);
    let mut writer = aside(&disk, options(), 1);
    let chore = writer.chore().unwrap();
    disk.fail_syncs(1);
    let error = writer.chore_done(chore.run(&|| true)).unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("spare.tmp"), "{error}");
    assert!(matches!(writer.append_group(&[b"x"], 0, Class::Normal), Err(WriteError::Poisoned(_))));
    assert!(writer.chore().is_none());
}

#[test]
fn old_segments_go_in_order_and_none_before_an_older_one() {
    let disk = SimDisk::new(1);
    let mut writer = aside(&disk, options(), 1);
    for _ in 0..4 {
        chores(&mut writer);
        until_rolled(&disk, &mut writer);
    }
    let before = names(&disk);
    let out = writer.chore();
    let first = writer.remove_before(Position(writer.end().0 / 2)).unwrap();
    assert!(first > 0);
    assert_eq!(writer.remove_before(writer.end()).unwrap(), 4 - first);
    assert_eq!(names(&disk), before, "only a chore removes");
    writer.chore_done(out.unwrap().run(&|| true)).unwrap();
    for step in 0.. {
        let fork = disk.fork(step);
        let (_, report) = open(&fork, &dir(), options()).unwrap();
        assert_eq!(report.end, writer.end());
        let Some(chore) = writer.chore() else { break };
        writer.chore_done(chore.run(&|| true)).unwrap();
    }
    assert_eq!(
        names(&disk).iter().filter(|n| n.ends_with(".seg")).count(),
        1,
        "{before:?} {:?}",
        names(&disk)
    );
    assert!(disk.paths().contains(&dir().join(before.iter().rfind(|n| n.ends_with(".seg")).unwrap())));
}

#[test]
fn a_log_that_does_not_ask_for_it_has_no_chores() {
    let disk = SimDisk::new(1);
    let mut writer = aside(&disk, LogOptions { spare_segment: false, ..options() }, 1);
    until_rolled(&disk, &mut writer);
    assert!(writer.chore().is_none());
    assert_eq!(writer.remove_before(writer.end()).unwrap(), 1);
    assert_eq!(names(&disk).len(), 1);
}

#[test]
fn a_running_log_uses_spares_and_leaves_none_when_closed() {
    let temporary = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 32 << 10, ..zeroed() };
    let (mut writer, _) = LogWriter::open(RealDisk, temporary.path(), options, None, None).unwrap();
    writer.begin_epoch(1).unwrap();
    let log = FlowLog::start(writer, RealDisk, clock(), Hooks::default()).unwrap();
    let spare = temporary.path().join("spare.tmp");
    while !spare.exists() {
        std::thread::yield_now();
    }
    for i in 0..600u64 {
        let position = log.append(&[i as u8; 300], Class::Normal).unwrap();
        log.wait_durable_blocking(position).unwrap();
    }
    let slowest = log.slowest();
    assert!(!slowest.is_empty() && slowest.windows(2).all(|w| w[0].total_ns() >= w[1].total_ns()));
    log.remove_before(Position(300));
    let end = log.close().unwrap();
    assert!(!spare.exists());
    let (_, report) = LogWriter::open(RealDisk, temporary.path(), zeroed(), Some(end), None).unwrap();
    assert!(report.first > Position::ZERO && report.first <= Position(300), "{report:?}");
    assert_eq!(read_from(&RealDisk, temporary.path(), Position(300), end).unwrap().len() as u64, end.0 - 300);
}
