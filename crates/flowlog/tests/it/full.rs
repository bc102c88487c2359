//! A full disk: new records are refused with numbers, ending records still go in, and room that comes back is used.

use flowlog::{AppendError, Class, FlowLog, Hooks, LogOptions, LogWriter, Position, WriteError};
use testkit::SimDisk;

use crate::support::*;

/// A writer on a disk with little room, filled until class `Normal` is refused.
fn filled(disk: &SimDisk) -> (LogWriter<SimDisk>, u64) {
    disk.set_capacity(Some(9_000));
    let (mut writer, _) = open(disk, &dir(), options()).unwrap();
    writer.begin_epoch(1).unwrap();
    for group in 0.. {
        match writer.append_group(&[[group as u8; 100]], 0, Class::Normal) {
            Ok(_) => drop(writer.sync().unwrap()),
            Err(WriteError::Full { need, free }) => {
                assert_eq!(need, 100 + 4 + 88);
                assert!(free < need);
                return (writer, group);
            }
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!()
}

#[test]
fn ending_records_still_go_in_when_new_ones_are_refused() {
    let disk = SimDisk::new(1);
    let (mut writer, groups) = filled(&disk);
    assert!(groups > 20, "{groups}");
    // 512 bytes of reserve: two groups of 192 at least.
    let mut ended = 0;
    loop {
        match writer.append_group(&[[9u8; 100]], 0, Class::Ending) {
            Ok(_) => ended += 1,
            Err(WriteError::Full { .. }) => break,
            Err(other) => panic!("{other}"),
        }
        writer.sync().unwrap();
    }
    assert!(ended >= 2, "{ended}");
    let end = writer.end();
    drop(writer);
    // All of it is there after a crash, and a restart on the full disk works and still refuses.
    disk.crash();
    let (mut writer, report) = LogWriter::open(disk.clone(), &dir(), options(), Some(end), None).unwrap();
    assert_eq!((report.end, report.cut), (end, None));
    writer.begin_epoch(1).unwrap();
    assert!(matches!(writer.append_group(&[[1u8; 100]], 0, Class::Normal), Err(WriteError::Full { .. })));
    // Room comes back.
    disk.set_capacity(None);
    writer.append_group(&[[1u8; 100]], 0, Class::Normal).unwrap();
    assert_eq!(writer.sync().unwrap(), end.next());
}

#[test]
fn a_node_can_start_on_a_full_disk_and_end_what_was_open() {
    let disk = SimDisk::new(1);
    let (writer, groups) = filled(&disk);
    drop(writer);
    disk.crash();
    open(&disk, &dir(), options()).unwrap().0.begin_epoch(2).unwrap();
    // And once more before anything was written in that epoch.
    let (mut writer, _) = open(&disk, &dir(), options()).unwrap();
    writer.begin_epoch(3).unwrap();
    assert!(matches!(writer.append_group(&[[1u8; 100]], 0, Class::Normal), Err(WriteError::Full { .. })));
    assert_eq!(writer.append_group(&[[1u8; 100]], 0, Class::Ending).unwrap(), Position(groups));
    writer.sync().unwrap();
    assert_eq!(read_from(&disk, &dir(), Position::ZERO, writer.durable()).unwrap().len() as u64, groups + 1);
}

#[test]
fn the_floor_of_free_space_is_left_to_others() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(20_000));
    let options = LogOptions { disk_free_bytes_min: 15_000, ..options() };
    let (mut writer, _) = open(&disk, &dir(), options).unwrap();
    writer.begin_epoch(1).unwrap();
    while writer.append_group(&[[0u8; 100]], 0, Class::Normal).is_ok() {
        writer.sync().unwrap();
    }
    use flowlog::Disk;
    assert!(disk.free_space(&dir()).unwrap() >= 15_000);
}

#[test]
fn a_running_log_refuses_early_and_goes_on_when_there_is_room() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(12_000));
    let (mut writer, _) = open(&disk, &dir(), options()).unwrap();
    writer.begin_epoch(1).unwrap();
    let log = FlowLog::start(writer, disk.clone(), clock(), Hooks::default()).unwrap();
    let record = [5u8; 100];
    let mut taken = 0;
    let refused = loop {
        match log.append(&record, Class::Normal) {
            Ok(p) => log.wait_durable_blocking(p).unwrap(),
            Err(e) => break e,
        }
        taken += 1;
        assert!(taken < 1_000);
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    let ending = log.append(&record, Class::Ending).unwrap();
    log.wait_durable_blocking(ending).unwrap();
    assert!(matches!(log.append(&record, Class::Normal), Err(AppendError::Full { .. })));
    disk.set_capacity(None);
    // The log looks by itself; refused callers only have to try again.
    let position = loop {
        match log.append(&record, Class::Normal) {
            Ok(p) => break p,
            Err(AppendError::Full { .. }) => std::thread::sleep(std::time::Duration::from_millis(5)),
            Err(other) => panic!("{other}"),
        }
    };
    log.wait_durable_blocking(position).unwrap();
    assert_eq!(log.failure(), None);
    assert_eq!(log.close().unwrap(), position.next());
    assert_eq!(
        read_from(&disk, &dir(), Position::ZERO, position.next()).unwrap().len() as u64,
        position.next().0
    );
}
