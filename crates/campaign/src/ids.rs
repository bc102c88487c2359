//! Ids as they stand in files, records and messages. Each is a number of its own type, so that a prize
//! can't be passed where a vendor is meant.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// A player. At least 1; an app maps its own names onto numbers.
    UserId,
    u64
);
id!(
    /// A campaign, as its file names it. Never reused.
    CampaignId,
    u32
);
id!(
    /// A round within its campaign.
    RoundId,
    u32
);
id!(
    /// A prize within its round, as the file names it (never its position). Never reused.
    PrizeId,
    u32
);
id!(
    /// A vendor that delivers prizes: a wallet, a voucher system.
    VendorId,
    u32
);
id!(
    /// The version of a campaign's plan; counts from 1 within the campaign.
    SeqNo,
    u64
);
id!(
    /// A lottery node: 0..=4095, 12 bits, because award ids carry it.
    NodeId,
    u16
);
id!(
    /// How often a node has begun anew: 22 bits, from 1. Raised durably before the node serves.
    NodeEpoch,
    u32
);
id!(
    /// A lease within (node, epoch): made by the node, rising.
    LeaseId,
    u64
);

impl NodeId {
    /// The highest node number that fits the 12 bits of an award id.
    pub const MAX: NodeId = NodeId(0xfff);
}

impl NodeEpoch {
    /// The highest epoch that fits the 22 bits of an award id.
    pub const MAX: NodeEpoch = NodeEpoch((1 << 22) - 1);
}
