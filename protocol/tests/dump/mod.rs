//! Bytes as text: sixteen to a line, with their offset and what is printable of them.

use std::fmt::Write;

/// The lines of `bytes`, each ended by a newline.
pub(crate) fn show(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
        let ascii: String = chunk.iter().map(printable).collect();
        writeln!(text, "  {:04x}  {:<47}  |{ascii}|", line * 16, hex.join(" ")).expect("writing to a String");
    }
    text
}

/// The names and bytes of a golden file: a name stands at the start of a line, its bytes are indented below it.
pub(crate) fn read(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => all.push((line.to_owned(), Vec::new())),
            Some(row) => {
                let (hex, _) = row[6..].split_once('|').expect("a row ends with its text");
                let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"));
                all.last_mut().expect("rows stand below a name").1.extend(bytes);
            }
        }
    }
    all
}
