//! The platform: whether it lives, who one is, how everything stands, delivery's pace.

use super::Refusals;
use crate::extract::{Dry, Json, NumberOrWord, Operator, Path, Query, Reason, Viewer};
use crate::once::{Answer, Sought, once};
use crate::openapi;
use crate::problem::Problem;
use crate::schema;
use crate::shared::Rooms;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use campaign::VendorId;
use http::{StatusCode, header};
use quota_config::{By, DeskError, PlatformStatus, VendorLimit};
use serde::Deserialize;
use utoipa::ToSchema;

/// Whether the server answers. Needs no token.
#[utoipa::path(get, path = "/healthz", tag = "platform", security(()), responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain")
))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// This document. Needs no token.
#[utoipa::path(get, path = "/openapi.json", tag = "platform", security(()), responses(
    (status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")
))]
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::text()).into_response()
}

/// Whose token this is.
#[utoipa::path(get, path = "/v1/whoami", tag = "platform", responses(
    (status = 200, description = "Name and role", body = schema::By), Refusals
))]
pub(super) async fn whoami(Viewer(by): Viewer) -> axum::Json<By> {
    axum::Json(by)
}

/// How nodes, prizes and vendors stand.
#[utoipa::path(get, path = "/v1/status", tag = "platform", responses(
    (status = 200, description = "As it is now", body = schema::PlatformStatus), Refusals
))]
pub(super) async fn status(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
) -> Result<axum::Json<PlatformStatus>, Problem> {
    Ok(axum::Json(rooms.desk.status().await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Sends a second at most, 0: none; `configured`: as many as the platform is configured to.
    #[schema(value_type = schema::Pace)]
    per_second: Pace,
    /// Why.
    #[schema(value_type = schema::Reason)]
    reason: Reason,
}

/// A pace. Nothing to be left out, and 0 is what it looks like: nothing is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace(Option<u32>);

impl<'de> Deserialize<'de> for Pace {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Pace, D::Error> {
        match NumberOrWord::deserialize(d) {
            Ok(NumberOrWord::Number(n)) => Ok(Pace(Some(n))),
            Ok(NumberOrWord::Word(word)) if word == "configured" => Ok(Pace(None)),
            _ => Err(serde::de::Error::custom(
                "per_second: write a number (0: nothing is sent), or \"configured\" for the pace that the platform is \
                 configured to",
            )),
        }
    }
}

/// Sets delivery's own pace towards a vendor.
#[utoipa::path(post, path = "/v1/vendors/{vendor}/limit", tag = "platform",
    params(("vendor" = u32, Path), Dry, schema::IdempotencyKey), request_body = Limit, responses(
    (status = 200, description = "The pace", body = schema::VendorLimit), Refusals
))]
pub(super) async fn vendor_limit(
    State(rooms): State<Rooms>,
    Operator(by): Operator,
    Path(vendor): Path<u32>,
    Query(dry): Query<Dry>,
    Json { body, asked }: Json<Limit>,
) -> Result<Response, Problem> {
    let (vendor, per_second) = (VendorId(vendor), body.per_second.0);
    if dry.dry_run {
        let status = rooms.desk.status().await?;
        if !status.vendors.iter().any(|v| v.vendor == vendor) {
            return Err(DeskError::Refused(format!("delivery knows no vendor {vendor}")).into());
        }
        return Ok(axum::Json(VendorLimit { vendor, per_second }).into_response());
    }
    let (desk, who) = (rooms.desk.clone(), by.clone());
    let work = async move {
        let limit = desk.set_vendor_limit(vendor, per_second, &who, &body.reason.0).await?;
        Answer::json(StatusCode::OK, &limit)
    };
    Ok(once(&rooms, &by, asked, Sought::Nothing, work).await)
}
