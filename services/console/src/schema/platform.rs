//! Shapes of how everything stands.

use super::{Number, PrizeAt};
use utoipa::ToSchema;

objects! {
    /// Delivery's pace towards a vendor.
    VendorLimit {
        vendor: u32,
        /// Sends a second at most, 0: none; null: as many as the platform is configured to.
        #[schema(required)]
        per_second: Option<u32>,
    }
    /// How everything stands.
    PlatformStatus {
        at_ms: Number,
        nodes: Vec<NodeStatus>,
        /// Prizes of rounds that are not closed.
        prizes: Vec<PrizeStatus>,
        vendors: Vec<VendorStatus>,
    }
    /// A lottery node.
    NodeStatus {
        node: u16,
        epoch: u32,
        /// Whether its session with the ledger is valid: only then it draws.
        session: bool,
        seen_ago_ms: Number,
        plans: Vec<NodePlan>,
    }
    /// What a node runs of a campaign.
    NodePlan {
        campaign: u32,
        #[schema(required)]
        seq_no: Option<Number>,
        #[schema(required)]
        grey: Option<Number>,
        /// A newer version that it could not put into force.
        #[schema(required)]
        failure: Option<NodeFailure>,
    }
    /// A version that a node could not put into force.
    NodeFailure {
        seq_no: Number,
        what: String,
    }
    /// A prize, as the ledger has it.
    PrizeStatus {
        campaign: u32,
        at: PrizeAt,
        name: String,
        vendor: u32,
        seq_no: Number,
        paused: bool,
        /// Units ever made.
        made: Number,
        /// The effective budget: made and not cancelled.
        budget: Number,
        /// Units granted to nodes and not returned, awarded ones among them.
        granted: Number,
        awarded: Number,
        /// Units in open leases.
        locked: Number,
        open_leases: u32,
        /// Units won a second, of late.
        per_second: f64,
    }
    /// A vendor, as delivery has it.
    VendorStatus {
        vendor: u32,
        name: String,
        limit_per_second: u32,
        backlog: Number,
        cut_off: bool,
        per_second: f64,
    }
}
