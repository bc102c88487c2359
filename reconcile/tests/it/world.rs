//! A small world and its writer: flow archive, journal, ledger, statements, built from the published formats with none of
//! the platform's code. A test plants faults by changing the world before or the bytes after it is written.

use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    AwardFacts, AwardId, CampaignId, Curve, Delivery, Fen, Limits, MacKey, NodeEpoch, NodeId, Plan, Prize,
    PrizeId, PrizeKind, Round, RoundId, SeedKey, SeqNo, Tranche, UnitAmounts, UserId, Vendor, VendorId,
};
use reconcile::readers::tables::{Ledger, LedgerPrize};
use reconcile::rows::PrizeKey;
use reconcile::{Inputs, Seeds, StatementFile, Terms};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub const OPEN: u64 = 1_767_196_800_000;
pub const CLOSE: u64 = OPEN + 60_000;
pub const NOW: u64 = OPEN + 3_600_000;
pub const CASH: u32 = 1;
pub const VOUCHER: u32 = 2;
const TERM: u64 = 600_000;

pub fn seed_key() -> SeedKey {
    SeedKey { id: 1, key: [7; 32] }
}

pub fn mac_key() -> MacKey {
    MacKey { id: 3, key: [9; 32] }
}

/// One campaign with one round: lucky cash (units 0..cash) and vouchers without money.
pub fn plan(cash: u64, vouchers: u64, limits: Limits) -> Plan {
    let commitment = seed_key().round_seed(CampaignId(1), RoundId(1)).commitment();
    let prize = |id, kind, delivery, vendor, tranche| Prize {
        id: PrizeId(id),
        name: format!("prize {id}"),
        kind,
        weight: 1,
        vendor: VendorId(vendor),
        delivery,
        curve: Curve::even(0, 57_000),
        speed_max: 0,
        catch_up_percent: 200,
        paused: false,
        tranches: vec![tranche],
    };
    let fen = cash as i64 * 300;
    let cash = Tranche { first: 0, units: cash, fen: Fen(fen), min: Fen(50), max: Fen(2_000) };
    let vouchers = Tranche { first: 0, units: vouchers, fen: Fen(0), min: Fen(0), max: Fen(0) };
    Plan {
        campaign: CampaignId(1),
        seq_no: SeqNo(1),
        name: "test".into(),
        source_sha256: [0; 32],
        time_zone: "UTC".into(),
        days: vec![(OPEN, 20_000)],
        limits,
        stagger: Stagger::default(),
        pacing: ClientPacing { submit_min_ms: 1, submit_max_ms: 2 },
        rounds: vec![Round {
            id: RoundId(1),
            name: "first".into(),
            open_ms: OPEN,
            close_ms: CLOSE,
            seed_key_id: 1,
            seed_commitment: commitment,
            prizes: vec![
                prize(CASH, PrizeKind::Cash, Delivery::AtOnce, 11, cash),
                prize(VOUCHER, PrizeKind::Voucher, Delivery::OnClaim { term_ms: TERM }, 12, vouchers),
            ],
        }],
        vendors: [11, 12]
            .map(|v| Vendor { id: VendorId(v), name: format!("v{v}"), release_per_second: 0 })
            .into(),
    }
}

/// An award of the world, as every source should have it.
#[derive(Clone, Debug)]
pub struct Award {
    pub id: AwardId,
    pub user: u64,
    pub counter: u32,
    pub prize: u32,
    pub unit: u64,
    pub fen: i64,
    pub time_ms: u64,
    pub mac_broken: bool,
}

/// A step of the journal: award index or id, step, state, at, due.
#[derive(Clone, Debug)]
pub struct Step {
    pub award: AwardId,
    pub step: u32,
    pub state: u8,
    pub generation: u16,
    pub at_ms: u64,
    pub due_ms: u64,
    pub prize: u32,
    pub user: u64,
    pub fen: i64,
}

/// A statement row.
#[derive(Clone, Debug)]
pub struct Payment {
    pub vendor: u32,
    pub number: String,
    pub award: String,
    pub fen: i64,
    pub status: &'static str,
    pub at_ms: u64,
    pub reference: String,
}

pub struct World {
    pub plan: Plan,
    pub awards: Vec<Award>,
    pub steps: Vec<Step>,
    pub payments: Vec<Payment>,
    pub ledger: Ledger,
    pub told: Vec<Award>,
    pub complete: bool,
    /// Statements end here.
    pub to_ms: u64,
    pub lane: Vec<Group>,
}

/// A group to be written: epoch and records.
#[derive(Clone, Debug)]
pub struct Group {
    pub epoch: u32,
    pub records: Vec<Vec<u8>>,
}

pub fn vendor_of(prize: u32) -> u32 {
    if prize == CASH { 11 } else { 12 }
}

pub fn amount(plan: &Plan, prize: u32, unit: u64) -> i64 {
    let keys = seed_key().round_seed(CampaignId(1), RoundId(1)).keys();
    let tranches = plan.rounds[0].prizes[prize as usize - 1].tranches.clone();
    UnitAmounts::new(prize, tranches).amount(&keys, unit).unwrap().0
}

