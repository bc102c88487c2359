//! Columns that line up, Chinese names too.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::paint::{Paint, Style};

/// A line in pieces, each with its style.
pub type Line = Vec<(String, Style)>;

/// Which way a column leans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Cells, row by row, under headings.
pub struct Table {
    heads: Vec<(String, Side)>,
    rows: Vec<Line>,
}

impl Table {
    /// A table with headings.
    pub fn new<S: AsRef<str>>(heads: &[(S, Side)]) -> Table {
        let heads = heads.iter().map(|(head, side)| (head.as_ref().to_owned(), *side)).collect();
        Table { heads, rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: Line) {
        self.rows.push(cells);
    }

    /// Adds a row without styles.
    pub fn plain(&mut self, cells: impl IntoIterator<Item = String>) {
        self.row(cells.into_iter().map(|cell| (cell, Style::Plain)).collect());
    }

    /// The table in pieces, without blanks at the ends of lines.
    pub fn pieces(&self) -> Vec<Line> {
        let mut widths: Vec<usize> = self.heads.iter().map(|(head, _)| head.width()).collect();
        for row in &self.rows {
            for (width, (cell, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let heads: Line = self.heads.iter().map(|(head, _)| (head.clone(), Style::Dim)).collect();
        std::iter::once(&heads).chain(&self.rows).map(|row| self.aligned(row, &widths)).collect()
    }

    /// The table's lines.
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        self.pieces().iter().map(|line| painted(line, paint)).collect()
    }

    fn aligned(&self, row: &Line, widths: &[usize]) -> Line {
        let mut line = Line::new();
        let Some(last) = row.iter().rposition(|(cell, _)| !cell.is_empty()) else { return line };
        for (i, ((cell, style), width)) in row.iter().zip(widths).enumerate().take(last + 1) {
            let blanks = " ".repeat(width.saturating_sub(cell.width()));
            let gap = if i == last { "" } else { "  " };
            if self.heads.get(i).is_none_or(|(_, side)| *side == Side::Left) {
                line.push((cell.clone(), *style));
                line.push((if i == last { String::new() } else { blanks + gap }, Style::Plain));
            } else {
                line.push((blanks, Style::Plain));
                line.push((cell.clone(), *style));
                line.push((gap.to_owned(), Style::Plain));
            }
        }
        line
    }
}

/// A line as text.
pub fn painted(line: &Line, paint: Paint) -> String {
    line.iter().filter(|(text, _)| !text.is_empty()).map(|(text, style)| paint.style(*style, text)).collect()
}

/// A line cut to a width, in columns of the terminal.
pub fn cut(line: &Line, width: usize) -> Line {
    let mut left = width;
    let mut out = Line::new();
    for (text, style) in line {
        let mut piece = String::new();
        for letter in text.chars() {
            let columns = letter.width().unwrap_or(0);
            if columns > left {
                left = 0;
                break;
            }
            left -= columns;
            piece.push(letter);
        }
        out.push((piece, *style));
        if left == 0 {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_letters_take_two_columns() {
        let mut table = Table::new(&[("PRIZE", Side::Left), ("LEFT", Side::Right)]);
        table.plain(["红包".to_owned(), "7".to_owned()]);
        table.plain(["voucher".to_owned(), "1,000".to_owned()]);
        table.plain(["gone".to_owned(), String::new()]);
        let lines = table.lines(Paint::new(false));
        assert_eq!(lines, ["PRIZE     LEFT", "红包         7", "voucher  1,000", "gone"]);
    }

    #[test]
    fn lines_are_cut_by_columns() {
        let line = vec![("a红".to_owned(), Style::Bad), ("包b".to_owned(), Style::Plain)];
        let text = |width| painted(&cut(&line, width), Paint::new(false));
        assert_eq!([2, 3, 4, 5, 9].map(text), ["a", "a红", "a红", "a红包", "a红包b"]);
    }
}
