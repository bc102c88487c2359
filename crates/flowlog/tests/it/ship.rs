//! What a node's shipper needs: raw groups up to the durable end, and a log that begins where a lane ends.

use flowlog::format::{GroupHeader, group_hash};
use flowlog::{Class, FlowLog, Hooks, Position, WriteError};
use testkit::SimDisk;

use crate::support::*;

#[test]
fn raw_groups_are_the_bytes_of_the_files_in_order() {
    let options = options();
    let disk = log_of(60, &options);
    let mut reader = flowlog::LogReader::new(disk.clone(), &dir(), &options, Position(3));
    let mut all = Vec::new();
    loop {
        let some = reader.read_raw(Position(55), 700).unwrap();
        if some.is_empty() {
            break;
        }
        assert!(some.len() == 1 || some.iter().map(|g| g.bytes.len()).sum::<usize>() <= 700);
        all.extend(some);
    }
    assert_eq!(all.iter().map(|g| g.position.0).collect::<Vec<_>>(), (3..55).collect::<Vec<_>>());
    for pair in all.windows(2) {
        let header = GroupHeader::decode(&pair[1].bytes).unwrap();
        assert_eq!((header.position, header.epoch), (pair[1].position, pair[1].epoch));
        assert_eq!(header.prev_hash, group_hash(&pair[0].bytes));
    }
}

#[test]
fn an_empty_log_begins_where_it_is_told_and_goes_on_there() {
    let disk = SimDisk::new(1);
    let (mut writer, _) = open(&disk, &dir(), options()).unwrap();
    writer.begin_at(Position(41)).unwrap();
    assert_eq!((writer.end(), writer.durable()), (Position(41), Position(41)));
    writer.begin_epoch(5).unwrap();
    assert_eq!(put(&mut writer, &records_of(1)), Position(41));
    drop(writer);
    let (mut writer, recovery) = open(&disk, &dir(), options()).unwrap();
    assert_eq!((recovery.first, recovery.end), (Position(41), Position(42)));
    let refused = writer.begin_at(Position(50));
    assert!(
        matches!(refused, Err(WriteError::NotEmpty { asked: Position(50), end: Position(42) })),
        "{refused:?}"
    );
    // The positions that a lane has ahead of the log are filled before the next epoch.
    writer.begin_epoch(5).unwrap();
    while writer.end() < Position(45) {
        writer.append_group(&[b"ended"], 1, Class::Ending).unwrap();
        writer.sync().unwrap();
    }
    writer.begin_epoch(6).unwrap();
    let log = FlowLog::start(writer, disk.clone(), clock(), Hooks::default()).unwrap();
    let at = log.append(b"x", Class::Normal).unwrap();
    log.wait_durable_blocking(at).unwrap();
    let raw = log.reader(Position(44)).read_raw(log.durable(), 1 << 20).unwrap();
    assert_eq!(raw.iter().map(|g| (g.position.0, g.epoch)).collect::<Vec<_>>(), [(44, 5), (45, 6)]);
}
