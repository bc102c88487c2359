//! Whatever is appended is read back: any groups, epochs, restarts and starting points.

use flowlog::format::epoch_genesis;
use flowlog::{Class, LogReader, LogWriter, Position, RealDisk, WriteError};
use proptest::prelude::*;
use testkit::SimDisk;

use crate::support::*;

#[derive(Clone, Debug)]
enum Step {
    Group(Vec<Vec<u8>>),
    NextEpoch(u32),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = prop::collection::vec(any::<u8>(), 0..150);
    let step = prop_oneof![
        8 => prop::collection::vec(record, 1..5).prop_map(Step::Group),
        1 => (1u32..4).prop_map(Step::NextEpoch),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_is_read_back(steps in steps()) {
        let disk = SimDisk::new(3);
        let mut epoch = 1;
        let mut expected: Vec<(u32, Vec<Vec<u8>>)> = Vec::new();
        let mut writer = open(&disk, &dir(), options()).unwrap().0;
        writer.begin_epoch(epoch).unwrap();
        for step in steps {
            match step {
                Step::Group(records) => {
                    prop_assert_eq!(put(&mut writer, &records).0, expected.len() as u64);
                    expected.push((epoch, records));
                }
                Step::NextEpoch(by) => {
                    epoch += by;
                    writer.begin_epoch(epoch).unwrap();
                }
                Step::Reopen => {
                    let (again, report) = LogWriter::open(
                        disk.clone(), &dir(), options(), Some(writer.durable()), Some(Position::ZERO),
                    ).unwrap();
                    prop_assert_eq!(report.end.0, expected.len() as u64);
                    prop_assert_eq!(report.scanned_groups, expected.len() as u64);
                    prop_assert_eq!(report.cut, None);
                    prop_assert_eq!(again.head(), writer.head());
                    writer = again;
                    writer.begin_epoch(epoch).unwrap();
                }
            }
        }
        let end = writer.durable();
        let mut hashes = Vec::new();
        for from in 0..=expected.len() {
            let mut reader = LogReader::new(disk.clone(), &dir(), &options(), Position(from as u64));
            let mut last: Option<(u32, u64, [u8; 32])> = None;
            for (i, (epoch, records)) in expected.iter().enumerate().skip(from) {
                let group = reader.next_group(end).unwrap().unwrap();
                prop_assert_eq!((group.position().0, group.epoch(), group.node()), (i as u64, *epoch, NODE));
                let found: Vec<Vec<u8>> = group.records().map(<[u8]>::to_vec).collect();
                prop_assert_eq!(&found, records);
                // The chain: from the group before, or anew with each epoch.
                match last {
                    Some((e, seq, hash)) if e == group.epoch() => {
                        prop_assert_eq!((group.epoch_seq(), group.header().prev_hash), (seq + 1, hash));
                    }
                    _ if from == 0 || last.is_some() => {
                        prop_assert_eq!(group.epoch_seq(), 0);
                        prop_assert_eq!(group.header().prev_hash, epoch_genesis(NODE, group.epoch()));
                    }
                    _ => {}
                }
                last = Some((group.epoch(), group.epoch_seq(), group.hash()));
                if from == 0 { hashes.push(group.hash()) } else { prop_assert_eq!(hashes[i], group.hash()) }
            }
            prop_assert!(reader.next_group(end).unwrap().is_none());
            prop_assert!(reader.next_group(Position::MAX).unwrap().is_none());
        }
    }
}

#[test]
fn batches_hold_whole_groups_within_their_size() {
    let disk = log_of(30, &options());
    let mut reader = LogReader::new(disk, &dir(), &options(), Position(3));
    let mut next = 3;
    loop {
        let batch = reader.read_batch(Position(25), 700).unwrap();
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() == 1 || batch.bytes().len() <= 700);
        for group in batch.groups() {
            assert_eq!(group.position(), Position(next));
            assert!(group.records().eq(records_of(next).iter().map(Vec::as_slice)));
            next += 1;
        }
    }
    assert_eq!((next, reader.position()), (25, Position(25)));
    // A size below one group still gives one.
    assert_eq!(reader.read_batch(Position(30), 1).unwrap().len(), 1);
}

#[test]
fn misuse_is_refused() {
    let disk = SimDisk::new(1);
    let (mut writer, _) = open(&disk, &dir(), options()).unwrap();
    let record = [b"x"];
    assert!(matches!(writer.append_group(&record, 0, Class::Normal), Err(WriteError::NoEpoch)));
    writer.begin_epoch(5).unwrap();
    assert!(matches!(writer.append_group::<&[u8]>(&[], 0, Class::Normal), Err(WriteError::Empty)));
    let long = vec![0u8; 1021];
    assert!(matches!(
        writer.append_group(&[&long], 0, Class::Normal),
        Err(WriteError::TooLarge { len: 1025, max: 1024 })
    ));
    writer.append_group(&record, 0, Class::Normal).unwrap();
    assert!(matches!(
        writer.append_group(&record, 0, Class::Normal),
        Err(WriteError::NotSynced(Position(0)))
    ));
    writer.sync().unwrap();
    assert!(matches!(writer.begin_epoch(4), Err(WriteError::EpochBack { asked: 4, last: 5 })));
    let wrong_size = flowlog::LogOptions { group_bytes_max: 1, ..options() };
    assert!(open(&disk, &dir(), wrong_size).is_err());
}

#[test]
fn retention_removes_whole_segments_only_and_says_so() {
    let disk = log_of(40, &options());
    let (mut writer, before) = open(&disk, &dir(), options()).unwrap();
    assert!(before.segments >= 3);
    assert_eq!(writer.remove_before(Position(0)).unwrap(), 0);
    assert!(writer.remove_before(Position(20)).unwrap() > 0);
    let first = writer.first();
    assert!(first > Position::ZERO && first <= Position(20));
    assert_eq!(read_from(&disk, &dir(), Position(20), Position(40)).unwrap().len(), 20);
    let error = read_from(&disk, &dir(), Position(0), Position(40)).unwrap_err();
    assert!(error.to_string().contains(&format!("begins at {first}")), "{error}");
    // The last segment stays whatever is asked, and the log goes on where it was.
    writer.remove_before(Position::MAX).unwrap();
    writer.begin_epoch(2).unwrap();
    assert_eq!(put(&mut writer, &records_of(40)), Position(40));
    let (_, after) = open(&disk, &dir(), options()).unwrap();
    assert_eq!((after.end, after.last_epoch), (Position(41), Some(2)));
}

#[test]
fn a_real_folder_works_the_same() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("a/b");
    let (mut writer, report) = open(&RealDisk, &dir, options()).unwrap();
    assert_eq!((report.end, report.last_epoch), (Position::ZERO, None));
    writer.begin_epoch(1).unwrap();
    for group in 0..50 {
        put(&mut writer, &records_of(group));
    }
    drop(writer);
    let (mut writer, report) = open(&RealDisk, &dir, options()).unwrap();
    assert_eq!((report.end, report.cut), (Position(50), None));
    writer.begin_epoch(2).unwrap();
    put(&mut writer, &records_of(50));
    let all = read_from(&RealDisk, &dir, Position::ZERO, Position(51)).unwrap();
    assert!((0..51).all(|g| all[g as usize] == records_of(g)));
}
