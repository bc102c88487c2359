//! Cut tails, flipped bytes, missing files, other people's logs: what recovery cuts, and what it refuses.

use std::path::PathBuf;

use flowlog::{LogError, LogKind, LogOptions, LogReader, LogWriter, Position};
use testkit::SimDisk;

use crate::support::*;

const GROUPS: u64 = 5;

fn segment_path(first: u64) -> PathBuf {
    dir().join(format!("{first:020}.seg"))
}

/// A log of one segment, its bytes, and where its groups begin.
fn one_segment_log() -> (SimDisk, Vec<u8>, Vec<usize>) {
    let disk = log_of(GROUPS, &one_segment());
    let bytes = disk.contents(&segment_path(0)).unwrap();
    let offsets = group_offsets(&bytes);
    assert_eq!(offsets.len() as u64, GROUPS + 1);
    (disk, bytes, offsets)
}

fn with_bytes(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(2);
    disk.put(&segment_path(0), bytes);
    disk
}

/// Opens, checks what is left, writes on, opens again.
fn assert_recovers_to(disk: &SimDisk, groups: u64, what: &str) {
    let (mut writer, report) = open(disk, &dir(), one_segment()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(report.end, Position(groups), "{what}");
    writer.begin_epoch(2).unwrap();
    put(&mut writer, &records_of(groups));
    drop(writer);
    let (_, report) = LogWriter::open(
        disk.clone(),
        &dir(),
        one_segment(),
        Some(Position(groups + 1)),
        Some(Position::ZERO),
    )
    .unwrap();
    assert_eq!((report.end, report.cut), (Position(groups + 1), None), "{what}");
    let all = read_from(disk, &dir(), Position::ZERO, Position(groups + 1)).unwrap();
    assert!((0..=groups).all(|g| all[g as usize] == records_of(g)), "{what}");
}

fn known_is_refused(disk: &SimDisk, known: u64, what: &str) {
    let before = disk.contents(&segment_path(0));
    match LogWriter::open(disk.clone(), &dir(), one_segment(), Some(Position(known)), None) {
        Err(LogError::Corrupt(_)) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok((_, report)) => panic!("{what}: recovered to {}", report.end),
    }
    assert_eq!(disk.contents(&segment_path(0)), before, "{what}: changed something");
}

#[test]
fn cutting_the_log_at_every_byte_leaves_the_whole_groups() {
    let (_, bytes, offsets) = one_segment_log();
    for cut in offsets[0]..=offsets[GROUPS as usize] {
        let whole = offsets.iter().filter(|o| **o <= cut).count() as u64 - 1;
        let mut zeros = bytes.clone();
        zeros[cut..].fill(0);
        for (shape, content) in [("cut", &bytes[..cut]), ("zeros", &zeros[..])] {
            let what = format!("{shape} at {cut}");
            // Zeros in place of zeros are no damage: a group is whole as long as none of its bytes differs.
            let same = |end: usize| content.get(..end) == Some(&bytes[..end]);
            let whole = if shape == "zeros" {
                offsets.iter().filter(|o| same(**o)).count() as u64 - 1
            } else {
                whole
            };
            if whole < GROUPS {
                known_is_refused(&with_bytes(content), whole + 1, &what);
            }
            assert_recovers_to(&with_bytes(content), whole, &what);
        }
    }
}

#[test]
fn a_last_group_of_which_only_the_end_was_written_is_cut() {
    let (_, bytes, offsets) = one_segment_log();
    let (last, end) = (offsets[GROUPS as usize - 1], offsets[GROUPS as usize]);
    for kept in last + 1..end {
        let mut torn = bytes.clone();
        torn[last..kept].fill(0);
        if torn == bytes {
            continue;
        }
        let what = format!("zeros up to {kept}");
        known_is_refused(&with_bytes(&torn), GROUPS, &what);
        assert_recovers_to(&with_bytes(&torn), GROUPS - 1, &what);
    }
}

#[test]
fn every_flipped_byte_in_the_middle_is_found_at_its_place() {
    let (_, bytes, offsets) = one_segment_log();
    for at in 0..offsets[GROUPS as usize - 1] {
        for mask in [0x01, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            let disk = with_bytes(&flipped);
            let error = open(&disk, &dir(), one_segment())
                .err()
                .unwrap_or_else(|| panic!("byte {at} went unnoticed"));
            let corrupt = error.corrupt().unwrap_or_else(|| panic!("byte {at}: {error}"));
            let group = offsets.iter().filter(|o| **o <= at).count().checked_sub(1);
            let place = group.map_or((0, 0), |g| (offsets[g] as u64, g as u64));
            assert_eq!((corrupt.offset, corrupt.ordinal.0), place, "byte {at}: {corrupt}");
            assert_eq!(corrupt.file, segment_path(0));
            assert_eq!(disk.contents(&segment_path(0)).unwrap(), flipped, "a refusal changes nothing");
            // A reader finds it at the same place.
            let error = read_from(&disk, &dir(), Position::ZERO, Position(GROUPS)).unwrap_err();
            assert_eq!(error.corrupt().map(|c| (c.offset, c.ordinal.0)), Some(place), "byte {at}");
        }
    }
}

#[test]
fn a_flipped_byte_in_the_last_group_is_cut_unless_the_group_is_known() {
    let (_, bytes, offsets) = one_segment_log();
    for at in offsets[GROUPS as usize - 1]..offsets[GROUPS as usize] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        let what = format!("byte {at}");
        known_is_refused(&with_bytes(&flipped), GROUPS, &what);
        assert_recovers_to(&with_bytes(&flipped), GROUPS - 1, &what);
    }
}