impl World {
    /// Everything won, delivered, on the statement and told, except the last cash unit (free) and the last voucher (cancelled).
    pub fn perfect(cash: u64, vouchers: u64) -> World {
        let plan = plan(
            cash,
            vouchers,
            Limits { wins_round: 1, wins_day: 2, wins_campaign: 2, ..Limits::default() },
        );
        let mut world = World {
            plan,
            awards: vec![],
            steps: vec![],
            payments: vec![],
            ledger: Ledger::default(),
            told: vec![],
            complete: true,
            to_ms: NOW - 1_000_000,
            lane: vec![],
        };
        for unit in 0..cash - 1 {
            world.win(CASH, unit, 100 + unit);
        }
        for unit in 0..vouchers - 1 {
            world.win(VOUCHER, unit, 100_000 + unit);
        }
        for award in world.awards.clone() {
            world.deliver(&award);
            world.pay(&award, 0, "success", award.time_ms + 20);
        }
        world.told = world.awards.clone();
        let row = |prize, units: u64, free: &str, cancelled: &str| LedgerPrize {
            key: PrizeKey { campaign: CampaignId(1), round: RoundId(1), prize: PrizeId(prize) },
            close_ms: CLOSE,
            paused: false,
            made: units,
            fresh: set(free),
            came_back: set(""),
            cancelled: set(cancelled),
            leased: 0,
            used: 0,
        };
        world.ledger.prizes = vec![
            row(CASH, cash, &(cash - 1).to_string(), ""),
            row(VOUCHER, vouchers, "", &(vouchers - 1).to_string()),
        ];
        world
    }

    pub fn win(&mut self, prize: u32, unit: u64, user: u64) -> Award {
        let n = self.awards.len() as u64;
        let time_ms = OPEN + 10 + n;
        let id = AwardId::new(time_ms, NodeId(7), NodeEpoch(2), n);
        let fen = amount(&self.plan, prize, unit);
        let award = Award { id, user, counter: 1, prize, unit, fen, time_ms, mac_broken: false };
        self.awards.push(award.clone());
        award
    }

    pub fn step(&mut self, award: &Award, step: u32, state: u8, at_ms: u64) {
        let Award { id, prize, user, fen, .. } = *award;
        self.steps.push(Step { award: id, step, state, generation: 0, at_ms, due_ms: 0, prize, user, fen });
    }

    /// Journal: ready, sending, delivered.
    pub fn deliver(&mut self, award: &Award) {
        for (step, state) in [(1, 2), (2, 3), (3, 5)] {
            self.step(award, step, state, award.time_ms + 10 * u64::from(step));
        }
    }

    pub fn pay(&mut self, award: &Award, generation: u16, status: &'static str, at_ms: u64) {
        self.payments.push(Payment {
            vendor: vendor_of(award.prize),
            number: format!("{}{generation:02}", award.id),
            award: award.id.to_string(),
            fen: award.fen,
            status,
            at_ms,
            reference: format!("R{}{generation}", award.id),
        });
    }

    /// Sets the journal's last state of an award, with the steps before it.
    pub fn set_state(&mut self, award: &Award, state: u8) {
        let last = self.steps.iter_mut().rfind(|s| s.award == award.id).unwrap();
        last.state = state;
    }

    pub fn unpay(&mut self, award: &Award) {
        let id = award.id.to_string();
        self.payments.retain(|p| p.award != id);
    }

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

    /// Writes everything below `folder` and names it.
    pub async fn write(&self, folder: &Path) -> Inputs {
        let lane = if self.lane.is_empty() { self.default_lane() } else { self.lane.clone() };
        let archive = folder.join("archive");
        std::fs::create_dir_all(&archive).unwrap();
        write_lane(&archive, 7, &lane);
        let mut inputs = Inputs::new(vec![self.plan.clone()], folder.join("work"), Terms::at(NOW));
        inputs.archives = vec![archive];
        inputs.delivery_db = Some(self.write_journal(folder).await);
        inputs.ledger_db = Some(self.write_ledger(folder).await);
        inputs.statements = [11, 12].map(|vendor| self.write_statement(folder, vendor)).into();
        inputs.seeds = Seeds { published: vec![], keys: vec![seed_key()] };
        inputs.mac_keys = vec![mac_key()];
        inputs.out_dir = Some(folder.join("out"));
        let mut told = String::from("award,user,campaign,round,prize,fen\n");
        for a in &self.told {
            writeln!(told, "{},{},1,1,{},{}", a.id, a.user, a.prize, a.fen).unwrap();
        }
        std::fs::write(folder.join("told.csv"), told).unwrap();
        inputs.told = Some(folder.join("told.csv"));
        // Too few entries for the last unit: what is left over is nobody's fault.
        std::fs::write(folder.join("tails.csv"), "campaign,round,entries,units_left\n1,1,5,1\n").unwrap();
        inputs.tails = Some(folder.join("tails.csv"));
        inputs
    }

