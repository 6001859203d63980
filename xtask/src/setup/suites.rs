//! Foreign suites: the sources of packages that bring the tests which we run through the daemon.
//!
//! Fetched by pip as PyPI has them, and by apt as Debian has them, unpacked in the cache, never built or installed. Nothing of them is
//! part of this tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use support::place;

use super::Ready;
use crate::shell::run;

/// What has which tests: pglast vendors PostgreSQL 15's regression SQL, the others bring their own.
const SOURCES: [(&str, &str); 6] = [
    ("pglast", "5.10"),
    ("psycopg2", "2.9.13"),
    ("asyncpg", "0.32.0"),
    ("sqlalchemy", "2.1.9"),
    ("asyncssh", "2.24.0"),
    ("paramiko", "5.1.0"),
];

/// What the tests of asyncpg, SQLAlchemy and paramiko stand on beside those.
const BESIDE: [&str; 12] = [
    "asttokens==3.0.2",
    "colorama==0.4.6",
    "decorator==5.3.1",
    "distro==1.9.0",
    "executing==2.3.0",
    "icecream==2.2.0",
    "iniconfig==2.3.1",
    "packaging==26.4",
    "pluggy==1.7.0",
    "pygments==2.21.0",
    "pytest==9.2.0",
    "pytest-relaxed==2.0.2",
];

/// The directory of the unpacked sources. The pip of the drivers' Python fetches them.
pub(crate) fn suites(ready: &Ready) -> anyhow::Result<PathBuf> {
    let drivers = ready
        .drivers
        .as_ref()
        .context("the suites run through the drivers")?;
    let named = SOURCES.map(|(name, version)| format!("{name}-{version}"));
    // All of their names would be longer than a file's may be.
    let list = place::fingerprint(&format!("{} {}", named.join(" "), BESIDE.join(" ")));
    let directory = place::cache()?.join(format!("suites-{list:08x}"));
    let done = directory.join("complete");
    if done.is_file() {
        return openssh(&directory).map(|()| directory);
    }
    println!("setup: foreign suites are missing: {}", named.join(", "));
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let python = drivers.python.join("bin/python");
    let pip = || {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
        pip
    };
    for (name, version) in SOURCES {
        let mut download = pip();
        download
            .args(["download", "--no-deps", "--no-binary", name, "--dest"])
            .arg(&directory)
            .arg(format!("{name}=={version}"));
        run(download).with_context(|| format!("fetch the source of {name}"))?;
        let mut tar = Command::new("tar");
        tar.arg("-xzf")
            .arg(directory.join(format!("{name}-{version}.tar.gz")))
            .arg("-C")
            .arg(&directory);
        run(tar).with_context(|| format!("unpack the source of {name}"))?;
    }
    let mut install = pip();
    install
        .args(["install", "--no-deps", "--target"])
        .arg(directory.join("python"))
        .args(BESIDE);
    run(install).context("fetch what the suites import")?;
    fs::write(&done, "").context("mark the suites as complete")?;
    openssh(&directory).map(|()| directory)
}

/// OpenSSH's scripts, as Debian ships them beside the OpenSSH that is installed. What their package asks for
/// besides is for scripts that are not run.
fn openssh(directory: &Path) -> anyhow::Result<()> {
    let unpacked = directory.join("openssh-tests");
    if unpacked.is_dir() {
        return Ok(());
    }
    let fresh = directory.join("openssh.fresh");
    drop(fs::remove_dir_all(&fresh));
    fs::create_dir_all(&fresh).with_context(|| format!("make {}", fresh.display()))?;
    let mut fetch = Command::new("sh");
    fetch
        .args([
            "-c",
            "apt-get --quiet download openssh-tests && dpkg-deb -x ./*.deb .",
        ])
        .current_dir(&fresh);
    run(fetch).context("fetch and unpack the Debian package openssh-tests")?;
    fs::rename(&fresh, &unpacked).context("put OpenSSH's scripts in their place")
}
