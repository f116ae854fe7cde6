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