    fn write_statement(&self, folder: &Path, vendor: u32) -> StatementFile {
        let mut rows: Vec<&Payment> =
            self.payments.iter().filter(|p| p.vendor == vendor && p.at_ms < self.to_ms).collect();
        rows.sort_by_key(|p| p.at_ms);
        let mut text =
            String::from("number,vendor_ref,award,payee,kind,fen,status,accepted_ms,finished_ms\n");
        for p in &rows {
            writeln!(
                text,
                "{},{},{},\"o,1\",cash,{},{},{OPEN},{}",
                p.number, p.reference, p.award, p.fen, p.status, p.at_ms
            )
            .unwrap();
        }
        let of = |status| {
            let (mut n, mut fen) = (0, 0);
            for p in rows.iter().filter(|p| p.status == status) {
                (n, fen) = (n + 1, fen + p.fen);
            }
            (n, fen)
        };
        let ((s, sf), (r, rf)) = (of("success"), of("reversed"));
        let all: i64 = rows.iter().map(|p| p.fen).sum();
        writeln!(
            text,
            "#footer rows={} fen={all} success_rows={s} success_fen={sf} reversed_rows={r} reversed_fen={rf} from_ms=0 to_ms={} cut_ms={NOW} complete={}",
            rows.len(), self.to_ms, self.complete
        )
        .unwrap();
        let path = folder.join(format!("statement-{vendor}.csv"));
        std::fs::write(&path, text).unwrap();
        StatementFile { vendor: VendorId(vendor), path }
    }

    async fn write_journal(&self, folder: &Path) -> PathBuf {
        let path = folder.join("delivery.db");
        let create = "CREATE TABLE delivery_journal (position INTEGER PRIMARY KEY, award BLOB NOT NULL, step INTEGER NOT NULL, \
             state INTEGER NOT NULL, generation INTEGER NOT NULL, attempt INTEGER NOT NULL, at_ms INTEGER NOT NULL, \
             due_ms INTEGER NOT NULL, vendor INTEGER NOT NULL, user_id INTEGER NOT NULL, campaign INTEGER NOT NULL, \
             round INTEGER NOT NULL, prize INTEGER NOT NULL, fen INTEGER NOT NULL, reason INTEGER NOT NULL, note TEXT NOT NULL)";
        let mut statements = vec![create.to_string()];
        for (i, s) in self.steps.iter().enumerate() {
            let award: String = s.award.0.to_be_bytes().iter().map(|b| format!("{b:02x}")).collect();
            statements.push(format!(
                "INSERT INTO delivery_journal VALUES ({}, X'{award}', {}, {}, {}, 1, {}, {}, {}, {}, 1, 1, {}, {}, 0, '')",
                i + 1, s.step, s.state, s.generation, s.at_ms, s.due_ms, vendor_of(s.prize), s.user, s.prize, s.fen
            ));
        }
        execute(&path, &statements).await;
        path
    }

    async fn write_ledger(&self, folder: &Path) -> PathBuf {
        let path = folder.join("ledger.db");
        let mut statements = vec![
            "CREATE TABLE ledger_prize (campaign BIGINT, round BIGINT, prize BIGINT, vendor BIGINT, close_ms BIGINT, made BIGINT, \
             fresh TEXT, came_back TEXT, cancelled TEXT, leased BIGINT, used BIGINT, paused BIGINT)"
                .to_string(),
            "CREATE TABLE ledger_lease (node BIGINT, epoch BIGINT, lease BIGINT, campaign BIGINT, round BIGINT, prize BIGINT, \
             ranges TEXT, closed_ms BIGINT)"
                .to_string(),
        ];
        for p in &self.ledger.prizes {
            // What is nowhere else is used; `used` of the world plants a difference.
            let used = p.used + p.made - p.fresh.len() - p.came_back.len() - p.cancelled.len() - p.leased;
            statements.push(format!(
                "INSERT INTO ledger_prize VALUES (1, 1, {}, 1, {}, {}, '{}', '{}', '{}', {}, {}, {})",
                p.key.prize,
                p.close_ms,
                p.made,
                p.fresh,
                p.came_back,
                p.cancelled,
                p.leased,
                used,
                u8::from(p.paused)
            ));
        }
        for l in &self.ledger.open {
            let ranges: Vec<String> =
                l.units.iter().map(|r| format!("{}-{}@17/5*1", r.first, r.end() - 1)).collect();
            statements.push(format!(
                "INSERT INTO ledger_lease VALUES ({}, {}, {}, 1, 1, {}, '{}', NULL)",
                l.id.0,
                l.id.1,
                l.id.2,
                l.key.prize,
                ranges.join(",")
            ));
        }
        execute(&path, &statements).await;
        path
    }
}

async fn execute(path: &Path, statements: &[String]) {
    let sql = storage::Sql::open(path, storage::SqlOptions::default()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    for statement in statements {
        storage::sqlx::query(statement).execute(&mut *write).await.unwrap();
    }
    write.commit().await.unwrap();
    sql.close().await;
}

pub fn set(text: &str) -> campaign::Ranges {
    text.split(',').filter(|p| !p.is_empty()).map(|n| n.parse::<u64>().unwrap()).collect()
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
