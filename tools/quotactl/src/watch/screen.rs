//! The terminal in full-screen, and the keys that are pressed at it.
//!
//! The terminal is given back as it was whenever the screen is dropped: at `q`, at a signal, and when something panics.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, execute, queue, style, terminal};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::text::paint::Paint;
use crate::text::table::{Line, painted};

/// Keys that wait to be acted on.
const KEYS_MAX: usize = 64;
/// How soon the thread that reads keys notices that nobody wants them any more.
const NOTICE: Duration = Duration::from_millis(100);

/// What a key means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To end.
    Quit,
    /// To move by so many lines.
    Scroll(isize),
    /// To move by so many pages.
    Page(isize),
    /// To the first line.
    Top,
    /// To be drawn again: the size has changed.
    Redraw,
}

/// A full screen.
pub struct Screen {
    paint: Paint,
    over: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal over; where keys come from.
    ///
    /// # Errors
    /// When it is no terminal after all.
    pub fn enter(paint: Paint) -> Result<(Screen, mpsc::Receiver<Wish>), Failure> {
        let failed = |error: std::io::Error| {
            Failure::Refused(format!("the terminal: {error}; `watch --lines` needs none"))
        };
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        let over = Arc::new(AtomicBool::new(false));
        terminal::enable_raw_mode().map_err(failed)?;
        // From here on, dropping gives the terminal back.
        let screen = Screen { paint, over: over.clone() };
        execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide).map_err(failed)?;
        std::thread::Builder::new()
            .name("keys".into())
            .spawn(move || read_keys(&over, &sender))
            .map_err(failed)?;
        Ok((screen, keys))
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        // A terminal that doesn't tell has the size that terminals once had.
        terminal::size().map_or((80, 24), |(width, height)| (width.into(), height.into()))
    }

    /// Shows a picture.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&mut self, lines: &[Line]) -> std::io::Result<()> {
        let mut picture = Vec::new();
        queue!(picture, terminal::BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                queue!(picture, style::Print("\r\n"))?;
            }
            let text = painted(line, self.paint);
            queue!(picture, style::Print(text), terminal::Clear(terminal::ClearType::UntilNewLine))?;
        }
        queue!(
            picture,
            terminal::Clear(terminal::ClearType::FromCursorDown),
            terminal::EndSynchronizedUpdate
        )?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&picture)?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Nothing better can be done about a terminal that is gone.
        let _ = execute!(std::io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

fn read_keys(over: &AtomicBool, wishes: &mpsc::Sender<Wish>) {
    while !over.load(Ordering::Relaxed) {
        let event = match crossterm::event::poll(NOTICE) {
            Ok(false) => continue,
            Ok(true) => crossterm::event::read(),
            Err(error) => Err(error),
        };
        // Without keys, signals still end it.
        let Ok(event) = event else { return };
        if let Some(wish) = wish(&event)
            && wishes.blocking_send(wish).is_err()
        {
            return;
        }
    }
}

fn wish(event: &Event) -> Option<Wish> {
    let key = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Some(Wish::Redraw),
        _ => return None,
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'd') if control => Wish::Quit,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Up | KeyCode::Char('k') => Wish::Scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => Wish::Scroll(1),
        KeyCode::PageUp => Wish::Page(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Wish::Page(1),
        KeyCode::Home => Wish::Top,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyEvent;

    #[test]
    fn keys_mean_what_people_expect() {
        let of = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(of(KeyCode::Char('q'), KeyModifiers::NONE), Some(Wish::Quit));
        assert_eq!(of(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(of(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(of(KeyCode::Down, KeyModifiers::NONE), Some(Wish::Scroll(1)));
        assert_eq!(wish(&Event::Resize(1, 1)), Some(Wish::Redraw));
    }
}
