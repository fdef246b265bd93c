//! Tables without lines: a head, columns two spaces apart, numbers to the right. A cell may have several lines.

use std::fmt::Write;

/// Where a column's text stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Names and addresses.
    Left,
    /// Numbers.
    Right,
}

/// A column: its head and where its text stands.
pub type Column<'a> = (&'a str, Align);

/// Narrowest that a last column is wrapped to.
const MIN_LAST: usize = 30;

/// A table with these columns. With `wrap`, the last column's text is broken at spaces so that lines have at most so many
/// characters.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>, wrap: Option<u16>) -> String {
    let mut rows: Vec<Vec<String>> = rows.into_iter().collect();
    rows.insert(0, columns.iter().map(|c| c.0.to_owned()).collect());
    let mut widths = vec![0; columns.len()];
    for row in &rows {
        for (max, cell) in widths.iter_mut().zip(row) {
            *max = width(cell).max(*max);
        }
    }
    if let (Some(wrap), Some((last, before))) = (wrap, widths.split_last_mut()) {
        let room = usize::from(wrap).saturating_sub(before.iter().map(|w| w + 2).sum());
        if *last > room {
            *last = room.max(MIN_LAST);
            for cell in rows.iter_mut().filter_map(|row| row.last_mut()) {
                *cell = broken(cell, *last);
            }
        }
    }
    let mut text = String::new();
    for row in &rows {
        let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(0);
        for at in 0..height {
            push_line(&mut text, columns, &widths, row.iter().map(|cell| cell.lines().nth(at).unwrap_or("")));
        }
    }
    text
}

fn push_line<'a>(text: &mut String, columns: &[Column], widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    let mut line = String::new();
    for ((&(_, align), &width), cell) in columns.iter().zip(widths).zip(cells) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        // Writing to a `String` cannot fail.
        let _ = match align {
            Align::Left => write!(line, "{cell:<width$}"),
            Align::Right => write!(line, "{cell:>width$}"),
        };
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The text with line ends in place of spaces where a line would be longer than `max` characters.
fn broken(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = width(word);
        if used > 0 && used + 1 + length > max {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// The length of the longest line, in characters.
pub fn width(text: &str) -> usize {
    text.lines().map(|l| l.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Align::{Left, Right};
    use super::*;

    #[test]
    fn columns_align_and_nothing_trails() {
        let rows = [vec!["web".into(), "7".into()], vec!["a\nb".into(), "1234".into()]];
        let text = table(&[("NAME", Left), ("N", Right)], rows, None);
        assert_eq!(text, "NAME     N\nweb      7\na     1234\nb\n");
    }

    #[test]
    fn only_the_last_column_is_broken() {
        let rows = [vec!["a rather long name".into(), "one two three four five six seven eight nine ten".into()]];
        let text = table(&[("NAME", Left), ("TEXT", Left)], rows, Some(54));
        assert!(width(&text) <= 54, "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("a rather long name  one two"), "{text}");
    }
}
