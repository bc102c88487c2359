//! Problem documents (RFC 9457): what the server says when it refuses.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use crate::failure::{FORBIDDEN, Failure, REFUSED, UNREACHABLE};
use crate::text::value::{Word, clean, line};

/// A problem document, with the errors of a campaign file that this API adds.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    title: String,
    detail: Option<String>,
    errors: Option<Vec<FileError>>,
}

/// One error of a campaign file, or one of its warnings.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct FileError {
    severity: String,
    line: Word,
    column: Word,
    path: String,
    what: String,
    cure: String,
}

impl FileError {
    /// The error as `validate` prints it: `FILE:12:5: error: rounds[0].open: what; cure`.
    pub fn text(&self, file: Option<&str>) -> String {
        let mut out = file.map_or(String::new(), |file| format!("{file}:"));
        if self.line.count() > 0 {
            out.push_str(&format!("{}:{}:", self.line, self.column));
        }
        if !out.is_empty() {
            out.push(' ');
        }
        let severity = if self.severity.is_empty() { "error" } else { &self.severity };
        out.push_str(&format!("{}: ", line(severity)));
        if !self.path.is_empty() {
            out.push_str(&format!("{}: ", line(&self.path)));
        }
        out.push_str(&line(&self.what));
        if !self.cure.is_empty() {
            out.push_str(&format!("; {}", line(&self.cure)));
        }
        out
    }
}

/// An answer that is none of success, as the end of a command. `file`: the campaign file that was sent.
pub fn failure(status: StatusCode, body: Bytes, what: &str, file: Option<&str>) -> Failure {
    let code = match status.as_u16() {
        401 | 403 => FORBIDDEN,
        502..=504 => UNREACHABLE,
        _ => REFUSED,
    };
    let text = match serde_json::from_slice::<Document>(&body) {
        Ok(document) if !document.title.is_empty() => document.text(status, what, file),
        _ => format!(
            "{what}: {status}, and no problem document with it; is this the admin API? (--server, or the profile's server)"
        ),
    };
    Failure::Problem { code, text, body }
}

impl Document {
    fn text(&self, status: StatusCode, what: &str, file: Option<&str>) -> String {
        let mut out = match self.detail.as_deref().filter(|detail| !detail.is_empty()) {
            Some(detail) => format!("{}: {}", line(&self.title), clean(detail)),
            None => line(&self.title),
        };
        out.push_str(&format!(" ({what}: {})", status.as_u16()));
        match status.as_u16() {
            401 => out.push_str("; give a token that the server knows: `quotactl login`, or HONGBAO_TOKEN"),
            403 => out.push_str("; `quotactl whoami` tells your role"),
            _ => {}
        }
        for error in self.errors.iter().flatten() {
            out.push('\n');
            out.push_str(&error.text(file));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_file_are_listed_with_their_places() {
        let body = r#"{"type":"about:blank","title":"The campaign file is wrong","status":422,"detail":"2 errors",
            "errors":[{"line":3,"column":7,"path":"rounds[0]","what":"a","cure":"b"},{"what":"c","cure":""}]}"#;
        let failure =
            failure(StatusCode::UNPROCESSABLE_ENTITY, body.into(), "POST /v1/campaigns", Some("f.yaml"));
        assert_eq!(failure.code(), REFUSED);
        assert_eq!(
            failure.to_string(),
            "The campaign file is wrong: 2 errors (POST /v1/campaigns: 422)\nf.yaml:3:7: error: rounds[0]: a; \
             b\nf.yaml: error: c"
        );
    }

    #[test]
    fn statuses_have_their_codes() {
        let code =
            |status: u16| failure(StatusCode::from_u16(status).unwrap(), Bytes::new(), "GET /", None).code();
        assert_eq!([401, 403, 404, 409, 500, 503].map(code), [4, 4, 1, 1, 1, 3]);
    }
}
