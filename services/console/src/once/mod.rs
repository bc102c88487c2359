//! Changes that are made once, however often they are asked for.
//!
//! A change runs in a task of its own, so that a caller who goes away does not cut it off between two steps. With an
//! `Idempotency-Key`:
//!
//! - before it begins, a marker says that it does, and how far the history is;
//! - when it is done, its answer is stored, and given again to whoever asks the same with the same key; the one that was
//!   stored first stands;
//! - who asks meanwhile hears the answer too, or 409 with a time to come back;
//! - a marker without an answer means that this program ended in between: the history is searched for what the
//!   change has made ([`recover`]), and only if there is nothing it is made anew;
//! - another request under the same key is refused.
//!
//! Answers are kept for 24 hours. Those that may be others the next time (the platform does not answer, too many at
//! once) are not kept, and asking again tries again.

mod recover;

pub(crate) use recover::Sought;

use crate::extract::Fingerprint;
use crate::problem::{self, Problem};
use crate::shared::{Rooms, Shared};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use quota_config::{By, Change, ChangeState, Remembered, RepositoryError};
use recover::Marker;
use runtime::TaskKind;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// How long an answer is given again, ms.
const KEPT_MS: u64 = 24 * 3_600_000;
/// Largest answer to a change: what a repository remembers at most, with room to spare.
const ANSWER_BYTES_MAX: usize = 1_000_000;
/// How long a second request under the same key waits for the answer to the first.
const WAIT: Duration = Duration::from_secs(10);
/// Header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer to a change.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    retry_after_s: Option<u32>,
    passing: bool,
    replayed: bool,
}

impl Answer {
    /// JSON.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Answer, Problem> {
        let body = serde_json::to_vec(body).map_err(|e| Problem::internal(e.to_string()))?;
        let content_type = "application/json";
        Ok(Answer {
            status,
            content_type,
            body: body.into(),
            retry_after_s: None,
            passing: false,
            replayed: false,
        })
    }

    /// What came of a change: 201 for a version in force, 202 for one that waits, 200 otherwise. A difference that
    /// is too long to be remembered is cut, and says so.
    pub fn change(mut change: Change) -> Result<Answer, Problem> {
        let status = match change.state {
            ChangeState::Active | ChangeState::Grey => StatusCode::CREATED,
            ChangeState::Waiting => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        };
        loop {
            let answer = Answer::json(status, &change)?;
            if answer.body.len() <= ANSWER_BYTES_MAX {
                return Ok(answer);
            }
            let preview = &mut change.preview;
            let half = preview.diff.len() / 2;
            if preview.diff.is_empty() {
                // Warnings and effects alone are that long: the first of them say enough.
                preview.warnings.truncate(preview.warnings.len() / 2);
                change.effects.truncate(change.effects.len() / 2);
                if preview.warnings.is_empty() && change.effects.is_empty() {
                    return Err(Problem::internal("the answer is too long to be given"));
                }
                continue;
            }
            preview.diff_left_out += (preview.diff.len() - half) as u64;
            preview.diff.truncate(half);
        }
    }

    fn problem(mut problem: Problem, place: &str) -> Answer {
        problem.instance = place.split_once(' ').map(|(_, path)| path.chars().take(300).collect());
        Answer {
            status: StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            content_type: problem::CONTENT_TYPE,
            body: problem.to_json().into(),
            retry_after_s: problem.retry_after_s,
            passing: problem.passing,
            replayed: false,
        }
    }

    fn again(remembered: Remembered) -> Answer {
        let is_problem = remembered.content_type == problem::CONTENT_TYPE;
        Answer {
            status: StatusCode::from_u16(remembered.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            content_type: if is_problem { problem::CONTENT_TYPE } else { "application/json" },
            body: remembered.body.into(),
            retry_after_s: None,
            passing: false,
            replayed: true,
        }
    }

    pub fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Changes under way that have a key; at most as many as there may be changes.
pub(crate) struct Flights {
    /// Tells this run of the program from others in markers.
    instance: String,
    under_way: Mutex<HashMap<String, Flight>>,
}

struct Flight {
    sha256: [u8; 32],
    answer: watch::Receiver<Option<Answer>>,
}

enum Entry {
    First,
    Same(watch::Receiver<Option<Answer>>),
    Other,
}

impl Flights {
    pub fn new() -> Result<Flights, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        Ok(Flights { instance: hex::encode(random), under_way: Mutex::new(HashMap::new()) })
    }

    fn enter(&self, scope: &str, sha256: [u8; 32], answer: &watch::Receiver<Option<Answer>>) -> Entry {
        let mut under_way = self.under_way.lock();
        match under_way.get(scope) {
            Some(flight) if flight.sha256 == sha256 => Entry::Same(flight.answer.clone()),
            Some(_) => Entry::Other,
            None => {
                under_way.insert(scope.to_string(), Flight { sha256, answer: answer.clone() });
                Entry::First
            }
        }
    }
}

