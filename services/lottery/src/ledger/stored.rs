//! Rows as they are stored, whichever engine keeps them: reading one, and listing its columns' values.

use campaign::{CampaignId, LeaseId, NodeEpoch, NodeId, PrizeId, RoundId, SeqNo, VendorId};
use storage::batch::{BatchRow, signed};
use storage::pg::ValueRow;
use storage::{SqlError, StoredRow, impossible};

use super::rows::{CampaignRow, ClosedBy, ClosedLease, LeaseKey, LeaseRow, PrizeKey, PrizeRow, VendorRow};
use super::sql::text;

/// Reads a row of `ledger_campaign`.
pub fn campaign(row: &impl StoredRow) -> Result<CampaignRow, SqlError> {
    Ok(CampaignRow { campaign: CampaignId(row.int("campaign")?), seq_no: SeqNo(row.bits("seq_no")?) })
}

/// Reads a row of `ledger_vendor`.
pub fn vendor(row: &impl StoredRow) -> Result<VendorRow, SqlError> {
    Ok(VendorRow {
        key: (CampaignId(row.int("campaign")?), VendorId(row.int("vendor")?)),
        seq_no: SeqNo(row.bits("seq_no")?),
        release_per_second: row.bits("release_per_second")?,
        window: row.parsed("slots", text::window)?,
    })
}

fn prize_key(row: &impl StoredRow) -> Result<PrizeKey, SqlError> {
    Ok(PrizeKey {
        campaign: CampaignId(row.int("campaign")?),
        round: RoundId(row.int("round")?),
        prize: PrizeId(row.int("prize")?),
    })
}

/// Reads a row of `ledger_prize`.
pub fn prize(row: &impl StoredRow) -> Result<PrizeRow, SqlError> {
    let prize = PrizeRow {
        key: prize_key(row)?,
        vendor: VendorId(row.int("vendor")?),
        seq_no: SeqNo(row.bits("seq_no")?),
        change_seq_no: SeqNo(row.bits("change_seq_no")?),
        open_ms: row.bits("open_ms")?,
        close_ms: row.bits("close_ms")?,
        curve: row.parsed("curve", text::curve)?,
        speed_max: row.bits("speed_max")?,
        catch_up_percent: row.int("catch_up_percent")?,
        made: row.bits("made")?,
        fresh: row.parsed("fresh", text::ranges)?,
        returned: row.parsed("came_back", text::ranges)?,
        cancelled: row.parsed("cancelled", text::ranges)?,
        leased: row.bits("leased")?,
        used: row.bits("used")?,
        base_units: row.bits("base_units")?,
        base_ms: row.bits("base_ms")?,
        paused: row.int::<u8>("paused")? != 0,
        recall_ms: row.bits("recall_ms")?,
        window: row.parsed("slots", text::window)?,
    };
    // A row that was edited by hand must not turn into money.
    prize.check().map_err(|wrong| impossible("ledger_prize", &wrong))?;
    Ok(prize)
}

/// Reads a row of `ledger_lease`.
pub fn lease(row: &impl StoredRow) -> Result<LeaseRow, SqlError> {
    let closed = match row.number_or_null("closed_ms")? {
        None => None,
        Some(at_ms) => {
            let by: u8 = row.int("closed_by")?;
            let by = ClosedBy::from_u8(by).ok_or_else(|| impossible("closed_by", &by.to_string()))?;
            let (used, returned) = (row.bits("used")?, row.parsed("came_back", text::ranges)?);
            Some(ClosedLease { at_ms: at_ms.cast_unsigned(), by, used, returned })
        }
    };
    Ok(LeaseRow {
        key: LeaseKey {
            node: NodeId(row.int("node")?),
            epoch: NodeEpoch(row.int("epoch")?),
            lease: LeaseId(row.bits("lease")?),
        },
        prize: prize_key(row)?,
        seq_no: SeqNo(row.bits("seq_no")?),
        granted_ms: row.bits("granted_ms")?,
        round_close_ms: row.bits("round_close_ms")?,
        ranges: row.parsed("ranges", text::lease_ranges)?,
        closed,
    })
}

/// Where a row's values go, in the order of its columns.
pub trait Values {
    /// A number.
    fn int(&mut self, value: i64) -> &mut Self;
    /// Text.
    fn text(&mut self, value: &str) -> &mut Self;
    /// An empty column of numbers.
    fn no_int(&mut self) -> &mut Self;
    /// An empty column of text.
    fn no_text(&mut self) -> &mut Self;
}

impl Values for BatchRow<'_> {
    fn int(&mut self, value: i64) -> &mut Self {
        BatchRow::int(self, value)
    }

    fn text(&mut self, value: &str) -> &mut Self {
        BatchRow::text(self, value)
    }

    fn no_int(&mut self) -> &mut Self {
        self.null()
    }

    fn no_text(&mut self) -> &mut Self {
        self.null()
    }
}

impl Values for ValueRow<'_> {
    fn int(&mut self, value: i64) -> &mut Self {
        ValueRow::int(self, value)
    }

    fn text(&mut self, value: &str) -> &mut Self {
        ValueRow::text(self, value)
    }

    fn no_int(&mut self) -> &mut Self {
        self.int_or_null(None)
    }

    fn no_text(&mut self) -> &mut Self {
        self.text_or_null(None)
    }
}

/// A row that can list its values.
pub trait Stored {
    /// Its values, in the order of its table's columns.
    fn put(&self, b: &mut impl Values);
}

impl Stored for CampaignRow {
    fn put(&self, b: &mut impl Values) {
        b.int(self.campaign.0.into()).int(signed(self.seq_no.0));
    }
}

impl Stored for VendorRow {
    fn put(&self, b: &mut impl Values) {
        b.int(self.key.0.0.into()).int(self.key.1.0.into()).int(signed(self.seq_no.0));
        b.int(signed(self.release_per_second)).text(&text::window_text(&self.window));
    }
}

impl Stored for PrizeRow {
    fn put(&self, b: &mut impl Values) {
        b.int(self.key.campaign.0.into()).int(self.key.round.0.into()).int(self.key.prize.0.into());
        b.int(self.vendor.0.into()).int(signed(self.seq_no.0)).int(signed(self.change_seq_no.0));
        b.int(signed(self.open_ms)).int(signed(self.close_ms)).text(&text::curve_text(&self.curve));
        b.int(signed(self.speed_max)).int(self.catch_up_percent.into()).int(signed(self.made));
        b.text(&self.fresh.to_string()).text(&self.returned.to_string()).text(&self.cancelled.to_string());
        b.int(signed(self.leased))
            .int(signed(self.used))
            .int(signed(self.base_units))
            .int(signed(self.base_ms));
        b.int(self.paused.into()).int(signed(self.recall_ms)).text(&text::window_text(&self.window));
    }
}

impl Stored for LeaseRow {
    fn put(&self, b: &mut impl Values) {
        b.int(self.key.node.0.into()).int(self.key.epoch.0.into()).int(signed(self.key.lease.0));
        b.int(self.prize.campaign.0.into()).int(self.prize.round.0.into()).int(self.prize.prize.0.into());
        b.int(signed(self.seq_no.0)).int(signed(self.granted_ms)).int(signed(self.round_close_ms));
        b.text(&text::lease_ranges_text(&self.ranges));
        match &self.closed {
            None => b.no_int().no_int().no_int().no_text(),
            Some(closed) => b
                .int(signed(closed.at_ms))
                .int((closed.by as u8).into())
                .int(signed(closed.used))
                .text(&closed.returned.to_string()),
        };
    }
}
