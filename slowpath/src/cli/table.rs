//! Tables without lines: a head, columns two spaces apart, numbers to the right. A cell may have several lines.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

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

/// A table with these columns. With `wrap`, text is broken at spaces so that lines have at most so many characters.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>, wrap: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    match wrap {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(columns.iter().map(|&(head, _)| Cell::new(head)));
    table.add_rows(rows);
    for (column, &(_, align)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.trim_fmt() + "\n"
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
