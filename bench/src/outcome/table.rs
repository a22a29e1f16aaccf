//! Outcomes as tables: for the terminal, and as Markdown for docs/benchmarks.md.

use comfy_table::{Table, presets};

use super::{Outcome, Peer, Row, Spread};

/// In a cell of which there is no sample.
const NONE: &str = "–";

/// For the terminal: rows, notes, what is missing; the last line is [`Outcome::last_line`].
#[must_use]
pub fn plain(outcome: &Outcome) -> String {
    let names = peer_names(outcome);
    let mut text = String::new();
    if !outcome.rows.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header(&names));
        for row in &outcome.rows {
            table.add_row(cells(row, &names));
        }
        text.push_str(&format!("{table}\n"));
    }
    text.push_str(&remarks(outcome));
    text.push_str(&outcome.last_line());
    text
}

/// For the document: a table, then notes and what is missing as a list.
#[must_use]
pub fn markdown(outcome: &Outcome) -> String {
    let names = peer_names(outcome);
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = String::new();
    if !outcome.rows.is_empty() {
        let header = header(&names);
        let rule = format!("|{}\n", "---|".repeat(header.len()));
        text.push_str(&line(header));
        text.push_str(&rule);
        for row in &outcome.rows {
            let mut cells = cells(row, &names);
            if row.headline {
                let last = cells.len() - 1;
                for cell in [0, last] {
                    cells[cell] = format!("**{}**", cells[cell]);
                }
            }
            text.push_str(&line(cells));
        }
    }
    let remarks = remarks(outcome);
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&remarks);
    }
    text
}

/// A figure with as many digits as it deserves: three, and thousands apart.
#[must_use]
pub fn number(figure: f64) -> String {
    let size = figure.abs();
    let decimals = if size >= 100.0 || size == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{figure:.decimals$}");
    let whole = text.split('.').next().unwrap_or_default().trim_start_matches('-').len();
    let start = text.len() - text.trim_start_matches('-').len();
    let mut grouped = String::new();
    for (index, letter) in text.chars().enumerate() {
        let place = index.wrapping_sub(start);
        if place > 0 && place < whole && (whole - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(letter);
    }
    grouped
}

fn header(names: &[&str]) -> Vec<String> {
    ["what", "unit", "ours"]
        .iter()
        .chain(names)
        .chain(&["ratio"])
        .map(|&word| word.to_owned())
        .collect()
}

fn cells(row: &Row, names: &[&str]) -> Vec<String> {
    let spread =
        |samples: &[f64]| Spread::of(samples).map_or(NONE.to_owned(), |spread| spread.to_string());
    let mut cells = vec![row.what.clone(), row.unit.clone(), spread(&row.ours)];
    for name in names {
        let peer = row.peers.iter().find(|peer| peer.name == **name);
        cells.push(peer.map_or(NONE.to_owned(), |Peer { samples, .. }| spread(samples)));
    }
    cells.push(row.ratio().map_or(NONE.to_owned(), |ratio| format!("{ratio:.2}")));
    cells
}

/// Each peer once, in the order in which they appear.
fn peer_names(outcome: &Outcome) -> Vec<&str> {
    let mut names = Vec::new();
    for peer in outcome.rows.iter().flat_map(|row| &row.peers) {
        if !names.contains(&peer.name.as_str()) {
            names.push(peer.name.as_str());
        }
    }
    names
}

fn remarks(outcome: &Outcome) -> String {
    let notes = outcome.notes.iter().map(|note| format!("- {note}\n"));
    let missing = outcome.unmeasured.iter().map(|missing| {
        format!("- not measured: {}: {}\n", missing.what, missing.why.replace('\n', " "))
    });
    notes.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_thousands_apart() {
        let shown: Vec<String> = [0.0, 0.0123, 1.5, 27.04, 523.4, 80_208.3, 1_234_567.0, -1234.0]
            .iter()
            .map(|&figure| number(figure))
            .collect();
        assert_eq!(shown, ["0", "0.012", "1.50", "27.0", "523", "80,208", "1,234,567", "-1,234"]);
    }
}