/// Takes a flight out of the list, however it ends.
struct Landing {
    shared: Rooms,
    scope: Option<String>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(scope) = &self.scope {
            self.shared.flights.under_way.lock().remove(scope);
        }
    }
}

/// Carries a change out once. `sought`: how to find in the history what it has made.
pub(crate) async fn once<F>(shared: &Rooms, by: &By, asked: Fingerprint, sought: Sought, work: F) -> Response
where
    F: Future<Output = Result<Answer, Problem>> + Send + 'static,
{
    let turn = match shared.change() {
        Ok(turn) => turn,
        Err(problem) => return problem.into_response(),
    };
    let (sender, receiver) = watch::channel(None);
    let scope = asked.key.as_ref().map(|key| scope(by, &asked.place, key));
    if let Some(scope) = &scope {
        match shared.flights.enter(scope, asked.sha256, &receiver) {
            Entry::First => {}
            Entry::Same(receiver) => return heard(receiver).await,
            Entry::Other => return reused().into_response(),
        }
    }
    let landing = Landing { shared: Rooms::clone(shared), scope };
    let by = by.clone();
    shared.tasks.spawn("a change of the console", TaskKind::BestEffort, async move {
        let _turn = turn;
        let flying = Flying { shared: &landing.shared, by: &by, asked: &asked, sought: &sought };
        let answer = flying.land(landing.scope.as_deref(), work).await;
        sender.send_replace(Some(answer));
        drop(landing);
        Ok(())
    });
    told(receiver).await
}

/// The answer to one's own change.
async fn told(mut answer: watch::Receiver<Option<Answer>>) -> Response {
    match answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone()) {
        Some(answer) => answer.into_response(),
        None => Problem::internal("the change was broken off; ask again to see whether it was made")
            .into_response(),
    }
}

/// The answer to somebody else's.
async fn heard(answer: watch::Receiver<Option<Answer>>) -> Response {
    match tokio::time::timeout(WAIT, told(answer)).await {
        Ok(response) => response,
        Err(_) => under_way(1).into_response(),
    }
}

fn under_way(after_s: u32) -> Problem {
    let detail = "a request with this Idempotency-Key is under way; come back for its answer";
    Problem::new(StatusCode::CONFLICT, "under-way", "Under way", detail).again_after(after_s)
}

fn reused() -> Problem {
    let detail = "this Idempotency-Key was used for another request; take a new key for a new change";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "The key was used before", detail)
}

/// A key means the same only for the same person, method and path.
fn scope(by: &By, place: &str, key: &str) -> String {
    let mut hash = Sha256::new();
    for text in [by.name.as_str(), place, key] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize())
}

/// A change under way.
struct Flying<'a> {
    shared: &'a Shared,
    by: &'a By,
    asked: &'a Fingerprint,
    sought: &'a Sought,
}

