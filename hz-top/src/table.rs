//! A table is its columns as data: what each shows and sorts by.

use crate::theme::Theme;
use ratatui::{
    style::Style,
    text::{Line, Span},
};
use std::cmp::Ordering;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What a column sorts by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    Number(f64),
    Text(String),
}

impl Key {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

/// A cell as it is shown.
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) is_alarming: bool,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, is_alarming: false }
    }
}

/// A cell that wants attention if `is_alarming`: marked, not only coloured.
pub(crate) fn alarm(text: String, is_alarming: bool) -> Cell {
    Cell { text: if is_alarming { format!("{text} ▲") } else { text }, is_alarming }
}

/// One column of rows `R`.
pub(crate) struct Column<R: 'static> {
    pub(crate) title: &'static str,
    /// Columns of the screen; the last column has what is left.
    pub(crate) width: u16,
    pub(crate) is_number: bool,
    pub(crate) cell: fn(&R) -> Cell,
    pub(crate) key: fn(&R) -> Key,
}

/// What a user chose of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableState {
    /// Place of the column that sorts; `None`: that which the table sorts by itself.
    pub(crate) sort: usize,
    pub(crate) is_ascending: bool,
    /// Place of the chosen row in `order`.
    pub(crate) chosen: usize,
    /// Rows that are shown, by their place in the window.
    pub(crate) order: Vec<u32>,
}

impl TableState {
    pub(crate) fn sorted_by(sort: usize) -> Self {
        Self { sort, ..Self::default() }
    }

    /// Puts the rows that `is_wanted` in order.
    pub(crate) fn arrange<R>(
        &mut self,
        rows: &[R],
        columns: &[Column<R>],
        is_wanted: impl Fn(&R) -> bool,
    ) {
        self.sort = self.sort.min(columns.len().saturating_sub(1));
        let key = columns[self.sort].key;
        let wanted = (0_u32..).zip(rows).filter(|(_, row)| is_wanted(row));
        let mut keyed: Vec<(Key, u32)> = wanted.map(|(place, row)| (key(row), place)).collect();
        let is_ascending = self.is_ascending ^ !columns[self.sort].is_number;
        keyed.sort_by(|(a, a_place), (b, b_place)| {
            let order = a.compare(b);
            let order = if is_ascending { order } else { order.reverse() };
            order.then(a_place.cmp(b_place))
        });
        self.order = keyed.into_iter().map(|(_, place)| place).collect();
        self.chosen = self.chosen.min(self.order.len().saturating_sub(1));
    }

    pub(crate) fn step(&mut self, by: isize) {
        let last = self.order.len().saturating_sub(1);
        self.chosen = self.chosen.saturating_add_signed(by).min(last);
    }

    /// The chosen row's place in the window.
    pub(crate) fn row(&self) -> Option<usize> {
        self.order.get(self.chosen).map(|place| *place as usize)
    }
}

/// Draws heading and rows, `height` lines at the most.
pub(crate) fn lines<'a, R>(
    rows: &[R],
    columns: &[Column<R>],
    state: &TableState,
    (width, height): (u16, u16),
    theme: Theme,
) -> Vec<Line<'a>> {
    let mut lines = vec![heading(columns, state, width, theme)];
    let visible = usize::from(height).saturating_sub(1).max(1);
    let first = (state.chosen + 1).saturating_sub(visible);
    for (place, row) in state.order.iter().enumerate().skip(first).take(visible) {
        let Some(row) = rows.get(*row as usize) else { continue };
        let mut spans = Vec::new();
        let mut left = usize::from(width);
        for (number, column) in columns.iter().enumerate() {
            let cell = (column.cell)(row);
            let room = room(columns, number, left);
            left = left.saturating_sub(room + 1);
            let style = if cell.is_alarming { theme.alarm() } else { Style::new() };
            spans.push(Span::styled(fit(&cell.text, room, column.is_number) + " ", style));
        }
        let line = Line::from(spans);
        lines.push(if place == state.chosen { line.style(theme.chosen()) } else { line });
    }
    lines
}

fn heading<'a, R>(columns: &[Column<R>], state: &TableState, width: u16, theme: Theme) -> Line<'a> {
    let mut left = usize::from(width);
    let spans = columns.iter().enumerate().map(|(number, column)| {
        let room = room(columns, number, left);
        left = left.saturating_sub(room + 1);
        let mark = if number != state.sort {
            ""
        } else if state.is_ascending ^ !column.is_number {
            "↑"
        } else {
            "↓"
        };
        let style = if mark.is_empty() { theme.dim() } else { theme.accent() };
        Span::styled(fit(&format!("{}{mark}", column.title), room, column.is_number) + " ", style)
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn room<R>(columns: &[Column<R>], number: usize, left: usize) -> usize {
    let wanted = usize::from(columns[number].width);
    if number + 1 == columns.len() { left } else { wanted.min(left) }
}

/// `text` cut or filled to `width` columns.
pub(crate) fn fit(text: &str, width: usize, is_right: bool) -> String {
    let long = text.width();
    if long <= width {
        let space = " ".repeat(width - long);
        return if is_right { space + text } else { text.to_owned() + &space };
    }
    let mut cut = String::new();
    let mut used = 0;
    for each in text.chars() {
        let wide = each.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        cut.push(each);
    }
    if used < width {
        cut.push('…');
        used += 1;
    }
    cut + &" ".repeat(width - used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_room_whatever_its_width() {
        for (text, width, cut) in
            [("abc", 5, "abc  "), ("abcdef", 4, "abc…"), ("日本語", 4, "日… "), ("x", 0, "")]
        {
            assert_eq!(fit(text, width, false), cut, "{text} {width}");
        }
        assert_eq!(fit("7", 3, true), "  7");
    }
}
