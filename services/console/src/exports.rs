//! Lists of awards for authorities: read page by page, written as they come.
//!
//! The port [`AwardExport`] gives pages of awards; rows become CSV in `quota-config`. At most one page and its text are
//! in memory. A list that breaks off ends the connection in the middle of its body, so that half of it is never taken
//! for the whole.

use crate::problem::Problem;
use crate::shared::Rooms;
use async_trait::async_trait;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use campaign::{AwardId, CampaignId, Fen, Plan, UserId};
use futures_util::stream;
use http::{HeaderValue, header};
use quota_config::{AwardRow, Stated, TaxCsv, WinnersCsv};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Awards of a campaign, for lists. [`AwardRow::value`] may be left out: the console adds what the file states.
#[async_trait]
pub trait AwardExport: Send + Sync {
    /// Awards behind `after` in the order of their ids, at most `limit`. Fewer than `limit`: these were the last.
    async fn by_award(
        &self,
        campaign: CampaignId,
        after: Option<AwardId>,
        limit: usize,
    ) -> Result<Vec<AwardRow>, AwardError>;

    /// Awards behind `after` in the order of users, and of ids within a user; at most `limit`. Fewer than `limit`:
    /// these were the last.
    async fn by_user(
        &self,
        campaign: CampaignId,
        after: Option<(UserId, AwardId)>,
        limit: usize,
    ) -> Result<Vec<AwardRow>, AwardError>;
}

/// Awards can't be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("awards can't be read: {0}")]
pub struct AwardError(pub String);

/// Which list.
pub(crate) enum List {
    /// Winners of more than an amount.
    Winners(Fen),
    /// Tax by user.
    Tax,
}

/// A list under way.
struct Export {
    shared: Rooms,
    campaign: CampaignId,
    stated: Stated,
    writer: Writer,
    after: Option<(UserId, AwardId)>,
    first: Option<Vec<AwardRow>>,
    done: bool,
    _turn: OwnedSemaphorePermit,
}

enum Writer {
    Winners(WinnersCsv),
    Tax(Option<TaxCsv>),
}

/// The list as an answer. Its first page is read before the answer begins, so that what stands against it is still
/// said in words.
pub(crate) async fn export(
    shared: &Rooms,
    list: List,
    plan: &Plan,
    stated: Stated,
) -> Result<Response, Problem> {
    let turn = shared.export()?;
    let campaign = plan.campaign;
    let (writer, header, name) = match list {
        List::Winners(above) => {
            (Writer::Winners(WinnersCsv::new(above, plan)), WinnersCsv::HEADER, "winners")
        }
        List::Tax => (Writer::Tax(Some(TaxCsv::default())), TaxCsv::HEADER, "tax"),
    };
    let mut export = Export {
        shared: Rooms::clone(shared),
        campaign,
        stated,
        writer,
        after: None,
        first: None,
        done: false,
        _turn: turn,
    };
    let first = export.page().await.map_err(|error| {
        tracing::error!(%error, "an export can't begin");
        Problem::unavailable("awards can't be read now")
    })?;
    export.first = Some(first);
    let head = stream::once(async move { Ok::<_, AwardError>(Bytes::from_static(header.as_bytes())) });
    let body = stream::try_unfold(export, |mut export| async move {
        let bytes =
            export.next().await.inspect_err(|error| tracing::error!(%error, "an export broke off"))?;
        Ok::<_, AwardError>(bytes.map(|bytes| (bytes, export)))
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(head, body));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    let file = format!("attachment; filename=\"{name}-{campaign}.csv\"");
    if let Ok(value) = HeaderValue::try_from(file) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

impl Export {
    /// Text of the next page that has any; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, AwardError> {
        while !self.done {
            let rows = match self.first.take() {
                Some(rows) => rows,
                None => self.page().await?,
            };
            self.done = rows.len() < self.shared.config.export_page;
            let mut text = Vec::with_capacity(rows.len() * 64);
            for mut row in rows {
                self.after = Some((row.user, row.award));
                let stated = self.stated.values.get(&(row.round, row.prize)).copied();
                row.value = row.value.or(stated);
                self.write(&row, &mut text)?;
            }
            if self.done {
                self.end(&mut text)?;
            }
            if !text.is_empty() {
                return Ok(Some(text.into()));
            }
        }
        Ok(None)
    }

    fn write(&mut self, row: &AwardRow, text: &mut Vec<u8>) -> Result<(), AwardError> {
        match &mut self.writer {
            Writer::Winners(list) => {
                list.row(row, text).map_err(|e| AwardError(e.to_string()))?;
                Ok(())
            }
            Writer::Tax(Some(list)) => list.row(row, text).map_err(|e| AwardError(e.to_string())),
            Writer::Tax(None) => Ok(()),
        }
    }

    fn end(&mut self, text: &mut Vec<u8>) -> Result<(), AwardError> {
        if let Writer::Tax(list) = &mut self.writer
            && let Some(list) = list.take()
        {
            list.finish(text).map_err(|e| AwardError(e.to_string()))?;
        }
        Ok(())
    }

    async fn page(&self) -> Result<Vec<AwardRow>, AwardError> {
        let (awards, config) = (&self.shared.awards, &self.shared.config);
        let reading = async {
            match self.writer {
                Writer::Winners(_) => {
                    awards.by_award(self.campaign, self.after.map(|a| a.1), config.export_page).await
                }
                Writer::Tax(_) => awards.by_user(self.campaign, self.after, config.export_page).await,
            }
        };
        let rows = tokio::time::timeout(Duration::from_millis(config.page_ms), reading).await;
        let rows = rows.map_err(|_| AwardError(format!("no page within {} ms", config.page_ms)))??;
        // A page that does not go on would go on for ever.
        let goes_on = match (&self.writer, self.after, rows.last()) {
            (Writer::Winners(_), Some((_, after)), Some(last)) => last.award > after,
            (Writer::Tax(_), Some(after), Some(last)) => (last.user, last.award) > after,
            _ => true,
        };
        if goes_on { Ok(rows) } else { Err(AwardError("a page does not follow the one before".into())) }
    }
}
