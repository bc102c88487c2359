//! Problem documents (RFC 9457): what every refusal looks like, and which status each reason has.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use quota_config::{DeskError, OperationError, Problems, RepositoryError, Severity};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// The content type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem: `urn:hongbao:problem:` and a word.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(value_type = String, example = "urn:hongbao:problem:not-found")]
    pub kind: &'static str,
    /// The kind in words.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, and what would be right.
    pub detail: String,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Places in the body or the file that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Place>,
    /// When to come back, seconds.
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
    /// It may go well the next time, so the answer is not remembered under an idempotency key.
    #[serde(skip)]
    pub passing: bool,
}

fn urn<S: Serializer>(word: &&'static str, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("urn:hongbao:problem:{word}"))
}

/// A place that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Place {
    /// `error` or `warning`.
    pub severity: &'static str,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Where in the document: `rounds[1].prizes[0].units`; empty for the document itself.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub cure: String,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            instance: None,
            errors: Vec::new(),
            retry_after_s: None,
            passing: false,
        }
    }

    /// With places that are wrong.
    pub fn at(mut self, errors: Vec<Place>) -> Problem {
        self.errors = errors;
        self
    }

    /// One that may be gone after some seconds.
    pub fn again_after(mut self, seconds: u32) -> Problem {
        self.retry_after_s = Some(seconds);
        self.passing = true;
        self
    }

    /// 400: the request can't be read.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed", "The request can't be read", detail)
    }

    /// 401: no token, or one that nobody has.
    pub fn stranger(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "no-token", "A valid token is needed", detail)
    }

    /// 403: the person may not.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "not-allowed", "Not allowed", detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// 409: what is contradicts it.
    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", "What is there stands against it", detail)
    }

    /// 413: the body is too long.
    pub fn too_long(most: usize) -> Problem {
        let detail = format!("the body is longer than the {most} bytes that it may have here");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", "The body is too long", detail)
    }

    /// 415: the body is of a kind that is not read here.
    pub fn media_type(found: Option<&str>, wanted: &str) -> Problem {
        let found =
            found.map_or("the request names no content type".into(), |f| format!("`{f}` is not read here"));
        let detail = format!("{found}; send `Content-Type: {wanted}`");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Not this kind of body", detail)
    }

    /// 422: it can be read, and can't be done as it stands.
    pub fn refused(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "Refused", detail)
    }

    /// 422: the campaign file is wrong.
    pub fn file(problems: &Problems) -> Problem {
        let errors = problems.0.iter().filter(|p| p.severity == Severity::Error).count();
        let detail = match errors {
            1 => "1 error in the campaign file".to_string(),
            n => format!("{n} errors in the campaign file"),
        };
        let (status, title) = (StatusCode::UNPROCESSABLE_ENTITY, "The campaign file is wrong");
        Problem::new(status, "invalid-file", title, detail).at(places(&problems.0))
    }

    /// 429: too many of them.
    pub fn too_many(detail: impl Into<String>, after_s: u32) -> Problem {
        let (status, title) = (StatusCode::TOO_MANY_REQUESTS, "Too many requests");
        Problem::new(status, "too-many", title, detail).again_after(after_s)
    }

    /// 500: this program, or what it has stored, is at fault.
    pub fn internal(detail: impl Into<String>) -> Problem {
        let (status, title) = (StatusCode::INTERNAL_SERVER_ERROR, "The server is at fault");
        let mut problem = Problem::new(status, "internal", title, detail);
        problem.passing = true;
        problem
    }

    /// 503: something behind this server does not answer, or it has its hands full.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "Not now");
        Problem::new(status, "unavailable", title, detail).again_after(1)
    }

    /// The document.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_| unreachable!("texts and numbers are JSON"))
    }
}

/// What a compiler found, as places.
pub fn places(problems: &[quota_config::Problem]) -> Vec<Place> {
    let place = |p: &quota_config::Problem| Place {
        severity: if p.severity == Severity::Error { "error" } else { "warning" },
        line: p.mark.line,
        column: p.mark.column,
        path: p.path.clone(),
        what: p.what.clone(),
        cure: p.cure.clone(),
    };
    problems.iter().map(place).collect()
}

/// The document as an answer. It also goes along unwritten, for whoever adds the path that was asked for.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"hongbao\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Problem {
        let detail = error.to_string();
        match error {
            DeskError::File(problems) => Problem::file(&problems),
            DeskError::Stored { campaign, seq_no, problems } => {
                tracing::error!(%campaign, %seq_no, %problems, "a stored version does not compile");
                let detail = format!("campaign {campaign}, SeqNo {seq_no} does not compile any more");
                Problem::internal(detail).at(places(&problems.0))
            }
            DeskError::NoCampaign(_) | DeskError::NoTarget { .. } => Problem::not_found(detail),
            DeskError::Refused(_) => Problem::refused(detail),
            DeskError::NotPaused { .. } | DeskError::Superseded { .. } | DeskError::Decided { .. } => {
                Problem::conflict(detail)
            }
            DeskError::NotAllowed { .. } | DeskError::SamePerson(_) => Problem::forbidden(detail),
            DeskError::Contended(_) => Problem::conflict(detail).again_after(1),
            DeskError::Operation { error, .. } | DeskError::Platform(error) => platform(&error, detail),
            DeskError::Repository(error) => error.into(),
        }
    }
}

fn platform(error: &OperationError, detail: String) -> Problem {
    match error {
        OperationError::Newer(_) => Problem::conflict(detail).again_after(1),
        OperationError::Unknown(_) => Problem::conflict(detail).again_after(2),
        OperationError::Failed(_) => Problem::unavailable(detail),
    }
}

impl From<RepositoryError> for Problem {
    fn from(error: RepositoryError) -> Problem {
        let detail = error.to_string();
        match error {
            RepositoryError::NotFound { .. } | RepositoryError::NoProposal(_) => Problem::not_found(detail),
            RepositoryError::Superseded { .. }
            | RepositoryError::GreyOut { .. }
            | RepositoryError::NotGrey { .. }
            | RepositoryError::Unfit { .. }
            | RepositoryError::Decided { .. } => Problem::conflict(detail),
            RepositoryError::Draft(_) => Problem::refused(detail),
            RepositoryError::Damaged { .. }
            | RepositoryError::DamagedProposal { .. }
            | RepositoryError::AuditRow { .. } => {
                tracing::error!(%detail, "the repository is damaged");
                Problem::internal(detail)
            }
            RepositoryError::Sql(_) => {
                // What a database says may hold names of hosts and files: that is for the log.
                tracing::error!(%detail, "the repository does not answer");
                Problem::unavailable("the repository does not answer")
            }
        }
    }
}
