//! Shapes of the answers that other rooms define, for the document: those rooms know nothing of OpenAPI.
//!
//! Nothing is ever made of these types. That they are what is really answered is held by the tests, which check every
//! answer against the document.

mod speeds;

pub(crate) use audit::{AuditRows, Verified};
pub(crate) use platform::{PlatformStatus, VendorLimit};
pub(crate) use speeds::{Pace, Speed};

use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Defines shapes that are texts of a pattern.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident, $pattern:literal, $example:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(ToSchema)]
            #[schema(value_type = String, pattern = $pattern, example = $example)]
            #[allow(dead_code)]
            pub(crate) struct $name(String);
        )*
    };
}

texts! {
    /// A whole number of 64 bits, as text: many readers of JSON keep only 53.
    Number, "^[0-9]{1,20}$", "12";
    /// A whole number that may be negative, as text.
    Signed, "^-?[0-9]{1,39}$", "-12";
    /// A prize in its round: `ROUND/PRIZE`.
    PrizeAt, "^[1-9][0-9]{0,9}/[1-9][0-9]{0,9}$", "2/11";
    /// What is paused or stopped.
    Target, "^(campaign|(round|vendor):[1-9][0-9]{0,9}|prize:[1-9][0-9]{0,9}/[1-9][0-9]{0,9})$", "prize:2/11";
    /// What a speed is set for.
    RateTarget, "^(vendor:[1-9][0-9]{0,9}|prize:[1-9][0-9]{0,9}/[1-9][0-9]{0,9})$", "vendor:3";
    /// A SHA-256 in hexadecimal.
    Sha256, "^[0-9a-f]{64}$", "0000000000000000000000000000000000000000000000000000000000000000";
    /// Why somebody does something: 1 to 2000 bytes of plain text.
    Reason, r"^\s*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x08\x0b-\x1f\x7f-\x9f]{0,600}$", "as agreed with the sponsor";
    /// Name of a proposal.
    ProposalId, "^p-[0-9a-z]{12}$", "p-0123456789ab";
}

/// The header that makes a change safe to ask for again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub(crate) struct IdempotencyKey {
    /// The same key with the same request gives the first answer again, for 24 hours; with another request: 422.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 200,
        pattern = "^[ -~]+$"
    )]
    idempotency_key: Option<String>,
}

/// Defines shapes that are objects.
macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(ToSchema)]
            #[allow(dead_code)]
            pub(crate) struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*
    };
}

// Behind the macro, which they use.
mod audit;
mod platform;

