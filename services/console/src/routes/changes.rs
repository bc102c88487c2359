//! Changes beside the file: rollback, pause, resume, stop, lower, speeds, weights, the end of a grey version.

use super::Refusals;
use crate::extract::{Dry, Fingerprint, Json, Number, NumberOrWord, Operator, Path, Query, Reason, campaign};
use crate::once::{Answer, Sought, once};
use crate::problem::Problem;
use crate::schema;
use crate::shared::Rooms;
use axum::extract::State;
use axum::response::Response;
use campaign::CampaignId;
use quota_config::{By, Change, ChangeState, DeskError, Edit, Preview, PrizeAt, RateTarget, Target};
use serde::Deserialize;
use utoipa::ToSchema;

/// A change of a campaign that stands in the path.
struct Ask {
    rooms: Rooms,
    by: By,
    campaign: CampaignId,
    dry: bool,
    asked: Fingerprint,
    reason: String,
}

impl Ask {
    /// Makes an edit, or says what it would do.
    async fn edit(self, edit: Edit) -> Result<Response, Problem> {
        let Ask { rooms, by, campaign, dry, asked, reason } = self;
        // Brakes wait for nobody.
        let turn = match edit {
            Edit::Pause { .. } | Edit::Stop { .. } | Edit::Lower { .. } => None,
            _ => Some(rooms.heavy().await?),
        };
        if dry {
            return Ok(Answer::change(rooms.desk.dry_run(campaign, &edit, &by).await?)?.into_response());
        }
        let sought = Sought::Edit {
            campaign: Some(campaign),
            edit: edit.clone(),
            sha256: None,
            reason: reason.clone(),
        };
        let (desk, who) = (rooms.desk.clone(), by.clone());
        let work = async move {
            let _turn = turn;
            let reason = reason.as_str();
            let by = &who;
            let change = match edit {
                Edit::Rollback { to } => desk.rollback(campaign, to, by, reason).await?,
                Edit::Pause { target } => desk.pause(campaign, target, by, reason).await?,
                Edit::Resume { target } => desk.resume(campaign, target, by, reason).await?,
                Edit::Stop { target } => desk.stop(campaign, target, by, reason).await?,
                Edit::Lower { prize, units } => desk.lower(campaign, prize, units, by, reason).await?,
                Edit::Rate { target, per_second } => {
                    desk.set_rate(campaign, target, per_second, by, reason).await?
                }
                Edit::RateOfFile { target } => desk.rate_of_file(campaign, target, by, reason).await?,
                Edit::Weight { prize, weight } => {
                    desk.set_weight(campaign, prize, weight, by, reason).await?
                }
                Edit::Promote => desk.promote(campaign, by, reason).await?,
                Edit::File { .. } => return Err(Problem::internal("a file came where none is taken")),
            };
            Answer::change(change)
        };
        Ok(once(&rooms, &by, asked, sought, work).await)
    }
}