impl Flying<'_> {
    async fn land<F>(&self, scope: Option<&str>, work: F) -> Answer
    where
        F: Future<Output = Result<Answer, Problem>>,
    {
        let Some(scope) = scope else { return self.run(work).await };
        match self.begin(scope).await {
            Ok(None) => {}
            Ok(Some(answer)) if answer.replayed => return answer,
            Ok(Some(answer)) => return self.kept(scope, answer).await,
            Err(problem) => return Answer::problem(problem, &self.asked.place),
        }
        let answer = self.run(work).await;
        self.kept(scope, answer).await
    }

    async fn run<F>(&self, work: F) -> Answer
    where
        F: Future<Output = Result<Answer, Problem>>,
    {
        let ms = self.shared.config.change_ms;
        let problem = match tokio::time::timeout(Duration::from_millis(ms), work).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(problem)) => problem,
            Err(_) => Problem::unavailable(format!("the change was not done within {ms} ms; ask again")),
        };
        Answer::problem(problem, &self.asked.place)
    }

    /// The answer that stands already; `None`: go on, the marker is set.
    async fn begin(&self, scope: &str) -> Result<Option<Answer>, Problem> {
        let repository = self.shared.desk.repository();
        let now_ms = self.shared.clock.now_ms();
        let fresh = |r: &Remembered| now_ms.saturating_sub(r.at_ms) < KEPT_MS;
        let same = |r: Remembered| if r.request_sha256 == self.asked.sha256 { Ok(r) } else { Err(reused()) };
        if let Some(remembered) = repository.remembered(&format!("a:{scope}")).await?.filter(fresh) {
            return same(remembered).map(|r| Some(Answer::again(r)));
        }
        let instance = &self.shared.flights.instance;
        let Some(begun) = repository.remembered(&format!("b:{scope}")).await?.filter(fresh) else {
            let marker = Marker::now(&self.shared.desk, instance, self.sought, now_ms).await?;
            let body = serde_json::to_vec(&marker).map_err(|e| Problem::internal(e.to_string()))?;
            let own = self.remembered(format!("b:{scope}"), 202, "application/json", body);
            // Of two consoles that came at the same moment one's marker stands.
            let stands = self.stands(own).await?.map(same).transpose()?;
            let first = stands.and_then(|r| serde_json::from_slice::<Marker>(&r.body).ok());
            return match first {
                Some(first) if first.instance != *instance => Err(under_way(1)),
                _ => Ok(None),
            };
        };
        let begun = same(begun)?;
        let Ok(marker) = serde_json::from_slice::<Marker>(&begun.body) else { return Ok(None) };
        if let Some(change) = marker.made(&self.shared.desk, self.by, self.sought).await? {
            return Answer::change(change).map(Some);
        }
        // Another console on the same database may be at it; this one would know.
        let age_ms = now_ms.saturating_sub(begun.at_ms);
        if marker.instance != *instance && age_ms < self.shared.config.change_ms {
            let rest_s = (self.shared.config.change_ms - age_ms).div_ceil(1_000).clamp(1, 10);
            return Err(under_way(u32::try_from(rest_s).unwrap_or(10)));
        }
        Ok(None)
    }

    /// Remembers an answer that stands, and says what everybody hears from now on: of two consoles that came to an answer,
    /// one by making the change and one by finding it made, whoever stored theirs first.
    async fn kept(&self, scope: &str, answer: Answer) -> Answer {
        if answer.passing || answer.status.is_server_error() {
            return answer;
        }
        let (status, kind) = (answer.status.as_u16(), answer.content_type);
        let own = self.remembered(format!("a:{scope}"), status, kind, answer.body.to_vec());
        match self.stands(own).await {
            Ok(Some(other)) if other.request_sha256 == self.asked.sha256 && other.body != answer.body => {
                Answer::again(other)
            }
            Ok(_) => answer,
            Err(error) => {
                // The change is made and is found in the history, should the caller ask again.
                tracing::warn!(%error, "the answer to a change can't be remembered");
                answer
            }
        }
    }

    /// Remembers it, if nothing stands under its key; what stands there then.
    async fn stands(&self, own: Remembered) -> Result<Option<Remembered>, RepositoryError> {
        let (repository, key) = (self.shared.desk.repository(), own.key.clone());
        repository.remember(own).await?;
        repository.remembered(&key).await
    }

    fn remembered(&self, key: String, status: u16, content_type: &str, body: Vec<u8>) -> Remembered {
        Remembered {
            key,
            request_sha256: self.asked.sha256,
            status,
            content_type: content_type.to_string(),
            body,
            at_ms: self.shared.clock.now_ms(),
        }
    }
}
