//! Rehearsals of campaign files.

use super::Refusals;
use crate::extract::{Fingerprint, LongJson, Number, Operator, Path, Viewer};
use crate::once::{Answer, Sought, once};
use crate::problem::Problem;
use crate::rehearsals::{
    ARRIVALS_MAX, Arrival, DISTRICTS_BYTES_MAX, PLAYERS_MAX, RehearsalRequest, RehearsalStatus, Rehearsals,
};
use crate::schema;
use crate::shared::Rooms;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use quota_config::FILE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The report runs its own script and style, and loads nothing.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                             frame-ancestors 'none'; sandbox allow-scripts";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rehearsal {
    /// The campaign file.
    source: String,
    /// Players in all.
    #[schema(value_type = schema::Number)]
    players: Number,
    /// When they come; rising.
    arrivals: Vec<Row>,
    /// Where they are: CSV with the header `district,players` (or `share`). Left out: nowhere that is known, so that prizes
    /// limited to regions are won by nobody.
    districts: Option<String>,
}

/// From here until the next row, so many come.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// From the first opening, ms, in text; may be before it.
    #[schema(pattern = "^-?[0-9]{1,15}$")]
    at_ms: String,
    /// Players or a share of them: a weight among all rows.
    #[schema(minimum = 0)]
    share: f64,
}

/// A rehearsal that was begun.
#[derive(Serialize, ToSchema)]
pub(crate) struct Begun {
    /// Its name.
    id: String,
}

impl Rehearsal {
    fn request(self) -> Result<RehearsalRequest, Problem> {
        if self.source.len() > FILE_BYTES_MAX {
            return Err(Problem::too_long(FILE_BYTES_MAX));
        }
        let players = self.players.0;
        if !(1..=PLAYERS_MAX).contains(&players) {
            return Err(Problem::refused(format!("players: {players} is not from 1 to {PLAYERS_MAX}")));
        }
        let rows = self.arrivals.len();
        if !(1..=ARRIVALS_MAX).contains(&rows) {
            return Err(Problem::refused(format!("arrivals: {rows} rows are not from 1 to {ARRIVALS_MAX}")));
        }
        let mut arrivals: Vec<Arrival> = Vec::with_capacity(rows);
        for (i, row) in self.arrivals.into_iter().enumerate() {
            let at_ms = row.at_ms.parse::<i64>().ok().filter(|at_ms| at_ms.unsigned_abs() < 1 << 50);
            let Some(at_ms) = at_ms else {
                let what = format!("arrivals[{i}].at_ms: this is no number of ms in text, such as \"60000\"");
                return Err(Problem::refused(what));
            };
            if !row.share.is_finite() || row.share < 0.0 {
                return Err(Problem::refused(format!("arrivals[{i}].share: write a number from 0 on")));
            }
            if arrivals.last().is_some_and(|last| last.at_ms >= at_ms) {
                return Err(Problem::refused(format!(
                    "arrivals[{i}].at_ms: times have to rise from row to row"
                )));
            }
            arrivals.push(Arrival { at_ms, share: row.share });
        }
        if arrivals.iter().all(|row| row.share == 0.0) {
            return Err(Problem::refused("arrivals: nobody comes; give a row a share above 0"));
        }
        if let Some(bytes) = self.districts.as_ref().map(String::len).filter(|n| *n > DISTRICTS_BYTES_MAX) {
            return Err(Problem::refused(format!(
                "districts: {bytes} bytes; at most {DISTRICTS_BYTES_MAX}: join small districts"
            )));
        }
        Ok(RehearsalRequest {
            source: self.source.into_bytes(),
            players,
            arrivals,
            districts: self.districts,
        })
    }
}

fn rehearsals(rooms: &Rooms) -> Result<&Rehearsals, Problem> {
    let none = || {
        Problem::not_found("this platform rehearses nothing; use `quotactl simulate` or `hongbao rehearse`")
    };
    rooms.rehearsals.as_ref().ok_or_else(none)
}

/// Puts a rehearsal into the queue.
#[utoipa::path(post, path = "/v1/rehearsals", tag = "rehearsals", params(schema::IdempotencyKey),
    request_body = Rehearsal, responses(
    (status = 202, description = "It waits or runs", body = Begun), Refusals
))]
pub(super) async fn start(
    State(rooms): State<Rooms>,
    Operator(by): Operator,
    body: LongJson<Rehearsal>,
) -> Result<Response, Problem> {
    let rehearsals = rehearsals(&rooms)?.clone();
    let LongJson { body, asked }: LongJson<Rehearsal> = body;
    let asked: Fingerprint = asked;
    let request = body.request()?;
    let who = by.clone();
    let work = async move {
        let id = rehearsals.start(request, &who)?;
        Answer::json(StatusCode::ACCEPTED, &Begun { id })
    };
    Ok(once(&rooms, &by, asked, Sought::Nothing, work).await)
}

/// How far a rehearsal is, and what came of it.
#[utoipa::path(get, path = "/v1/rehearsals/{id}", tag = "rehearsals", params(("id" = String, Path)), responses(
    (status = 200, description = "As it is now", body = RehearsalStatus), Refusals
))]
pub(super) async fn status(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Path(id): Path<String>,
) -> Result<axum::Json<RehearsalStatus>, Problem> {
    Ok(axum::Json(rehearsals(&rooms)?.status(&id)?))
}

/// The report of a rehearsal: one page with charts that needs nothing else.
#[utoipa::path(get, path = "/v1/rehearsals/{id}/report.html", tag = "rehearsals",
    params(("id" = String, Path)), responses(
    (status = 200, description = "The page", body = String, content_type = "text/html"), Refusals
))]
pub(super) async fn report(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let html = rehearsals(&rooms)?.report(&id)?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, REPORT_POLICY),
    ];
    Ok((headers, html).into_response())
}
