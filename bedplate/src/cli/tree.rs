//! Trees as text, with lines that lead from parents to children.

use api::visible;

/// A line with others below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// The line.
    pub(super) label: String,
    /// What is below it.
    pub(super) children: Vec<Tree>,
}

impl Tree {
    /// A line with nothing below it yet.
    pub(super) fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), children: Vec::new() }
    }

    /// The lines.
    pub(super) fn draw(&self) -> String {
        let mut text = format!("{}\n", visible::line(&self.label));
        self.draw_children("", &mut text);
        text
    }

    fn draw_children(&self, indent: &str, text: &mut String) {
        let last = self.children.len().saturating_sub(1);
        for (place, child) in self.children.iter().enumerate() {
            let (branch, below) =
                if place == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            text.push_str(indent);
            text.push_str(branch);
            text.push_str(&visible::line(&child.label));
            text.push('\n');
            child.draw_children(&format!("{indent}{below}"), text);
        }
    }
}
