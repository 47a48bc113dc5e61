//! Puts the pages of `reasons/` into the crate: a new page needs no line of code.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=reasons");
    let folder = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("reasons");
    let mut pages: Vec<_> = fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    let mut text = String::from("&[\n");
    for page in &pages {
        let name = page.file_stem().unwrap_or_default().to_string_lossy();
        let _ = writeln!(text, "    ({name:?}, include_str!({:?})),", page.display().to_string());
    }
    text.push(']');
    fs::write(Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("reasons.rs"), text)
}
