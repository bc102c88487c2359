//! Standard output and standard error.
//!
//! A reader that goes away (`quotactl history 7 | head`) ends the output without a word. Any other failure to write,
//! such as a full disk behind `>`, is an error: a script must not take half a file for the whole.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use crate::failure::Failure;
use crate::text::paint::Paint;

/// Writes a block of text; a line feed is added where it has none.
///
/// # Errors
/// When it can't be written, unless the reader has gone.
pub fn print(text: &str) -> Result<(), Failure> {
    live(text).map(|_| ())
}

/// As [`print`]; whether anybody still reads.
///
/// # Errors
/// When it can't be written, unless the reader has gone.
pub fn live(text: &str) -> Result<bool, Failure> {
    raw(text.as_bytes(), !text.is_empty() && !text.ends_with('\n'))
}

/// Writes bytes as they are, with a line feed behind if `feed`; whether anybody still reads.
///
/// # Errors
/// When they can't be written, unless the reader has gone.
pub fn raw(bytes: &[u8], feed: bool) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    let done = stdout
        .write_all(bytes)
        .and_then(|()| if feed { stdout.write_all(b"\n") } else { Ok(()) })
        .and_then(|()| stdout.flush());
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Refused(format!(
            "writing to standard output: {error}; what was written is not complete"
        ))),
    }
}

/// A line for a person, on standard error.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A question or a progress line on standard error, without a line feed.
pub fn prompt(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// Whether a person sits at standard output.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Colours of standard output: where a person sits there and did not ask for none (`NO_COLOR`, `TERM=dumb`).
pub fn paint() -> Paint {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    Paint::new(is_terminal() && !set("NO_COLOR") && !dumb)
}
