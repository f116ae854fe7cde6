//! Takes Swagger UI out of the package that vendors it, compressed as it is there.

use std::io::{self, Cursor, Read as _, Write as _};
use std::path::Path;
use std::{env, fs};

/// What `/docs` serves of it.
const FILES: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    let archive = Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED);
    let mut archive = zip::ZipArchive::new(archive).map_err(io::Error::other)?;
    for name in FILES {
        let ending = format!("/dist/{name}");
        let at = archive.file_names().position(|path| path.is_ok_and(|path| path.ends_with(&ending)));
        let at = at.ok_or_else(|| io::Error::other(format!("the package has no {name}")))?;
        let mut file = archive.by_index_raw(at).map_err(io::Error::other)?;
        if file.compression() != zip::CompressionMethod::DEFLATE {
            return Err(io::Error::other(format!("{name} is compressed in another way")));
        }
        // Both formats hold the same stream: RFC 1952.
        let (crc, size) = (file.crc32(), file.size() as u32);
        let mut gzip = fs::File::create(Path::new(&out).join(format!("{name}.gz")))?;
        gzip.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff])?;
        let mut deflated = Vec::new();
        file.read_to_end(&mut deflated)?;
        gzip.write_all(&deflated)?;
        gzip.write_all(&crc.to_le_bytes())?;
        gzip.write_all(&size.to_le_bytes())?;
    }
    Ok(())
}
