//! What a fresh Debian- or Ubuntu-like machine lacks, and how it gets it.
//!
//! Looking costs a few file lookups; only what is missing is installed, from the registries that the
//! machine's own tools are set up for, and each thing says why it is needed. Nothing is upgraded.
//! Who needs which package is said in `packages`.

pub(crate) mod debian;
mod drivers;
mod kubernetes;
mod newer;
mod packages;
mod suites;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use support::place;

pub(crate) use self::drivers::mitmproxy;
pub(crate) use self::kubernetes::{helm, kubernetes};
pub(crate) use self::newer::newer;
pub(crate) use self::suites::suites;
use crate::shell::{cargo, find, read, run};

/// The linker that goes with the pinned compiler: later ones need an LLVM of the system.
const BPF_LINKER: &str = "0.10.3";

/// Who needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// What compiles and lints.
    Build,
    /// `demo`.
    Demo,
    /// `e2e`.
    EndToEnd,
    /// `test`, and what else runs foreign suites.
    Test,
    /// `bench postgres`.
    Bench,
    /// `bench http`.
    Web,
    /// What builds a Kubernetes API server.
    Cluster,
    /// `e2e --vm`.
    Machines,
}

/// What runs need to know of what was set up.
pub(crate) struct Ready {
    /// PostgreSQL's programs.
    pub(crate) postgres: PathBuf,
    /// The drivers, for who needs them.
    pub(crate) drivers: Option<Drivers>,
}

/// What the clients of tests need.
pub(crate) struct Drivers {
    /// The Python environment with its drivers.
    pub(crate) python: PathBuf,
    /// npm's packages with node-pg and the provider.
    pub(crate) node: PathBuf,
}

/// What compiling needs.
pub(crate) fn build() -> anyhow::Result<()> {
    compiling(For::Build)
}

/// What emulated machines need.
pub(crate) fn machines() -> anyhow::Result<()> {
    compiling(For::Machines)
}

/// What a run needs that puts servers up.
pub(crate) fn servers(whom: For) -> anyhow::Result<Ready> {
    compiling(whom)?;
    installed()
}

/// The same where nothing is to be installed.
pub(crate) fn installed() -> anyhow::Result<Ready> {
    Ok(Ready {
        postgres: place::newest_postgres()
            .context("PostgreSQL is not there, or not after its installation")?,
        drivers: None,
    })
}

/// The same with the drivers.
pub(crate) fn clients(whom: For) -> anyhow::Result<Ready> {
    let ready = servers(whom)?;
    let drivers = Drivers {
        python: drivers::python()?,
        node: drivers::node()?,
    };
    Ok(Ready {
        drivers: Some(drivers),
        ..ready
    })
}

/// The packages, and what Rust's own tools install.
fn compiling(whom: For) -> anyhow::Result<()> {
    packages::install(whom)?;
    sources()?;
    linker()
}

/// The standard library's sources, from which `core` is built for the kernel's machine.
fn sources() -> anyhow::Result<()> {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print", "sysroot"])
        .current_dir(place::workspace());
    let sysroot = read(rustc).context("ask rustc where it lives")?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if core.is_dir() {
        return Ok(());
    }
    println!("setup: rust-src is missing: builds core for eBPF");
    let mut rustup = Command::new("rustup");
    rustup
        .args(["component", "add", "rust-src"])
        .current_dir(place::workspace());
    run(rustup).context("install it by hand: rustup component add rust-src")
}

fn linker() -> anyhow::Result<()> {
    let home = cargo_home()?;
    let known = find("bpf-linker").or_else(|| Some(home.join("bin/bpf-linker")));
    if let Some(linker) = known.filter(|linker| linker.is_file()) {
        let mut command = Command::new(&linker);
        command.arg("--version");
        // Another version is the user's own business where it is of the same line.
        if read(command).is_ok_and(|version| version.contains(" 0.10.")) {
            return Ok(());
        }
        println!("setup: {} is not of the 0.10 line", linker.display());
    }
    println!("setup: bpf-linker {BPF_LINKER} is missing: links the eBPF programs (a few minutes)");
    let version = format!("bpf-linker@{BPF_LINKER}");
    let mut install = cargo(&["install", "--locked", "--force", &version]);
    install.env_remove("CARGO_TARGET_DIR");
    run(install).with_context(|| format!("install it by hand: cargo install --locked {version}"))
}

/// Where `cargo install` puts programs; added to the path of the builds that are started from here.
pub(crate) fn cargo_home() -> anyhow::Result<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}