/// Defines a route of a change: its body, and the edit that it makes.
macro_rules! change {
    ($(#[$doc:meta])* $name:ident, $path:literal, $body:ty, |$read:ident| $edit:expr) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "changes",
            params(("campaign" = u32, Path), Dry, schema::IdempotencyKey), request_body = $body, responses(
            (status = 200, description = "It is so already, or a dry run", body = schema::Change),
            (status = 201, description = "In force", body = schema::Change),
            (status = 202, description = "It waits for a second person", body = schema::Change), Refusals
        ))]
        pub(super) async fn $name(
            State(rooms): State<Rooms>,
            Operator(by): Operator,
            Path(number): Path<u32>,
            Query(dry): Query<Dry>,
            Json { body: $read, asked }: Json<$body>,
        ) -> Result<Response, Problem> {
            let edit = $edit;
            let (campaign, dry, reason) = (campaign(number), dry.dry_run, $read.reason.0);
            Ask { rooms, by, campaign, dry, asked, reason }.edit(edit).await
        }
    };
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Back {
    /// The SeqNo to go back to.
    #[schema(value_type = schema::Number)]
    to: Number,
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// `campaign`, `round:2`, `vendor:3` or `prize:2/11`.
    #[schema(value_type = schema::Target)]
    target: Target,
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Less {
    /// Which prize: `ROUND/PRIZE`.
    #[schema(value_type = schema::PrizeAt)]
    prize: PrizeAt,
    /// Units to take away.
    #[schema(value_type = schema::Number)]
    units: Number,
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    /// `vendor:3` or `prize:2/11`.
    #[schema(value_type = schema::RateTarget)]
    target: RateTarget,
    /// Units a second from 1 on; `none`: no limit; `file`: what the file says. Nothing at all is a pause.
    #[schema(value_type = schema::Speed)]
    per_second: Speed,
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

/// A release speed. 0 is neither: who writes it may mean a stop, or no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speed {
    PerSecond(u32),
    NoLimit,
    OfFile,
}

impl Speed {
    fn edit(self, target: RateTarget) -> Edit {
        match self {
            Speed::PerSecond(per_second) => Edit::Rate { target, per_second },
            Speed::NoLimit => Edit::Rate { target, per_second: 0 },
            Speed::OfFile => Edit::RateOfFile { target },
        }
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Speed, D::Error> {
        match NumberOrWord::deserialize(d) {
            Ok(NumberOrWord::Number(n)) if n > 0 => Ok(Speed::PerSecond(n)),
            Ok(NumberOrWord::Word(word)) if word == "none" => Ok(Speed::NoLimit),
            Ok(NumberOrWord::Word(word)) if word == "file" => Ok(Speed::OfFile),
            _ => Err(serde::de::Error::custom(
                "per_second: write a number from 1 on, \"none\" for no limit, or \"file\" for what the file says; \
                 to give out nothing, pause",
            )),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Weight {
    /// Which prize: `ROUND/PRIZE`.
    #[schema(value_type = schema::PrizeAt)]
    prize: PrizeAt,
    /// Weight of the pick.
    weight: u32,
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

change!(
    /// Makes an earlier version the present one again, under a new SeqNo.
    rollback, "/v1/campaigns/{campaign}/rollback", Back, |body| Edit::Rollback { to: body.to.seq_no() }
);
change!(
    /// Has a target give out nothing until it is resumed. Never waits for a second person.
    pause, "/v1/campaigns/{campaign}/pause", Switch, |body| Edit::Pause { target: body.target }
);
change!(
    /// Lets a target go on; what was stopped waits for a second person.
    resume, "/v1/campaigns/{campaign}/resume", Switch, |body| Edit::Resume { target: body.target }
);
change!(
    /// As a pause, but it takes two people to go on.
    stop, "/v1/campaigns/{campaign}/stop", Switch, |body| Edit::Stop { target: body.target }
);
change!(
    /// Takes units of a prize away, never those that are granted; the effect is the ledger's answer.
    lower, "/v1/campaigns/{campaign}/lower", Less, |body| Edit::Lower { prize: body.prize, units: body.units.0 }
);
change!(
    /// Sets the release speed of a prize or vendor, until the next file.
    rate, "/v1/campaigns/{campaign}/rate", Rate,
    |body| body.per_second.edit(body.target)
);
change!(
    /// Sets the weight of a prize, until the next file.
    weight, "/v1/campaigns/{campaign}/weight", Weight,
    |body| Edit::Weight { prize: body.prize, weight: body.weight }
);
change!(
    /// Makes the grey version the plan of all, under a new SeqNo.
    promote, "/v1/campaigns/{campaign}/grey/promote", Why, |body| Edit::Promote
);

/// Takes the grey version back.
#[utoipa::path(post, path = "/v1/campaigns/{campaign}/grey/withdraw", tag = "changes",
    params(("campaign" = u32, Path), Dry, schema::IdempotencyKey), request_body = Why, responses(
    (status = 200, description = "It is withdrawn, or a dry run", body = schema::Change), Refusals
))]
pub(super) async fn withdraw(
    State(rooms): State<Rooms>,
    Operator(by): Operator,
    Path(number): Path<u32>,
    Query(dry): Query<Dry>,
    Json { body, asked }: Json<Why>,
) -> Result<Response, Problem> {
    let campaign = campaign(number);
    if dry.dry_run {
        let grey = rooms.desk.grey_out(campaign).await?;
        let none = || DeskError::Refused(format!("campaign {campaign} has no grey version out"));
        let grey = grey.ok_or_else(none)?;
        let base = rooms.desk.repository().newest(campaign).await?;
        let base_seq_no = base.map_or(campaign::SeqNo(0), |v| v.info.seq_no);
        let what = format!("grey SeqNo {} would no longer go to {}", grey.seq_no, grey.rollout);
        let preview = Preview::of(campaign, base_seq_no, vec![what]);
        let (state, seq_no) = (ChangeState::DryRun, Some(grey.seq_no));
        let change = Change { state, campaign, seq_no, proposal: None, preview, effects: Vec::new() };
        return Ok(Answer::change(change)?.into_response());
    }
    let (desk, who) = (rooms.desk.clone(), by.clone());
    let work = async move { Answer::change(desk.withdraw(campaign, &who, &body.reason.0).await?) };
    Ok(once(&rooms, &by, asked, Sought::Withdrawal(campaign), work).await)
}
