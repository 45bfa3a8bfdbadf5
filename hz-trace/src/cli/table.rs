//! Tables in plain text: columns as wide as what they hold, numbers to the right.

use unicode_width::UnicodeWidthStr as _;

/// A table's rows, its heading first.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these columns; those that begin with `>` are numbers.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let right = columns.iter().map(|name| name.starts_with('>')).collect();
        let names = columns.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![names], right }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// Columns of the screen that the first `columns` take.
    pub(crate) fn width(&self, columns: usize) -> usize {
        let widest = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max()
        };
        (0..columns).map(|column| 2 + widest(column).unwrap_or(0)).sum()
    }

    /// Adds a cell to a row; the heading is row 0. A column that the table does not have yet is text.
    pub(crate) fn extend(&mut self, row: usize, cell: String) {
        self.rows[row].push(cell);
        let columns = self.rows[row].len().max(self.right.len());
        self.right.resize(columns, false);
    }

    /// The table, every line indented by two.
    pub(crate) fn render(&self) -> String {
        let mut widths = vec![0; self.right.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.right);
            let cells = cells.map(|((cell, width), is_right)| {
                let padding = " ".repeat(width - cell.width());
                if *is_right { padding + cell } else { cell.clone() + &padding }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
