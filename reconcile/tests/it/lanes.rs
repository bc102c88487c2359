//! Archives of a cluster's lanes: marks that other nodes wrote, and positions that were left out.

use crate::world::{World, ended, epoch_began, lease_got, won};
use reconcile::readers::archive::bytes::Record;
use reconcile::readers::archive::{LaneRead, read_lanes};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// Lanes as they were read, and what each record was.
type Read = (Vec<LaneRead>, Vec<(u64, u32)>);

const NODE: u16 = 7;

/// A lane's files as they are written, and the chain of the present epoch.
struct Writer {
    epoch: u32,
    first: u64,
    next: u64,
    seq: u64,
    hash: [u8; 32],
    file: Vec<u8>,
    files: Vec<(u32, u64, Vec<u8>)>,
}

impl Writer {
    fn new() -> Writer {
        Writer { epoch: 0, first: 0, next: 0, seq: 0, hash: [0; 32], file: Vec::new(), files: Vec::new() }
    }

    fn begin(&mut self, epoch: u32) -> &mut Writer {
        self.finish();
        let mut start = b"hongbao flow log epoch v1".to_vec();
        start.extend(NODE.to_le_bytes());
        start.extend(epoch.to_le_bytes());
        (self.epoch, self.first, self.seq, self.hash) = (epoch, self.next, 0, Sha256::digest(&start).into());
        let mut head = b"HBLOGSEG".to_vec();
        head.extend([1u16, 80, 1, NODE].iter().flat_map(|n| n.to_le_bytes()));
        head.extend([epoch, 0].iter().flat_map(|n| n.to_le_bytes()));
        head.extend([self.next, 0].iter().flat_map(|n| n.to_le_bytes()));
        head.extend(self.hash);
        head.extend([0; 4]);
        head.extend(crc32c::crc32c(&head).to_le_bytes());
        self.file = head;
        self
    }

    fn put(&mut self, epoch: u32, at: (u64, u64), hash: [u8; 32], records: &[Vec<u8>]) -> [u8; 32] {
        let body: Vec<u8> =
            records.iter().flat_map(|r| [&(r.len() as u32).to_le_bytes()[..], r].concat()).collect();
        let mut head = b"HBGR".to_vec();
        head.extend([1u16, 88, 1, NODE].iter().flat_map(|n| n.to_le_bytes()));
        head.extend(epoch.to_le_bytes());
        head.extend([at.0, at.1].iter().flat_map(|n| n.to_le_bytes()));
        head.extend([records.len() as u32, body.len() as u32].iter().flat_map(|n| n.to_le_bytes()));
        head.extend(5u64.to_le_bytes());
        head.extend(hash);
        let hash = Sha256::digest([&head[..], &body].concat()).into();
        head.extend(crc32c::crc32c(&body).to_le_bytes());
        head.extend(crc32c::crc32c(&head).to_le_bytes());
        self.file.extend(head);
        self.file.extend(body);
        self.next += 1;
        hash
    }

    fn group(&mut self, records: &[Vec<u8>]) -> &mut Writer {
        self.hash = self.put(self.epoch, (self.next, self.seq), self.hash, records);
        self.seq += 1;
        self
    }

    fn mark(&mut self, epoch: u32) -> &mut Writer {
        self.put(epoch, (u64::MAX, u64::MAX), [0; 32], &[ended(NODE, epoch)]);
        self
    }

    fn jump(&mut self, positions: u64) -> &mut Writer {
        self.finish();
        self.next += positions;
        self
    }

    fn finish(&mut self) {
        if !self.file.is_empty() {
            self.files.push((self.epoch, self.first, std::mem::take(&mut self.file)));
        }
    }

    fn read(&mut self, without: Option<usize>) -> Result<Read, String> {
        self.finish();
        let folder = tempfile::tempdir().unwrap();
        for (i, (epoch, first, bytes)) in self.files.iter().enumerate() {
            let place = folder.path().join(format!("lane-00007/epoch-{epoch:010}"));
            std::fs::create_dir_all(&place).unwrap();
            if without != Some(i) {
                std::fs::write(place.join(format!("{first:020}.seg")), bytes).unwrap();
            }
        }
        read(folder.path())
    }
}

