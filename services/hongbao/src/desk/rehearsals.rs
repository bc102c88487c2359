//! Rehearsals for the console: the same engine as `hongbao rehearse`, on a thread that lets draws go first.

use async_trait::async_trait;
use campaign::SeqNo;
use console::{Progress, RehearsalRequest, Rehearse, RehearseError, Report};
use quota_config::{CompileOptions, compile};
use sim::rehearse::{self, Arrivals, Districts, Setup};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Shares are numbers with a point; the engine counts in whole parts.
const SHARE_PARTS: f64 = 1_000_000.0;

/// How much rehearsing lets the platform go first: it may take as long as it takes.
const NICE: u8 = 15;

/// Plays campaigns in this process.
pub struct Rehearsals;

#[async_trait]
impl Rehearse for Rehearsals {
    async fn rehearse(
        &self,
        request: RehearsalRequest,
        progress: Arc<Progress>,
    ) -> Result<Report, RehearseError> {
        let (done, played) = tokio::sync::oneshot::channel();
        // A thread of its own: its priority stays lowered, which a thread of a pool would carry on.
        let thread = std::thread::Builder::new().name("rehearsal".into()).spawn(move || {
            runtime::Priority::Nice(NICE).set();
            let _ = done.send(play(&request, &progress));
        });
        thread.map_err(|e| RehearseError(format!("no thread for it: {e}")))?;
        played.await.unwrap_or_else(|_| Err(RehearseError("it ended without an answer".into())))
    }
}

fn play(request: &RehearsalRequest, progress: &Progress) -> Result<Report, RehearseError> {
    let wrong = |e: &dyn std::fmt::Display| RehearseError(e.to_string());
    let key = rehearse::compile_key();
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: rehearse::START_MS, seeds: &key, after: None };
    let plan = compile(&request.source, &options).map_err(|e| wrong(&e))?.plan;
    let mut setup = Setup::new(request.players);
    if !request.arrivals.is_empty() {
        let parts = |share: f64| (share * SHARE_PARTS).round() as u64;
        let rows: Vec<_> = request.arrivals.iter().map(|a| (a.at_ms, parts(a.share))).collect();
        setup.arrivals = Arrivals::shares(&rows, request.players).map_err(|e| wrong(&e))?;
    }
    let districts = request.districts.as_deref().map(Districts::parse).transpose();
    setup.districts = districts.map_err(|e| RehearseError(format!("districts: {e}")))?;
    setup.threads = 1;
    let rehearsal = rehearse::rehearse(&plan, &setup, |now| {
        progress.set(now.permille);
        if progress.is_called_off() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let rehearsal = rehearsal.map_err(|e| wrong(&e))?;
    let summary = serde_json::from_str(&rehearsal.json()).map_err(|e| wrong(&e))?;
    Ok(Report { summary, html: rehearse::html(&rehearsal).into_bytes() })
}
