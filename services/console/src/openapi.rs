//! The OpenAPI document, made from the routes.

use crate::routes;
use std::sync::OnceLock;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hongbao admin API",
        version = "1",
        description = "Plan, approve, change live, roll back. Numbers of 64 bits are texts; times are ms UTC; money is \
                       fen. Every refusal is a problem document (RFC 9457)."
    ),
    security(("token" = [])),
    components(schemas(crate::problem::Problem)),
    modifiers(&Token),
    tags(
        (name = "platform", description = "The platform"),
        (name = "files", description = "Campaign files"),
        (name = "campaigns", description = "What runs, and the history"),
        (name = "changes", description = "Changes beside the file"),
        (name = "proposals", description = "What waits for a second person"),
        (name = "audit", description = "The audit trail"),
        (name = "compliance", description = "What authorities and players are owed"),
        (name = "rehearsals", description = "Rehearsals"),
    )
)]
struct Head;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An operator's token, `hbo_` and 64 hex digits"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document of this build, as `docs/openapi.json` has it.
pub fn document() -> Document {
    let mut document = Head::openapi();
    document.merge(routes::all().into_openapi());
    document
}

/// Its text.
pub(crate) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = document().to_pretty_json().unwrap_or_else(|_| unreachable!("the document is JSON"));
        text.push('\n');
        text
    })
}
