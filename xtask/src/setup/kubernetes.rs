//! A real Kubernetes API server and its `kubectl`, built once from Debian's source package into the cache.
//!
//! Nobody hands them out as a package; the source holds all that it needs, so that nothing else is fetched. It takes
//! about seven minutes of one core, and is bounded.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use support::place;

use super::For;
use super::debian::Apt;
use super::packages;
use crate::shell::run;

/// The source package: the last one that has the server.
const SOURCE: &str = "kubernetes=1.20.5+really1.20.2-1.1+deb12u1";

/// The directory of the two programs.
pub(crate) fn kubernetes() -> anyhow::Result<PathBuf> {
    let directory = place::kubernetes_cache()?;
    let done = directory.join("complete");
    if done.is_file() {
        return Ok(directory);
    }
    packages::install(For::Cluster)?;
    println!(
        "setup: a Kubernetes API server is missing: it is built from Debian's source (about seven minutes)"
    );
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let apt = Apt::new("deb-src", "bookworm", &directory)?;
    run(apt.get(&["-qq", "source", "--download-only", SOURCE]))?;
    let mut build = Command::new("timeout");
    build
        .args([
            "50m",
            "sh",
            "-c",
            include_str!("kubernetes.sh"),
            "kubernetes",
        ])
        .arg(&directory)
        .arg(apt.directory());
    run(build).context("build Kubernetes; see xtask/src/setup/kubernetes.sh")?;
    fs::remove_dir_all(apt.directory()).context("remove the source")?;
    fs::write(&done, "").context("mark Kubernetes as complete")?;
    Ok(directory)
}
