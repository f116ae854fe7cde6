//! What a measurement found, for people and for programs.

use serde::Serialize;
use std::fmt;

/// Rows of cells under a head, and lines below them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Table {
    /// What was measured, and with what.
    pub title: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// The rows; each has as many cells as the head.
    pub rows: Vec<Vec<String>>,
    /// Whatever fits no column.
    pub notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Self { title: title.into(), head, rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    /// As Markdown, so that it can be pasted into a document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| &row[column]).chain([&self.head[column]]);
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:width$} |"));
            writeln!(f, "|{}", padded.collect::<String>())
        };
        line(f, &self.head)?;
        writeln!(f, "|{}", "---|".repeat(self.head.len()))?;
        self.rows.iter().try_for_each(|row| line(f, row))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_markdown() {
        let mut table = Table::new("Title", &["a", "long"]);
        table.row(vec!["word".into(), "1".into()]);
        table.notes.push("Note.".into());
        assert_eq!(table.to_string(), "Title\n\n| a    | long |\n|---|---|\n| word | 1    |\n\nNote.\n");
    }
}
