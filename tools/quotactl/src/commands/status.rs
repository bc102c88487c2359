//! `status`: how everything stands, once.

use serde_json::Value;

use crate::api::Ask;
use crate::failure::{Failure, OK};
use crate::text::paint::{Paint, Style};
use crate::watch::board::Board;
use crate::watch::status::Platform;
use crate::watch::tables;

use super::Context;

/// `status`.
pub async fn run(context: &Context) -> Result<u8, Failure> {
    context.look(&Ask::get("/v1/status"), |value, paint| Ok(lines(value, paint))).await?;
    Ok(OK)
}

fn lines(value: &Value, paint: Paint) -> Vec<String> {
    let platform = Platform::read(value);
    let mut out = Vec::new();
    let sections = [
        ("no nodes", platform.nodes.is_empty(), tables::nodes(&platform)),
        ("no prizes", platform.prizes.is_empty(), tables::prizes(&platform, None)),
        ("no vendors", platform.vendors.is_empty(), tables::vendors(&platform)),
    ];
    for (none, is_empty, table) in sections {
        match is_empty {
            true => out.push(none.to_owned()),
            false => out.extend(table.lines(paint)),
        }
        out.push(String::new());
    }
    let mut board = Board::default();
    board.answered(0, platform);
    let alarms = board.alarms();
    match alarms.is_empty() {
        true => out.push(paint.style(Style::Good, "no alarms")),
        false => out.extend(alarms.iter().map(|alarm| paint.style(Style::Bad, &format!("! {alarm}")))),
    }
    out
}
