//! A small world and its writer: flow archive, journal, ledger, statements, built from the published formats with none of
//! the platform's code. A test plants faults by changing the world before or the bytes after it is written.

mod lane;
mod statement;
mod tables;

pub use lane::{Group, ended, epoch_began, lease_got, won, won_from, write_lane};
pub use tables::execute;

use campaign::plan::{ClientPacing, Stagger};
use campaign::{
    AwardId, CampaignId, Curve, Delivery, Fen, Limits, MacKey, NodeEpoch, NodeId, Plan, Prize, PrizeId,
    PrizeKind, Regions, Round, RoundId, SeedKey, SeqNo, Tranche, UnitAmounts, Vendor, VendorId,
};
use reconcile::readers::tables::{Ledger, LedgerPrize};
use reconcile::rows::PrizeKey;
use reconcile::{Inputs, Seeds, TableSource, Terms};
use std::fmt::Write as _;
use std::path::Path;

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
        regions: Regions::EVERYWHERE,
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
        regions: Vec::new(),
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

    /// Writes everything below `folder`, the tables in SQLite, and names it.
    pub async fn write(&self, folder: &Path) -> Inputs {
        let (delivery, ledger) = (folder.join("delivery.db"), folder.join("ledger.db"));
        self.write_with(folder, TableSource::Sqlite(delivery), TableSource::Sqlite(ledger)).await
    }

    /// Writes everything, the tables into empty databases that are there.
    pub async fn write_with(&self, folder: &Path, delivery: TableSource, ledger: TableSource) -> Inputs {
        self.write_journal(&delivery).await;
        self.write_ledger(&ledger).await;
        let lane = if self.lane.is_empty() { self.default_lane() } else { self.lane.clone() };
        let archive = folder.join("archive");
        std::fs::create_dir_all(&archive).unwrap();
        write_lane(&archive, 7, &lane);
        let mut inputs = Inputs::new(vec![self.plan.clone()], folder.join("work"), Terms::at(NOW));
        inputs.archives = vec![archive];
        (inputs.delivery, inputs.ledger) = (Some(delivery), Some(ledger));
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
}

pub fn set(text: &str) -> campaign::Ranges {
    text.split(',').filter(|p| !p.is_empty()).map(|n| n.parse::<u64>().unwrap()).collect()
}
