//! The flow archive, byte by byte.

use super::{Award, CASH, OPEN, VOUCHER, World, mac_key};
use campaign::{AwardFacts, CampaignId, Fen, PrizeId, RoundId, UserId};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// A group to be written: epoch and records.
#[derive(Clone, Debug)]
pub struct Group {
    pub epoch: u32,
    pub records: Vec<Vec<u8>>,
}

impl World {
    /// The lane that has the awards: epoch 2, one lease for each prize, closed at the end.
    pub fn default_lane(&self) -> Vec<Group> {
        let mut records = vec![epoch_began(7, 2)];
        for prize in [CASH, VOUCHER] {
            let units = self.plan.rounds[0].prizes[prize as usize - 1].units();
            records.push(lease_got(u64::from(prize), prize, 0, units));
        }
        let mut groups = vec![Group { epoch: 2, records }];
        for chunk in self.awards.chunks(3) {
            groups.push(Group { epoch: 2, records: chunk.iter().map(won).collect() });
        }
        let closes = [CASH, VOUCHER].map(|prize| {
            let units = self.plan.rounds[0].prizes[prize as usize - 1].units();
            let used: Vec<u64> = self.awards.iter().filter(|a| a.prize == prize).map(|a| a.unit).collect();
            let back: Vec<u64> = (0..units).filter(|u| !used.contains(u)).collect();
            lease_closed(u64::from(prize), prize, used.len() as u64, &back)
        });
        groups.push(Group { epoch: 2, records: closes.into() });
        groups
    }
}

fn record(tag: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, 1];
    out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

pub fn epoch_began(node: u16, epoch: u32) -> Vec<u8> {
    let mut p = node.to_le_bytes().to_vec();
    p.extend(epoch.to_le_bytes());
    p.extend(OPEN.to_le_bytes());
    record(1, &p)
}

pub fn ended(node: u16, epoch: u32) -> Vec<u8> {
    let mut p = node.to_le_bytes().to_vec();
    p.extend(epoch.to_le_bytes());
    record(5, &p)
}

pub fn won(a: &Award) -> Vec<u8> {
    won_from(a, u64::from(a.prize))
}

pub fn won_from(a: &Award, lease: u64) -> Vec<u8> {
    let facts = AwardFacts {
        id: a.id,
        campaign: CampaignId(1),
        round: RoundId(1),
        user: UserId(a.user),
        prize: PrizeId(a.prize),
        unit: a.unit,
        fen: Fen(a.fen),
    };
    let mut mac = mac_key().mac(&facts);
    mac[0] ^= u8::from(a.mac_broken);
    let mut p = a.id.0.to_be_bytes().to_vec();
    p.extend([1u32, 1, 20_000].iter().flat_map(|n| n.to_le_bytes()));
    p.extend(a.user.to_le_bytes());
    p.extend(a.counter.to_le_bytes());
    p.extend([1, 0, 0, 0]);
    p.extend(0u32.to_le_bytes());
    p.extend(a.prize.to_le_bytes());
    p.extend(a.unit.to_le_bytes());
    p.extend(a.fen.to_le_bytes());
    p.extend([lease, 1, 0, a.time_ms].iter().flat_map(|n| n.to_le_bytes()));
    p.extend(3u32.to_le_bytes());
    p.extend(3u32.to_le_bytes());
    p.extend(mac);
    record(2, &p)
}

pub fn lease_got(lease: u64, prize: u32, first: u64, count: u64) -> Vec<u8> {
    let mut p = lease.to_le_bytes().to_vec();
    p.extend([1u32, 1, prize].iter().flat_map(|n| n.to_le_bytes()));
    p.extend(1u64.to_le_bytes());
    p.extend(1u16.to_le_bytes());
    p.extend([first, count, OPEN / 100].iter().flat_map(|n| n.to_le_bytes()));
    p.extend([5u32, 1].iter().flat_map(|n| n.to_le_bytes()));
    record(3, &p)
}

pub fn lease_closed(lease: u64, prize: u32, used: u64, back: &[u64]) -> Vec<u8> {
    let mut p = lease.to_le_bytes().to_vec();
    p.extend([1u32, 1, prize].iter().flat_map(|n| n.to_le_bytes()));
    p.extend(used.to_le_bytes());
    p.extend((back.len() as u16).to_le_bytes());
    for unit in back {
        p.extend([*unit, 1].iter().flat_map(|n| n.to_le_bytes()));
    }
    record(4, &p)
}

/// Writes a lane, one segment file for each epoch, with zeros behind the last group of each.
pub fn write_lane(folder: &Path, node: u16, groups: &[Group]) {
    let mut file: Vec<u8> = Vec::new();
    let (mut first, mut epoch, mut seq, mut hash) = (0, 0, 0u64, [0u8; 32]);
    let finish = |file: &mut Vec<u8>, first: usize| {
        if !file.is_empty() {
            file.extend([0; 300]);
            std::fs::write(folder.join(format!("{first:020}.seg")), &*file).unwrap();
            file.clear();
        }
    };
    for (position, group) in groups.iter().enumerate() {
        if file.is_empty() || group.epoch != epoch {
            finish(&mut file, first);
            (first, epoch, seq) = (position, group.epoch, 0);
            let mut start = b"hongbao flow log epoch v1".to_vec();
            start.extend(node.to_le_bytes());
            start.extend(epoch.to_le_bytes());
            hash = Sha256::digest(&start).into();
            let mut head = b"HBLOGSEG".to_vec();
            head.extend([1u16, 80, 1, node].iter().flat_map(|n| n.to_le_bytes()));
            head.extend([epoch, 0].iter().flat_map(|n| n.to_le_bytes()));
            head.extend([position as u64, 0].iter().flat_map(|n| n.to_le_bytes()));
            head.extend(hash);
            head.extend([0; 4]);
            head.extend(crc32c::crc32c(&head).to_le_bytes());
            file = head;
        }
        let mut body = Vec::new();
        for record in &group.records {
            body.extend((record.len() as u32).to_le_bytes());
            body.extend(record);
        }
        let mut head = b"HBGR".to_vec();
        head.extend([1u16, 88, 1, node].iter().flat_map(|n| n.to_le_bytes()));
        head.extend(epoch.to_le_bytes());
        head.extend([position as u64, seq].iter().flat_map(|n| n.to_le_bytes()));
        head.extend([group.records.len() as u32, body.len() as u32].iter().flat_map(|n| n.to_le_bytes()));
        head.extend((OPEN + position as u64).to_le_bytes());
        head.extend(hash);
        let mut hashed = head.clone();
        hashed.extend(&body);
        hash = Sha256::digest(&hashed).into();
        head.extend(crc32c::crc32c(&body).to_le_bytes());
        head.extend(crc32c::crc32c(&head).to_le_bytes());
        file.extend(head);
        file.extend(body);
        seq += 1;
    }
    finish(&mut file, first);
}
