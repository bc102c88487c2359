//! Colour and weight, as terminals know them (ECMA-48, "select graphic rendition").

/// How a piece of text is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// As everything else.
    Plain,
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// What is added, or in order.
    Good,
    /// What changes, or deserves a look.
    Warn,
    /// What goes away, or is wrong.
    Bad,
}

/// Paints, or leaves text as it is.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// A painter, with colours or without.
    pub fn new(colours: bool) -> Paint {
        Paint { colours }
    }

    /// The text in a style.
    pub fn style(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Paint, Style};

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Paint::new(false).style(Style::Bad, "stop"), "stop");
        assert_eq!(Paint::new(true).style(Style::Bad, "stop"), "\x1b[31mstop\x1b[0m");
        assert_eq!(Paint::new(true).style(Style::Plain, "stop"), "stop");
    }
}