/// What was read, and place and epoch of each award.
fn read(folder: &Path) -> Result<Read, String> {
    let mut awards = Vec::new();
    let lanes = read_lanes(&[folder.to_owned()], false, &mut |place, record| {
        if matches!(record, Record::Won(_)) {
            awards.push((place.position, place.epoch.0));
        }
        Ok(())
    });
    lanes.map(|lanes| (lanes, awards)).map_err(|e| e.to_string())
}

fn an_award() -> Vec<u8> {
    // The last unit of each prize is never won.
    won(&World::perfect(2, 1).awards[0])
}

/// Two epochs that others ended, the second without a group; then two that the node ended itself or not yet.
fn lane() -> Writer {
    let mut w = Writer::new();
    w.begin(1).group(&[epoch_began(NODE, 1), lease_got(1, 1, 0, 9)]).group(&[an_award()]).mark(1);
    w.begin(2).mark(2);
    w.jump(4).begin(3).group(&[epoch_began(NODE, 3), lease_got(1, 1, 9, 9)]).group(&[an_award()]);
    w.group(&[ended(NODE, 3)]);
    w.begin(4).group(&[epoch_began(NODE, 4), lease_got(1, 1, 18, 9)]).group(&[an_award()]);
    w
}

#[test]
fn marks_and_jumps_are_read() {
    let (lanes, awards) = lane().read(None).unwrap();
    assert_eq!((lanes[0].groups, awards), (9, vec![(1, 1), (9, 3), (12, 4)]));
}

#[test]
fn a_missing_file_is_not_taken_for_a_jump() {
    for without in 0..3 {
        let error = lane().read(Some(without)).unwrap_err();
        assert!(error.contains("first is"), "without {without}: {error}");
    }
}

#[test]
fn a_jump_needs_an_end_before_it() {
    let mut open = Writer::new();
    open.begin(1).group(&[epoch_began(NODE, 1)]).jump(1).begin(2).group(&[epoch_began(NODE, 2)]);
    assert!(open.read(None).unwrap_err().contains("first is 2, expected 1"));
    let mut first = Writer::new();
    first.jump(3).begin(1).group(&[epoch_began(NODE, 1)]);
    assert!(first.read(None).unwrap_err().contains("first is 3, expected 0"));
    let mut skipped = Writer::new();
    skipped.begin(1).group(&[epoch_began(NODE, 1)]).mark(1).jump(1).begin(3).group(&[epoch_began(NODE, 3)]);
    assert!(
        skipped.read(None).unwrap_err().contains("first is 3, expected 2"),
        "epoch 2 has no end anywhere"
    );
}

#[test]
fn a_mark_is_what_it_says() {
    let mut twice = Writer::new();
    twice.begin(1).group(&[epoch_began(NODE, 1)]).mark(1).mark(1);
    assert!(twice.read(None).unwrap_err().contains("the first counts"));
    let mut other = Writer::new();
    other.begin(1).group(&[epoch_began(NODE, 1)]).put(1, (u64::MAX, u64::MAX), [0; 32], &[ended(NODE, 2)]);
    assert!(other.read(None).unwrap_err().contains("holds something else"));
    let mut chained = Writer::new();
    chained.begin(1).group(&[epoch_began(NODE, 1)]).put(1, (u64::MAX, u64::MAX), [1; 32], &[ended(NODE, 1)]);
    assert!(chained.read(None).unwrap_err().contains("hash chain"));
    let mut foreign = Writer::new();
    foreign.begin(1).group(&[epoch_began(NODE, 1)]).mark(2);
    assert!(foreign.read(None).unwrap_err().contains("epoch is 2, expected 1"));
    // What the node wrote behind it is skipped.
    let mut behind = Writer::new();
    behind.begin(1).group(&[epoch_began(NODE, 1), lease_got(1, 1, 0, 9)]).mark(1);
    assert_eq!(behind.read(None).unwrap().1, vec![]);
}
