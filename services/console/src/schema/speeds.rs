//! Shapes of speeds: a number, or a word where a number would be misread.

use utoipa::ToSchema;

/// A release speed: units a second, `none` for no limit, `file` for what the file says.
#[derive(ToSchema, serde::Serialize)]
#[serde(untagged)]
#[allow(dead_code)]
pub(crate) enum Speed {
    /// Units a second, from 1 on.
    Number(u32),
    /// In a word.
    Word(SpeedWord),
}

/// Delivery's pace towards a vendor: sends a second (0: none), or `configured`.
#[derive(ToSchema, serde::Serialize)]
#[serde(untagged)]
#[allow(dead_code)]
pub(crate) enum Pace {
    /// Sends a second.
    Number(u32),
    /// In a word.
    Word(PaceWord),
}

/// A speed in a word.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)]
pub(crate) enum SpeedWord {
    None,
    File,
}

/// A pace in a word.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)]
pub(crate) enum PaceWord {
    Configured,
}
