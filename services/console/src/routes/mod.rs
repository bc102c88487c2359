//! The routes: HTTP around the desk.

mod audit;
mod campaigns;
mod changes;
mod exports;
mod files;
mod platform;
mod proposals;
mod rehearsals;

use crate::shared::Rooms;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// All routes with what the document says of them.
pub(crate) fn all() -> OpenApiRouter<Rooms> {
    OpenApiRouter::new()
        .routes(routes!(platform::healthz))
        .routes(routes!(platform::openapi))
        .routes(routes!(platform::whoami))
        .routes(routes!(platform::status))
        .routes(routes!(platform::vendor_limit))
        .routes(routes!(files::validate))
        .routes(routes!(files::plan))
        .routes(routes!(campaigns::list, files::apply))
        .routes(routes!(campaigns::one))
        .routes(routes!(campaigns::versions))
        .routes(routes!(campaigns::version))
        .routes(routes!(campaigns::disclosure))
        .routes(routes!(changes::rollback))
        .routes(routes!(changes::pause))
        .routes(routes!(changes::resume))
        .routes(routes!(changes::stop))
        .routes(routes!(changes::lower))
        .routes(routes!(changes::rate))
        .routes(routes!(changes::weight))
        .routes(routes!(changes::promote))
        .routes(routes!(changes::withdraw))
        .routes(routes!(proposals::list))
        .routes(routes!(proposals::one))
        .routes(routes!(proposals::approve))
        .routes(routes!(proposals::reject))
        .routes(routes!(audit::rows))
        .routes(routes!(audit::verify))
        .routes(routes!(exports::winners))
        .routes(routes!(exports::tax))
        .routes(routes!(rehearsals::start))
        .routes(routes!(rehearsals::status))
        .routes(routes!(rehearsals::report))
}

/// A page of a list.
#[derive(Serialize)]
pub(crate) struct Listed<T> {
    /// What is on it.
    items: Vec<T>,
    /// What to give as `after` for the next page; nothing: this was the last.
    next: Option<String>,
}

impl<T> Listed<T> {
    /// A page of at most `limit` of the items, which has one more where there are more.
    fn of(mut items: Vec<T>, limit: usize, name: impl Fn(&T) -> String) -> Listed<T> {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(name);
        Listed { items, next }
    }
}

/// Problems that any route may answer, for the document.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code)] // speaks to the document only
pub(crate) enum Refusals {
    /// The request can't be read: its path, query or body.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(crate::problem::Problem),
    /// No valid token.
    #[response(status = 401, content_type = "application/problem+json")]
    Stranger(crate::problem::Problem),
    /// The role does not suffice.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(crate::problem::Problem),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(crate::problem::Problem),
    /// What is there stands against it.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(crate::problem::Problem),
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLong(crate::problem::Problem),
    /// Not this kind of body.
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(crate::problem::Problem),
    /// It can be read and is refused: a wrong file, a reused key, something that can't be.
    #[response(status = 422, content_type = "application/problem+json")]
    Refused(crate::problem::Problem),
    /// Too many requests; `Retry-After` says when to come back.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(crate::problem::Problem),
    /// Something behind the server does not answer; `Retry-After` says when to come back.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(crate::problem::Problem),
}
