//! Lanes as archive files.

use super::{Log, ended};
use queue::Position;
use queue::lanes::export::export;
use queue::lanes::memory::MemoryLanes;
use queue::lanes::{LaneState, Lanes, Verdict};
use std::path::{Path, PathBuf};

const NODE: u16 = 2;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for epoch in std::fs::read_dir(dir.join("lane-00002")).unwrap() {
        all.extend(std::fs::read_dir(epoch.unwrap().path()).unwrap().map(|f| f.unwrap().path()));
    }
    all.sort_by_key(|p| p.file_name().unwrap().to_owned());
    all
}

/// Bytes of all groups in the files, in order.
fn bytes(dir: &Path) -> Vec<u8> {
    files(dir).iter().flat_map(|f| std::fs::read(f).unwrap().split_off(80)).collect()
}

async fn in_the_lane(lanes: &MemoryLanes) -> Vec<u8> {
    let raw = lanes.read_raw(NODE, Position::ZERO, 1_000_000).await.unwrap();
    raw.groups.iter().flat_map(|g| g.bytes.to_vec()).collect()
}

#[tokio::test]
async fn an_export_goes_on_where_it_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let lanes = MemoryLanes::new(3);
    let mut log = Log::new(NODE, 1);
    lanes.ship_now(NODE, log.groups(5)).unwrap();
    let done = export(&lanes, NODE, dir.path()).await.unwrap();
    assert_eq!((done.groups, done.next), (5, Position(5)));
    // A zombie, an end, a jump, an epoch without a group, another jump.
    let lost = log.groups(2);
    lanes.mark_ended_now(NODE, 1, &ended(NODE, 1)).unwrap();
    lanes.ship_now(NODE, lost).unwrap();
    log.begin(2);
    lanes.ship_now(NODE, log.groups(3)).unwrap();
    lanes.mark_ended_now(NODE, 2, &ended(NODE, 2)).unwrap();
    lanes.mark_ended_now(NODE, 3, &ended(NODE, 3)).unwrap();
    log.next = 20;
    log.begin(4);
    lanes.ship_now(NODE, log.groups(2)).unwrap();
    let done = export(&lanes, NODE, dir.path()).await.unwrap();
    assert_eq!((done.groups, done.next), (8, Position(22)));
    assert_eq!(bytes(dir.path()), in_the_lane(&lanes).await);
    let names: Vec<String> = files(dir.path())
        .iter()
        .map(|f| f.strip_prefix(dir.path().join("lane-00002")).unwrap().display().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "epoch-0000000001/00000000000000000000.seg",
            "epoch-0000000002/00000000000000000007.seg",
            "epoch-0000000003/00000000000000000011.seg",
            "epoch-0000000004/00000000000000000020.seg"
        ]
    );
    // Killed at any byte of the last two files, it goes on to the same.
    let want = bytes(dir.path());
    for file in [3, 2] {
        let last = files(dir.path()).remove(file);
        let whole = std::fs::read(&last).unwrap();
        for len in (0..whole.len()).step_by(7) {
            std::fs::write(&last, &whole[..len]).unwrap();
            if file == 2 {
                let _ = std::fs::remove_file(
                    dir.path().join("lane-00002/epoch-0000000004/00000000000000000020.seg"),
                );
            }
            export(&lanes, NODE, dir.path()).await.unwrap();
            assert_eq!(bytes(dir.path()), want, "cut at {len}");
        }
    }
    assert_eq!(export(&lanes, NODE, dir.path()).await.unwrap().groups, 0);
    let mut state = LaneState::ORIGIN;
    let raw = lanes.read_raw(NODE, Position::ZERO, 99).await.unwrap();
    let counts = raw
        .groups
        .iter()
        .filter(|g| matches!(state.accept(NODE, &g.bytes), Ok(Verdict::Accepted(_))))
        .count();
    assert_eq!(counts, 13, "an archive is a lane in which everything counts");
}

#[tokio::test]
async fn a_foreign_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let lanes = MemoryLanes::new(3);
    lanes.ship_now(NODE, Log::new(NODE, 1).groups(2)).unwrap();
    lanes.ship_now(1, Log::new(1, 1).groups(2)).unwrap();
    export(&lanes, 1, dir.path()).await.unwrap();
    let place = dir.path().join("lane-00002/epoch-0000000001");
    std::fs::create_dir_all(&place).unwrap();
    let name = "00000000000000000000.seg";
    std::fs::copy(dir.path().join("lane-00001/epoch-0000000001").join(name), place.join(name)).unwrap();
    let error = export(&lanes, NODE, dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("it is of kind 1, node 1; move it away"), "{error}");
}
