//! A table is its columns as data: what each shows and sorts by.

use crate::theme::Theme;
use hz_trace::text;
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

/// What a column shows of a row, and so what it sorts by.
pub(crate) enum Show<R: 'static> {
    /// Words.
    Text(fn(&R) -> String),
    /// How many.
    Count(fn(&R) -> u64),
    /// Nanoseconds.
    Duration(fn(&R) -> u64),
    /// Nanoseconds, marked from [`LONG_NS`] on.
    Wait(fn(&R) -> u64),
    /// Bytes.
    Bytes(fn(&R) -> u64),
    /// Something of its own: text that sorts as a number.
    Own(fn(&R) -> Cell, fn(&R) -> f64),
}

/// A wait or poll as long as this is marked.
pub(crate) const LONG_NS: u64 = 5_000_000;

impl<R> Show<R> {
    fn cell(&self, row: &R) -> Cell {
        match self {
            Self::Text(of) => of(row).into(),
            Self::Count(of) => text::count(of(row)).into(),
            Self::Duration(of) => text::duration(of(row)).into(),
            Self::Wait(of) => alarm(text::duration(of(row)), of(row) >= LONG_NS),
            Self::Bytes(of) => text::bytes(of(row)).into(),
            Self::Own(cell, _) => cell(row),
        }
    }

    fn key(&self, row: &R) -> Key {
        match self {
            Self::Text(of) => Key::Text(of(row)),
            Self::Count(of) | Self::Duration(of) | Self::Wait(of) | Self::Bytes(of) => {
                Key::Number(of(row) as f64)
            }
            Self::Own(_, key) => Key::Number(key(row)),
        }
    }

    const fn is_number(&self) -> bool {
        !matches!(self, Self::Text(_))
    }
}

/// One column of rows `R`.
pub(crate) struct Column<R: 'static> {
    pub(crate) title: &'static str,
    /// Columns of the screen; the last column has what is left, and this at least.
    pub(crate) width: u16,
    /// Where there is no room for all, those of the highest rank are left out first.
    pub(crate) rank: u8,
    pub(crate) show: Show<R>,
}

impl<R> Column<R> {
    pub(crate) const fn new(title: &'static str, width: u16, rank: u8, show: Show<R>) -> Self {
        Self { title, width, rank, show }
    }

    /// Whether its cells stand at the right. The last column is text, however it sorts.
    const fn is_right(&self, is_last: bool) -> bool {
        self.show.is_number() && !is_last
    }
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
        let Some(column) = columns.get(self.sort) else { return };
        let wanted = (0_u32..).zip(rows).filter(|(_, row)| is_wanted(row));
        let mut keyed: Vec<(Key, u32)> =
            wanted.map(|(place, row)| (column.show.key(row), place)).collect();
        let is_ascending = self.is_ascending ^ !column.show.is_number();
        keyed.sort_unstable_by(|(a, a_place), (b, b_place)| {
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
    let rooms = rooms(columns, state.sort, usize::from(width));
    let mut lines = vec![heading(columns, state, &rooms, theme)];
    let visible = usize::from(height).saturating_sub(1).max(1);
    let first = (state.chosen + 1).saturating_sub(visible);
    for (place, row) in state.order.iter().enumerate().skip(first).take(visible) {
        let Some(row) = rows.get(*row as usize) else { continue };
        let spans = rooms.iter().map(|(number, room)| {
            let column = &columns[*number];
            let cell = column.show.cell(row);
            let style = if cell.is_alarming { theme.alarm() } else { Style::new() };
            let is_right = column.is_right(number + 1 == columns.len());
            Span::styled(fit(&cell.text, *room, is_right) + " ", style)
        });
        let line = Line::from(spans.collect::<Vec<_>>());
        lines.push(if place == state.chosen { line.style(theme.chosen()) } else { line });
    }
    lines
}

fn heading<'a, R>(
    columns: &[Column<R>],
    state: &TableState,
    rooms: &[(usize, usize)],
    theme: Theme,
) -> Line<'a> {
    let spans = rooms.iter().map(|(number, room)| {
        let column = &columns[*number];
        let mark = if *number != state.sort {
            ""
        } else if state.is_ascending ^ !column.show.is_number() {
            "↑"
        } else {
            "↓"
        };
        let style = if mark.is_empty() { theme.dim() } else { theme.accent() };
        let is_right = column.is_right(number + 1 == columns.len());
        Span::styled(fit(&format!("{}{mark}", column.title), *room, is_right) + " ", style)
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// The columns that have room, each with its width. That which sorts stays.
fn rooms<R>(columns: &[Column<R>], sort: usize, width: usize) -> Vec<(usize, usize)> {
    let wanted = |number: &usize| usize::from(columns[*number].width) + 1;
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    while kept.len() > 1 && kept.iter().map(wanted).sum::<usize>() > width + 1 {
        let rank = |number: &usize| if *number == sort { 0 } else { columns[*number].rank };
        let Some(worst) = kept.iter().copied().max_by_key(rank).filter(|worst| rank(worst) > 0)
        else {
            break;
        };
        kept.retain(|number| *number != worst);
    }
    let mut left = width;
    let last = kept.last().copied();
    let rooms = kept.into_iter().map(|number| {
        let own = usize::from(columns[number].width);
        let room = if Some(number) == last && number + 1 == columns.len() { left } else { own };
        let room = room.min(left);
        left = left.saturating_sub(room + 1);
        (number, room)
    });
    rooms.collect()
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