objects! {
    /// Who does something.
    By {
        /// The name.
        name: String,
        /// The role.
        role: Role,
    }
    /// A second person's word.
    Approval {
        name: String,
        role: Role,
        reason: String,
        at_ms: Number,
    }
    /// To whom a grey version goes.
    Rollout {
        /// Share of users, in thousandths.
        users_per_mille: u16,
        /// Nodes on which it is the plan of everybody.
        nodes: Vec<u16>,
    }
    /// A grey version.
    GreyInfo {
        seq_no: Number,
        rollout: Rollout,
    }
    /// A campaign in a list.
    CampaignInfo {
        campaign: u32,
        /// Empty where its version does not compile.
        name: String,
        seq_no: Number,
        #[schema(required)]
        grey: Option<GreyInfo>,
        rounds: u64,
        state: Phase,
    }
    /// A page of campaigns.
    Campaigns {
        items: Vec<CampaignInfo>,
        #[schema(required)]
        next: Option<String>,
    }
    /// One difference.
    DiffEntry {
        /// Where: `prize:2/11.weight`.
        path: String,
        #[schema(required)]
        before: Option<String>,
        #[schema(required)]
        after: Option<String>,
        /// What it does; empty where before and after say it all.
        effect: String,
    }
    /// What a change would do.
    Preview {
        campaign: u32,
        /// The active version that it is held against; 0: there is none.
        base_seq_no: Number,
        diff: Vec<DiffEntry>,
        /// Differences that the list has no room for.
        diff_left_out: Number,
        /// The difference for people, the most important first.
        summary: Vec<String>,
        /// Prizes that will run out at another time than without the change.
        exhaustion: Vec<Exhaustion>,
        /// What is legal and looks like a slip.
        warnings: Vec<String>,
        /// Why it takes a second person; empty: one suffices.
        needs_two: Vec<String>,
    }
    /// How a change moves the end of a prize: an expectation, with more players than prizes.
    Exhaustion {
        round: u32,
        prize: u32,
        /// When its last unit would have been won; null: some would have been left over.
        #[schema(required)]
        before_ms: Option<Number>,
        /// When it will be.
        #[schema(required)]
        after_ms: Option<Number>,
        /// Both for people, in the campaign's zone.
        text: String,
    }
    /// What the platform did at once.
    Effect {
        #[schema(required)]
        prize: Option<PrizeAt>,
        what: String,
        /// The prize's budget now, as the ledger answered.
        #[schema(required)]
        effective_units: Option<Number>,
        /// Units that were taken away by this.
        #[schema(required)]
        taken: Option<Number>,
        done: bool,
    }
    /// The answer to a change.
    Change {
        state: ChangeState,
        campaign: u32,
        /// The version that it made, or that is in force unchanged.
        #[schema(required)]
        seq_no: Option<Number>,
        /// The proposal that waits, or that it settled.
        #[schema(required)]
        proposal: Option<ProposalId>,
        preview: Preview,
        effects: Vec<Effect>,
    }
    /// What a history shows of a version.
    VersionInfo {
        campaign: u32,
        seq_no: Number,
        /// The active SeqNo before it; 0 where there was none.
        after: Number,
        kind: Kind,
        /// The version that it took its contents from.
        #[schema(required)]
        of: Option<Number>,
        base_ms: Number,
        /// SHA-256 of the file.
        sha256: Sha256,
        author: String,
        role: Role,
        reason: String,
        at_ms: Number,
        #[schema(required)]
        proposal: Option<ProposalId>,
        approvals: Vec<Approval>,
        summary: Vec<String>,
        state: VersionState,
    }
    /// A page of the history.
    Versions {
        items: Vec<VersionInfo>,
        #[schema(required)]
        next: Option<String>,
    }
    /// A version with what it changes.
    VersionView {
        campaign: u32,
        seq_no: Number,
        after: Number,
        kind: Kind,
        #[schema(required)]
        of: Option<Number>,
        base_ms: Number,
        sha256: Sha256,
        author: String,
        role: Role,
        reason: String,
        at_ms: Number,
        #[schema(required)]
        proposal: Option<ProposalId>,
        approvals: Vec<Approval>,
        summary: Vec<String>,
        state: VersionState,
        adjustments: Adjustments,
        /// What it changes of the version that it was made after.
        diff: Vec<DiffEntry>,
        diff_left_out: Number,
    }
    /// What operators changed beside the file; what is empty is left out.
    Adjustments {
        #[schema(required = false)]
        paused: Vec<Target>,
        /// Of these, what it takes two people to resume.
        #[schema(required = false)]
        stopped: Vec<Target>,
        /// Units asked to be taken away, by prize.
        #[schema(required = false)]
        lowered: BTreeMap<String, Number>,
        /// By prize.
        #[schema(required = false)]
        weights: BTreeMap<String, u32>,
        /// By prize.
        #[schema(required = false)]
        speeds: BTreeMap<String, u32>,
        /// By vendor.
        #[schema(required = false)]
        vendor_speeds: BTreeMap<String, u32>,
    }
    /// How a proposal was settled.
    Decision {
        name: String,
        role: Role,
        reason: String,
        at_ms: Number,
        /// The SeqNo that it became.
        #[schema(required)]
        seq_no: Option<Number>,
    }
    /// A change that waits, or waited, for a second person.
    Proposal {
        id: ProposalId,
        campaign: u32,
        after: Number,
        edit: Edit,
        author: String,
        role: Role,
        reason: String,
        at_ms: Number,
        needs_two: Vec<String>,
        summary: Vec<String>,
        state: ProposalState,
        #[schema(required)]
        decision: Option<Decision>,
    }
    /// A page of proposals.
    Proposals {
        items: Vec<Proposal>,
        #[schema(required)]
        next: Option<String>,
    }
    /// What players are owed to be told.
    Disclosure {
        text_zh: String,
        text_en: String,
        rows: Vec<DisclosureRow>,
    }
    /// What is disclosed of a prize.
    DisclosureRow {
        /// Rounds that give out this, each so much.
        rounds: Vec<u32>,
        prize: u32,
        name: String,
        kind: String,
        units: Number,
        fen: Signed,
        min_fen: Signed,
        max_fen: Signed,
        weight: u32,
        /// Share of the pick, in percent.
        share: String,
        /// Regions that it can be won in; none: everywhere.
        regions: Vec<String>,
    }
}

/// Defines shapes that are words.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($word:ident,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(ToSchema)]
            #[schema(rename_all = "snake_case")]
            #[allow(dead_code)]
            pub(crate) enum $name { $($word,)* }
        )*
    };
}

words! {
    /// What a person may do; each may do what those before may.
    Role { Viewer, Operator, Approver, Admin, }
    /// Where a campaign is by its clock.
    Phase { Announced, Open, Between, Over, Broken, }
    /// What came of a change.
    ChangeState { Active, Waiting, Grey, Withdrawn, Rejected, Unchanged, DryRun, }
    /// What made a version.
    Kind { File, Rollback, Pause, Resume, Stop, Lower, Rate, Weight, Promote, Widen, }
    /// Where a version stands.
    VersionState { Reserved, Active, Grey, Withdrawn, Promoted, }
    /// Where a proposal stands.
    ProposalState { Waiting, Approved, Rejected, Superseded, }
}

/// A change as it was asked for.
#[derive(ToSchema, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(dead_code)]
pub(crate) enum Edit {
    /// Apply a file.
    File {
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Rollout>, nullable = false, required = false)]
        rollout: Option<()>,
    },
    /// Make an earlier version the present one again.
    Rollback {
        #[schema(value_type = Number)]
        to: String,
    },
    /// Pause.
    Pause {
        #[schema(value_type = Target)]
        target: String,
    },
    /// Go on.
    Resume {
        #[schema(value_type = Target)]
        target: String,
    },
    /// Stop.
    Stop {
        #[schema(value_type = Target)]
        target: String,
    },
    /// Take units away.
    Lower {
        #[schema(value_type = PrizeAt)]
        prize: String,
        #[schema(value_type = Number)]
        units: String,
    },
    /// Set a speed.
    Rate {
        #[schema(value_type = RateTarget)]
        target: String,
        per_second: u32,
    },
    /// Let the file's speed count again.
    RateOfFile {
        #[schema(value_type = RateTarget)]
        target: String,
    },
    /// Set a weight.
    Weight {
        #[schema(value_type = PrizeAt)]
        prize: String,
        weight: u32,
    },
    /// Make the grey version the plan of all.
    Promote,
}
