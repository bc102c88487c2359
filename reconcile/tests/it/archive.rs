//! An archive that is not whole is refused, and the error says where.

use crate::world::{Group, World, ended, epoch_began, lease_got, won, write_lane};
use reconcile::readers::archive::bytes::Record;
use reconcile::readers::archive::{ArchiveError, LaneRead, read_lanes};
use std::path::{Path, PathBuf};

fn lane() -> Vec<Group> {
    let world = World::perfect(12, 6);
    let mut lane = world.default_lane();
    lane.push(Group { epoch: 4, records: vec![ended(7, 2), epoch_began(7, 4)] });
    lane.push(Group { epoch: 4, records: vec![lease_got(1, 1, 0, 1)] });
    lane
}

fn read(folder: &Path, live: bool) -> Result<(Vec<LaneRead>, usize), ArchiveError> {
    let mut awards = 0;
    let lanes = read_lanes(&[folder.to_owned()], live, &mut |_, record| {
        awards += usize::from(matches!(record, Record::Won(_)));
        Ok(())
    })?;
    Ok((lanes, awards))
}

fn refused(folder: &Path, live: bool) -> String {
    read(folder, live).expect_err("a damaged archive was taken").to_string()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn written(groups: &[Group]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_lane(folder.path(), 7, groups);
    folder
}

/// Offsets of the groups in a segment file, and the end of the last one.
fn offsets(bytes: &[u8]) -> Vec<usize> {
    let mut at = 80;
    let mut all = vec![at];
    while bytes[at..].starts_with(b"HBGR") {
        at += 88 + u32::from_le_bytes(bytes[at + 36..at + 40].try_into().unwrap()) as usize;
        all.push(at);
    }
    all
}

#[test]
fn a_whole_archive_is_read() {
    let folder = written(&lane());
    let (lanes, awards) = read(folder.path(), false).unwrap();
    assert_eq!((lanes[0].groups, lanes[0].unfinished, awards), (lane().len() as u64, false, 16));
}

#[test]
fn every_flipped_byte_is_found() {
    let folder = written(&lane());
    let path = files(folder.path())[0].clone();
    let good = std::fs::read(&path).unwrap();
    let end = *offsets(&good).last().unwrap();
    // Each header byte, and every seventh of the bodies.
    for at in (0..end + 2).filter(|at| *at < 260 || at % 7 == 0) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let error = refused(folder.path(), false);
        assert!(error.contains(".seg, byte ") || error.contains("its name says otherwise"), "{at}: {error}");
    }
}

#[test]
fn gaps_swaps_and_cuts_are_found() {
    let whole = lane();
    // A whole segment is missing.
    let folder = written(&whole);
    std::fs::remove_file(&files(folder.path())[0]).unwrap();
    assert!(
        refused(folder.path(), false).contains("first is 8, expected 0"),
        "{}",
        refused(folder.path(), false)
    );
    // A group is missing: cut out of the file.
    let folder = written(&whole);
    let path = files(folder.path())[0].clone();
    let good = std::fs::read(&path).unwrap();
    let at = offsets(&good);
    std::fs::write(&path, [&good[..at[2]], &good[at[3]..]].concat()).unwrap();
    let error = refused(folder.path(), false);
    assert!(
        error.contains(&format!("byte {}", at[2])) && error.contains("position is 3, expected 2"),
        "{error}"
    );
    // The last groups of an epoch are missing, and a later epoch follows.
    let n = at.len();
    std::fs::write(&path, [&good[..at[n - 2]], &[0; 100]].concat()).unwrap();
    assert!(
        refused(folder.path(), false).contains("first is 8, expected 7"),
        "{}",
        refused(folder.path(), false)
    );
    // A group replaced by one with the same position: the next one's hash does not fit.
    let mut other = whole.clone();
    other[2].records.reverse();
    let replaced = written(&other);
    let foreign = std::fs::read(&files(replaced.path())[0]).unwrap();
    assert_eq!(offsets(&foreign), at, "the test means to swap groups of equal length");
    std::fs::write(&path, [&good[..at[2]], &foreign[at[2]..at[3]], &good[at[3]..]].concat()).unwrap();
    let error = refused(folder.path(), false);
    assert!(error.contains(&format!("byte {}", at[3])) && error.contains("hash chain is broken"), "{error}");
}

#[test]
fn a_torn_end_is_refused_unless_the_platform_may_be_writing() {
    let whole = lane();
    let folder = written(&whole);
    let path = files(folder.path())[1].clone();
    let good = std::fs::read(&path).unwrap();
    let at = offsets(&good);
    let end = *at.last().unwrap();
    for cut in at[1] + 1..end {
        std::fs::write(&path, &good[..cut]).unwrap();
        assert!(refused(folder.path(), false).contains("torn"), "{cut}");
        let (lanes, _) = read(folder.path(), true).unwrap();
        assert!(lanes[0].unfinished && lanes[0].groups == whole.len() as u64 - 1);
    }
    // Damage with a whole group behind it is no unfinished write, whoever is writing.
    let mut bad = good.clone();
    bad[at[0] + 100] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    assert!(refused(folder.path(), true).contains("CRC of the group body"));
    // Damage in a file that others follow is none either.
    std::fs::write(&path, &good).unwrap();
    let first = files(folder.path())[0].clone();
    let mut bad = std::fs::read(&first).unwrap();
    let last = offsets(&bad).len() - 2;
    let at = offsets(&bad)[last] + 90;
    bad[at] ^= 1;
    std::fs::write(&first, &bad).unwrap();
    assert!(refused(folder.path(), true).contains("CRC of the group body"));
}

#[test]
fn behind_the_mark_nothing_counts() {
    let world = World::perfect(12, 6);
    let mut lane = world.default_lane();
    // The mark of epoch 2 stands before the last two groups of that epoch; what they hold never was.
    lane.insert(4, Group { epoch: 2, records: vec![ended(7, 2)] });
    let before: usize = lane[..4].iter().flat_map(|g| &g.records).filter(|r| r[0] == 2).count();
    let folder = written(&lane);
    assert_eq!(read(folder.path(), false).unwrap().1, before);
    // An epoch that begins behind the mark counts.
    lane.push(Group { epoch: 3, records: vec![epoch_began(7, 3), won(&world.awards[0])] });
    let folder = written(&lane);
    assert_eq!(read(folder.path(), false).unwrap().1, before + 1);
}

#[test]
fn records_that_cannot_be_are_refused() {
    let began = epoch_began(7, 2);
    let mut long = won(&World::perfect(3, 3).awards[0]);
    let short = long[..long.len() - 1].to_vec();
    long.push(0);
    for (records, why) in [
        (vec![won(&World::perfect(3, 3).awards[0])], "before its EpochBegan"),
        (vec![epoch_began(7, 3)], "EpochBegan names node 7 epoch 3"),
        (vec![began.clone(), ended(8, 1)], "Ended names node 8"),
        (vec![began.clone(), short], "payload"),
        (vec![began.clone(), long], "payload"),
        (vec![began.clone(), vec![0x40, 1, 0, 0]], "tag 0x40"),
        (vec![began.clone(), vec![5, 2, 0, 0]], "version 2"),
        (vec![began.clone(), vec![]], "frame alone has 4"),
    ] {
        let folder = written(&[Group { epoch: 2, records }]);
        let error = refused(folder.path(), false);
        assert!(error.contains(why), "{error} should say {why}");
    }
}
