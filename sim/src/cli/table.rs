//! Tables as text.

use comfy_table::{Table, presets};

/// A table with nothing around its cells. Ends with a newline.
pub(super) fn render(columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().map(|column| column.to_uppercase()));
    rows.iter().for_each(|row| {
        table.add_row(row);
    });
    // Every cell has a space around it, the first one too.
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().trim_start_matches(' ').to_owned()).collect();
    lines.join("\n") + "\n"
}
