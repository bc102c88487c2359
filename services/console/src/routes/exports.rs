//! Lists of awards for authorities.

use super::Refusals;
use super::campaigns::compiled;
use crate::exports::{List, export};
use crate::extract::{Operator, Path, Query, campaign};
use crate::problem::Problem;
use crate::shared::Rooms;
use axum::extract::State;
use axum::response::Response;
use campaign::Fen;
use quota_config::CN_WINNERS_ABOVE;
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Above {
    /// Winners of more than this, in fen.
    #[param(minimum = 0, default = 50000)]
    min_fen: Option<i64>,
}

/// Winners of more than an amount, as CSV (RFC 4180).
#[utoipa::path(get, path = "/v1/campaigns/{campaign}/winners.csv", tag = "compliance",
    params(("campaign" = u32, Path), Above), responses(
    (status = 200, description = "By award", body = String, content_type = "text/csv"), Refusals
))]
pub(super) async fn winners(
    State(rooms): State<Rooms>,
    Operator(_): Operator,
    Path(number): Path<u32>,
    Query(above): Query<Above>,
) -> Result<Response, Problem> {
    let above = above.min_fen.map_or(CN_WINNERS_ABOVE, Fen);
    if above < Fen::ZERO {
        return Err(Problem::malformed("min_fen: write an amount of fen from 0 on"));
    }
    list(&rooms, number, List::Winners(above)).await
}

/// What each user was paid in cash and the tax on it, as CSV (RFC 4180).
#[utoipa::path(get, path = "/v1/campaigns/{campaign}/tax.csv", tag = "compliance",
    params(("campaign" = u32, Path)), responses(
    (status = 200, description = "By user", body = String, content_type = "text/csv"), Refusals
))]
pub(super) async fn tax(
    State(rooms): State<Rooms>,
    Operator(_): Operator,
    Path(number): Path<u32>,
) -> Result<Response, Problem> {
    list(&rooms, number, List::Tax).await
}

async fn list(rooms: &Rooms, number: u32, list: List) -> Result<Response, Problem> {
    let compiled = {
        let _turn = rooms.heavy().await?;
        compiled(rooms, campaign(number)).await?
    };
    export(rooms, list, &compiled.plan, compiled.stated).await
}
