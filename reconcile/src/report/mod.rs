//! Reports of a settlement. None has a clock or a host's name in it, so the same settlement gives the same bytes.

pub mod csv;
pub mod html;
pub mod json;
pub mod text;

pub use html::html;
pub use json::json;
pub use text::text;
