//! `watch`: how everything stands, live, once a second.
//!
//! When nobody answers it goes on: the last answer stays on the screen, marked as old, because that is when somebody
//! looks at it most. It ends at `q`, at a signal, and when the server says that the token may not look.

mod alarms;
pub mod board;
mod frame;
mod lines;
mod screen;
pub mod status;
pub mod tables;

use std::time::Duration;

use runtime::{Clock as _, SystemClock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::{Answer, Api, Ask};
use crate::cli::Watch;
use crate::commands::Context;
use crate::failure::{FORBIDDEN, Failure, OK};
use crate::out;
use crate::text::value::{Word, time};
use board::Board;
use frame::View;
use lines::Lines;
use screen::{Screen, Wish};
use status::Platform;

/// From the end of one look to the beginning of the next.
const PAUSE: Duration = Duration::from_secs(1);

/// `watch`.
pub async fn run(context: &Context, args: &Watch) -> Result<u8, Failure> {
    let api = context.api()?;
    // Before the screen is taken over, so that a wrong address or token is told in plain words.
    let first = look(&api, false).await?;
    if context.common.json || args.lines || !out::is_terminal() {
        return as_lines(context, &api, first, args.count.unwrap_or(u64::MAX)).await;
    }
    full_screen(context, &api, &first, args.count.unwrap_or(u64::MAX)).await
}

async fn look(api: &Api, once: bool) -> Result<Answer, Failure> {
    let mut ask = Ask::get("/v1/status");
    ask.once = once;
    api.ask(&ask, None).await
}

/// Takes an answer, or that there was none.
///
/// # Errors
/// When looking is not allowed any more.
fn take(board: &mut Board, answer: &Result<Answer, Failure>) -> Result<(), Failure> {
    let read = answer.as_ref().map_err(Failure::to_string).and_then(|a| a.json().map_err(|e| e.to_string()));
    match (read, answer) {
        (Ok(value), _) => board.answered(SystemClock.mono_ns(), Platform::read(&value)),
        (Err(why), Err(failure)) if failure.code() == FORBIDDEN => {
            return Err(Failure::Problem { code: FORBIDDEN, text: why, body: bytes::Bytes::new() });
        }
        (Err(why), _) => board.failed(why),
    }
    Ok(())
}

fn clock() -> String {
    let now = time(&Word(SystemClock.now_ms().to_string()));
    // Date and offset don't change while one watches.
    now.get(11..19).unwrap_or(&now).to_owned()
}

async fn as_lines(context: &Context, api: &Api, first: Answer, count: u64) -> Result<u8, Failure> {
    let (mut board, mut lines) = (Board::default(), Lines::default());
    let mut answer = Ok(first);
    for n in 1..=count {
        take(&mut board, &answer)?;
        let text = match (&answer, context.common.json) {
            (Ok(answer), true) => answer.text(),
            (Err(_), true) => String::new(),
            (_, false) => lines.of(&board, &clock()).join("\n"),
        };
        if let (Err(failure), true) = (&answer, context.common.json) {
            out::tell(&format!("quotactl: {failure}"));
        }
        if !out::live(&text)? {
            return Ok(OK);
        }
        if n == count {
            return answer.map(|_| OK);
        }
        tokio::time::sleep(PAUSE).await;
        answer = look(api, true).await;
    }
    Ok(OK)
}

/// What a person does at the screen.
struct Desk {
    screen: Screen,
    keys: mpsc::Receiver<Wish>,
    server: String,
    scrolled: usize,
    /// How far it could be scrolled when it was last drawn.
    most: usize,
}

async fn full_screen(context: &Context, api: &Api, first: &Answer, count: u64) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| Failure::Refused(format!("waiting for signals: {error}"));
    let mut ended =
        [signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::hangup()).map_err(failed)?];
    let [terminated, hung_up] = &mut ended;
    let mut board = Board::default();
    board.answered(SystemClock.mono_ns(), Platform::read(&first.json()?));
    let (screen, keys) = Screen::enter(context.paint)?;
    let mut desk = Desk { screen, keys, server: api.server(), scrolled: 0, most: 0 };
    let watching = async {
        for _ in 1..count {
            if desk.during(&board, tokio::time::sleep(PAUSE)).await.is_none() {
                return Ok(OK);
            }
            let Some(answer) = desk.during(&board, look(api, true)).await else { return Ok(OK) };
            take(&mut board, &answer)?;
        }
        desk.during(&board, tokio::time::sleep(PAUSE)).await;
        Ok(OK)
    };
    tokio::select! {
        done = watching => done,
        _ = terminated.recv() => Ok(OK),
        _ = hung_up.recv() => Ok(OK),
    }
}

impl Desk {
    /// Shows the board and does what keys ask for while something else goes on; `None`: to end.
    async fn during<T>(&mut self, board: &Board, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            self.draw(board).ok()?;
            tokio::select! {
                done = &mut work => return Some(done),
                wish = self.keys.recv() => self.act(wish?)?,
            }
        }
    }

    fn draw(&mut self, board: &Board) -> std::io::Result<()> {
        let (width, height) = self.screen.size();
        let view = View {
            board,
            mono_ns: SystemClock.mono_ns(),
            clock: clock(),
            server: self.server.clone(),
            width,
            height,
            scrolled: self.scrolled,
        };
        let (lines, most) = frame::draw(&view);
        self.most = most;
        self.scrolled = self.scrolled.min(most);
        self.screen.show(&lines)
    }

    /// Moves; `None`: to end.
    fn act(&mut self, wish: Wish) -> Option<()> {
        let page = isize::try_from(self.screen.size().1 / 2).unwrap_or(1).max(1);
        let by = match wish {
            Wish::Quit => return None,
            Wish::Scroll(lines) => lines,
            Wish::Page(pages) => pages * page,
            Wish::Top => isize::MIN,
            Wish::Redraw => 0,
        };
        self.scrolled = self.scrolled.saturating_add_signed(by).min(self.most);
        Some(())
    }
}
