//! A rehearsal for people: in the terminal, and as one page.

mod chart;
mod page;
mod terminal;
pub(super) mod words;

pub use page::html;
pub use terminal::text;
