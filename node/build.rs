//! Takes Swagger UI out of the package that vendors it, compressed as it is there; and compresses the files of the web console.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What `/docs` serves of it.
const FILES: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];
/// Where the console's files are.
const CONSOLE: &str = "console";
/// The script that imports all others; of these it is made one.
const ENTRY: &str = "app.js";

mod squeeze;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=squeeze.rs");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    swagger_ui(Path::new(&out))?;
    console(Path::new(&out))
}

fn swagger_ui(out: &Path) -> io::Result<()> {
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
        let mut gzip = fs::File::create(out.join(format!("{name}.gz")))?;
        gzip.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff])?;
        let mut deflated = Vec::new();
        file.read_to_end(&mut deflated)?;
        gzip.write_all(&deflated)?;
        gzip.write_all(&crc.to_le_bytes())?;
        gzip.write_all(&size.to_le_bytes())?;
    }
    Ok(())
}

/// Writes the table of the console's files, which `doors/http/console/files.rs` includes.
fn console(out: &Path) -> io::Result<()> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("cargo sets it"))?;
    let folder = Path::new(&manifest).join(CONSOLE);
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut paths = Vec::new();
    if folder.is_dir() {
        collect(&folder, &mut paths)?;
    }
    paths.sort();
    let packed = out.join("console_packed");
    fs::create_dir_all(&packed)?;
    let mut table = String::from("/// The files, in the order of their paths.\nstatic FILES: &[Embedded] = &[\n");
    for (number, path) in paths.iter().enumerate() {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.strip_prefix(&folder).map_err(io::Error::other)?;
        let name = name.to_str().ok_or_else(|| io::Error::other("a file's name is no text"))?;
        let Some(bytes) = embedded(&folder, name)? else { continue };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes)?;
        let (raw, gzip) = (packed.join(format!("{number}.raw")), packed.join(format!("{number}.gz")));
        fs::write(&raw, &bytes)?;
        fs::write(&gzip, encoder.finish()?)?;
        let tag = format!("\"{:016x}{:x}\"", hash(&bytes), bytes.len());
        writeln!(
            table,
            "    Embedded {{ path: {name:?}, raw: include_bytes!({raw:?}), gzip: include_bytes!({gzip:?}), tag: {tag:?} }},"
        )
        .map_err(io::Error::other)?;
    }
    table.push_str("];\n");
    fs::write(out.join("console_files.rs"), table)
}

/// What of a file goes into the program: scripts as one, all without what only their readers need. `None`: it is part of another.
fn embedded(folder: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let text = || fs::read_to_string(folder.join(name));
    Ok(Some(match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") if name == ENTRY => {
            squeeze::script(&squeeze::bundle(ENTRY, &mut |path| fs::read_to_string(folder.join(path)))?).into_bytes()
        }
        Some("js") => return Ok(None),
        Some("css") => squeeze::style(&text()?).into_bytes(),
        Some("html") => {
            let text = text()?;
            // There is nothing to load ahead: the script is one.
            let lines = text.lines().filter(|line| !line.contains("modulepreload"));
            lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
        }
        _ => fs::read(folder.join(name))?,
    }))
}

/// The files in a folder and below, without tests, texts and what is hidden.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') || name == "test" || name == "tests" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths)?;
        } else if !name.ends_with(".md") && !name.ends_with(".test.js") && !name.ends_with(".d.ts") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Tells one version of a file from another; nobody is kept out by it.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