#[test]
fn damage_in_an_older_segment_is_found_by_whoever_looks_there() {
    let disk = log_of(40, &options());
    let path = segment_path(0);
    let mut bytes = disk.contents(&path).unwrap();
    bytes[200] ^= 1;
    disk.put(&path, &bytes);
    let error = LogWriter::open(disk.clone(), &dir(), options(), None, Some(Position(3))).err().unwrap();
    assert_eq!(error.corrupt().unwrap().file, path);
    // Who relies on later groups only can start.
    open(&disk, &dir(), options()).unwrap();
    assert!(read_from(&disk, &dir(), Position::ZERO, Position(40)).is_err());
    assert_eq!(read_from(&disk, &dir(), Position(30), Position(40)).unwrap().len(), 10);
}

#[test]
fn a_missing_segment_is_a_gap_for_recovery_and_reader() {
    let disk = log_of(40, &options());
    let mut segments: Vec<PathBuf> = disk.paths();
    segments.sort();
    let survivors = SimDisk::new(4);
    for path in segments.iter().filter(|p| **p != segments[1]) {
        survivors.put(path, &disk.contents(path).unwrap());
    }
    let error =
        LogWriter::open(survivors.clone(), &dir(), options(), None, Some(Position::ZERO)).err().unwrap();
    assert!(error.to_string().contains("comes next"), "{error}");
    let error = read_from(&survivors, &dir(), Position::ZERO, Position(40)).unwrap_err();
    assert!(error.to_string().contains("the next one begins at"), "{error}");
    // The last segment missing: only somebody who knows of it can tell.
    let shorter = SimDisk::new(5);
    for path in &segments[..segments.len() - 1] {
        shorter.put(path, &disk.contents(path).unwrap());
    }
    let end = open(&shorter.fork(6), &dir(), options()).unwrap().1.end;
    let error = LogWriter::open(shorter, &dir(), options(), Some(end.next()), None).err().unwrap();
    assert!(error.corrupt().is_some(), "{error}");
    let error = LogWriter::open(SimDisk::new(7), &dir(), options(), Some(Position(1)), None).err().unwrap();
    assert!(error.to_string().contains("the log is empty"), "{error}");
}

#[test]
fn a_group_stored_as_a_record_of_another_log_is_not_taken_for_one_of_its_own() {
    let (_, inner, offsets) = one_segment_log();
    let copy = inner[offsets[3]..offsets[4]].to_vec();
    let queue = LogOptions { kind: LogKind::QUEUE, ..one_segment() };
    let disk = SimDisk::new(1);
    let (mut writer, _) = open(&disk, &dir(), queue.clone()).unwrap();
    writer.begin_epoch(1).unwrap();
    put(&mut writer, &[copy]);
    let mut bytes = disk.contents(&segment_path(0)).unwrap();
    // The queue's only group is torn in its header, so its length is unknown and everything behind it is searched.
    bytes[90] ^= 1;
    let (_, report) = open(&with_bytes(&bytes), &dir(), queue).unwrap();
    assert_eq!(report.end, Position::ZERO);
}

#[test]
fn another_owner_and_a_newer_version_are_named() {
    let disk = log_of(3, &options());
    let error = open(&disk, &dir(), LogOptions { node: 8, ..options() }).err().unwrap();
    assert!(matches!(error, LogError::WrongLog { what: "the node", found: 7, expected: 8, .. }), "{error}");
    let error = open(&disk, &dir(), LogOptions { kind: LogKind::QUEUE, ..options() }).err().unwrap();
    assert!(matches!(error, LogError::WrongLog { .. }), "{error}");

    let mut bytes = disk.contents(&segment_path(0)).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..76]);
    bytes[76..80].copy_from_slice(&crc.to_le_bytes());
    let newer = with_bytes(&bytes);
    let error = open(&newer, &dir(), options()).err().unwrap();
    assert!(error.to_string().contains("newer version"), "{error}");
    let mut reader = LogReader::new(newer, &dir(), &options(), Position::ZERO);
    assert!(matches!(reader.next_group(Position::MAX), Err(LogError::NewerVersion { found: 2, .. })));
}

#[test]
fn a_replaced_group_breaks_the_chain_even_with_right_checksums() {
    let (_, bytes, offsets) = one_segment_log();
    let mut forged = bytes.clone();
    let group = &mut forged[offsets[1]..offsets[2]];
    let mut header = flowlog::format::GroupHeader::decode(group).unwrap();
    header.time_ms += 1;
    group[..flowlog::format::GROUP_HEADER_LEN].copy_from_slice(&header.encode());
    let error = open(&with_bytes(&forged), &dir(), one_segment()).err().unwrap();
    let corrupt = error.corrupt().unwrap();
    assert_eq!((corrupt.ordinal, corrupt.offset), (Position(2), offsets[2] as u64));
    assert!(corrupt.why.contains("hash chain"), "{corrupt}");
}
