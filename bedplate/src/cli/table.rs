//! Tables: columns without lines, so that `awk` and people read them alike.

use api::{
    status::{NodeStatus, Phase},
    visible,
    workflow::{State, WorkflowStatus},
};
use comfy_table::{Color, ContentArrangement, Table};

/// A cell of one line, whatever its text is.
#[derive(Debug, Clone)]
pub(super) struct Cell(comfy_table::Cell);

impl Cell {
    pub(super) fn new(text: impl ToString) -> Self {
        Self(comfy_table::Cell::new(visible::line(&text.to_string())))
    }

    /// In a colour.
    pub(super) fn fg(self, color: Color) -> Self {
        Self(self.0.fg(color))
    }
}

impl From<Cell> for comfy_table::Cell {
    fn from(cell: Cell) -> Self {
        cell.0
    }
}

/// What the screen can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// It is a terminal: long cells are wrapped to its width.
    pub(super) terminal: bool,
    /// Colours are wanted.
    pub(super) color: bool,
}

impl Style {
    /// As in a pipe.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { terminal: false, color: false };

    /// The phase of a node in its colour.
    pub(super) fn phase(self, status: &NodeStatus) -> Cell {
        let text = match status.percent {
            Some(percent) if status.phase == Phase::Fetching => format!("fetching {percent}%"),
            _ => phase_word(status),
        };
        let color = match status.phase {
            Phase::Ready => Color::Green,
            Phase::Failed | Phase::Lost => Color::Red,
            _ if status.overdue_seconds.is_some() => Color::Yellow,
            _ => Color::Reset,
        };
        self.colored(text, color)
    }

    /// What a workflow is doing, in its colour.
    pub(super) fn status(self, status: WorkflowStatus) -> Cell {
        let color = match status {
            WorkflowStatus::Finished => Color::Green,
            WorkflowStatus::Failed | WorkflowStatus::Blocked => Color::Red,
            WorkflowStatus::Canceled | WorkflowStatus::Stopping | WorkflowStatus::Paused => {
                Color::Yellow
            }
            WorkflowStatus::Waiting | WorkflowStatus::Running | WorkflowStatus::Unknown => {
                Color::Reset
            }
        };
        self.colored(status.as_str().to_owned(), color)
    }

    /// How a stage is, in its colour.
    pub(super) fn state(self, state: State) -> Cell {
        let color = match state {
            State::Finished => Color::Green,
            State::Failed => Color::Red,
            State::Canceled => Color::Yellow,
            State::Pending | State::Started => Color::Reset,
        };
        self.colored(state.as_str().to_owned(), color)
    }

    /// Text in a colour.
    pub(super) fn colored(self, text: String, color: Color) -> Cell {
        if self.color { Cell::new(text).fg(color) } else { Cell::new(text) }
    }
}

/// The phase of a node; `firmware?` and `lost,firmware?` where somebody fetched files in its name,
/// which is no proof that it boots.
pub(super) fn phase_word(status: &NodeStatus) -> String {
    let phase = status.phase.as_str();
    match &status.unproven {
        None => phase.to_owned(),
        Some(unproven) if unproven.phase == status.phase => format!("{phase}?"),
        Some(unproven) => format!("{phase},{}?", unproven.phase.as_str()),
    }
}

/// A table with a header.
pub(super) fn table(
    style: Style,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<Cell>>,
) -> String {
    let mut table = Table::new();
    table.set_header(header.iter().copied()).add_rows(rows);
    finish(style, table)
}

/// Lines of a name and a value, indented.
pub(super) fn pairs(style: Style, pairs: &[(&str, Cell)]) -> String {
    let mut table = Table::new();
    for (name, value) in pairs {
        table.add_row([Cell::new(format!("  {name}")), value.clone()]);
    }
    finish(style, table)
}

fn finish(style: Style, mut table: Table) -> String {
    table.load_style(comfy_table::presets::NOTHING);
    if style.terminal {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    if !style.color {
        table.force_no_tty();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Cells of text.
pub(super) fn cells(texts: impl IntoIterator<Item = String>) -> Vec<Cell> {
    texts.into_iter().map(Cell::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_table_has_a_line_for_each_row_whatever_is_in_it(texts in proptest::collection::vec("(?s:.)*", 6)) {
            let row = |texts: &[String]| texts.iter().map(Cell::new).collect::<Vec<_>>();
            let rows = texts.chunks(2).map(row).chain([vec![Cell::new("end"), Cell::new("end")]]);
            let text = table(Style::PLAIN, &["A", "B"], rows);
            proptest::prop_assert_eq!(text.lines().count(), 5);
            let pairs = pairs(Style::PLAIN, &[("a", Cell::new(&texts[0])), ("b", Cell::new("end"))]);
            proptest::prop_assert_eq!(pairs.lines().count(), 2);
            for text in [text, pairs] {
                proptest::prop_assert!(!text.contains(|c| visible::is_hidden(c) && c != '\n'), "{text:?}");
            }
        }
    }
}
