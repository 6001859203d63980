//! What a fresh Debian- or Ubuntu-like machine lacks, and how it gets it.
//!
//! Looking costs a few file lookups; only what is missing is installed, from the registries that the
//! machine's own tools are set up for, and each thing says why it is needed. Nothing is upgraded.

mod suites;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use support::place;

pub(crate) use self::suites::suites;
use crate::root;
use crate::shell::{cargo, find, read, run};

/// The linker that goes with the pinned compiler: later ones need an LLVM of the system.
const BPF_LINKER: &str = "0.10.3";
const DRIVERS: [&str; 5] = [
    "psycopg2-binary==2.9.13",
    "psycopg[binary]==3.3.9",
    "psycopg-pool==3.3.3",
    "asyncpg==0.32.0",
    "SQLAlchemy[asyncio]==2.1.9",
];

/// The driver of Node.js, without dependencies outside of its own family, and an OpenID Connect provider.
const NODE_PACKAGES: [&str; 2] = ["pg@8.23.1", "oidc-provider@9.13.3"];

/// How the machine shows that it has something.
enum Sign {
    /// A program on the path.
    Program(&'static str),
    /// A file below a directory whose name begins so: `("/usr/lib", "llvm-", "lib/libclang.so")`.
    File(&'static str, &'static str, &'static str),
}

struct Package {
    name: &'static str,
    why: &'static str,
    sign: Sign,
}

const PACKAGES: [Package; 13] = [
    Package {
        name: "libclang-dev",
        why: "builds PostgreSQL's own grammar (pg_query)",
        sign: Sign::File("/usr/lib", "llvm-", "lib/libclang.so"),
    },
    Package {
        name: "build-essential",
        why: "compiles the C parts of dependencies",
        sign: Sign::Program("cc"),
    },
    Package {
        name: "postgresql",
        why: "throw-away servers for tests, demo and bench",
        sign: Sign::File("/usr/lib/postgresql", "", "bin/initdb"),
    },
    Package {
        name: "postgresql-client",
        why: "the stock psql",
        sign: Sign::Program("psql"),
    },
    Package {
        name: "pgbouncer",
        why: "a pooler as upstream, and what a hop costs that reads the protocol",
        sign: Sign::Program("pgbouncer"),
    },
    Package {
        name: "python3",
        why: "runs the Python drivers",
        sign: Sign::File("/usr", "bin", "python3"),
    },
    Package {
        name: "python3-venv",
        why: "keeps the Python drivers out of the system",
        sign: Sign::File("/usr/lib", "python3.", "ensurepip/__init__.py"),
    },
    Package {
        name: "iproute2",
        why: "makes network namespaces",
        sign: Sign::Program("ip"),
    },
    Package {
        name: "openssl",
        why: "makes the test servers' certificates",
        sign: Sign::Program("openssl"),
    },
    Package {
        name: "default-jdk-headless",
        why: "compiles and runs the client of JDBC",
        sign: Sign::Program("javac"),
    },
    Package {
        name: "libpostgresql-jdbc-java",
        why: "the driver of JDBC",
        sign: Sign::File("/usr/share", "java", "postgresql.jar"),
    },
    Package {
        name: "nodejs",
        why: "runs the client of node-pg and an OpenID Connect provider",
        sign: Sign::Program("node"),
    },
    Package {
        name: "npm",
        why: "installs node-pg and the provider",
        sign: Sign::Program("npm"),
    },
];

const BENCH_PACKAGES: [Package; 1] = [Package {
    name: "haproxy",
    why: "what a bare TCP hop costs",
    sign: Sign::Program("haproxy"),
}];

/// What later steps need to know of what was set up.
pub(crate) struct Ready {
    /// PostgreSQL's programs.
    pub(crate) postgres: PathBuf,
    /// The Python environment with the drivers.
    pub(crate) drivers: PathBuf,
    /// npm's packages with node-pg and the provider.
    pub(crate) node: PathBuf,
}

/// Everything that check, test and demo need.
pub(crate) fn all() -> anyhow::Result<Ready> {
    build()?;
    let drivers = drivers()?;
    Ok(Ready {
        postgres: place::newest_postgres()
            .context("PostgreSQL is not there after its installation")?,
        drivers,
        node: node_packages()?,
    })
}

/// What compiling needs.
pub(crate) fn build() -> anyhow::Result<()> {
    packages(&PACKAGES)?;
    sources()?;
    linker()
}

/// What only the bench needs.
pub(crate) fn bench() -> anyhow::Result<()> {
    packages(&BENCH_PACKAGES)
}

fn packages(packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<&Package> = packages
        .iter()
        .filter(|package| !is_there(&package.sign))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("setup: {} is missing: {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let by_hand = format!("sudo apt-get install {}", names.join(" "));
    if find("apt-get").is_none() {
        bail!(
            "this machine has no apt-get; install what these Debian packages hold: {}",
            names.join(" ")
        );
    }
    let why = format!("install {}", names.join(", "));
    let apt = |arguments: &[&str]| -> anyhow::Result<()> {
        let mut command = root::command("env", &why)?;
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
        command.args(arguments);
        run(command)
    };
    let quiet = names.contains(&"postgresql") && no_cluster(true).is_ok();
    let installed = apt(&["update"]).and_then(|()| {
        apt(&[
            &["install", "-y", "--no-install-recommends"],
            names.as_slice(),
        ]
        .concat())
    });
    if quiet {
        no_cluster(false)?;
    }
    installed.with_context(|| format!("install them by hand: {by_hand}"))
}

/// Debian starts a server of its own with the package; this keeps it from doing so, for the time of
/// the installation, where the machine's settings read the directory.
fn no_cluster(on: bool) -> anyhow::Result<()> {
    const FILE: &str = "/etc/postgresql-common/createcluster.d/interceptor.conf";
    let script = if on {
        format!("mkdir -p \"$(dirname {FILE})\" && echo 'create_main_cluster = false' > {FILE}")
    } else {
        format!("rm -f {FILE}")
    };
    let mut command = root::command("sh", "install PostgreSQL without starting a server")?;
    command.args(["-c", &script]);
    read(command).map(drop)
}

fn is_there(sign: &Sign) -> bool {
    match *sign {
        Sign::Program(name) => find(name).is_some(),
        Sign::File(directory, beginning, file) => fs::read_dir(directory)
            .map(|entries| {
                entries.flatten().any(|entry| {
                    entry.file_name().to_string_lossy().starts_with(beginning)
                        && entry.path().join(file).exists()
                })
            })
            .unwrap_or(false),
    }
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

/// An environment of the system's Python with the drivers, made once for each list of them.
fn drivers() -> anyhow::Result<PathBuf> {
    let name = DRIVERS.join("-").replace(
        |letter: char| !letter.is_ascii_alphanumeric() && letter != '.',
        "-",
    );
    let directory = place::cache()?.join(format!("python-{name}"));
    let python = directory.join("bin/python");
    let done = directory.join("complete");
    if done.is_file() && python.exists() {
        return Ok(directory);
    }
    println!("setup: Python drivers are missing: {}", DRIVERS.join(", "));
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let mut venv = Command::new("/usr/bin/python3");
    venv.args(["-m", "venv"]).arg(&directory);
    run(venv).context("make it by hand: sudo apt-get install python3-venv")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(DRIVERS);
    run(pip).with_context(|| format!("install by hand into {}", directory.display()))?;
    fs::write(&done, "").context("mark the Python environment as complete")?;
    Ok(directory)
}

/// npm's packages in a directory of their own. Nothing that a package brings is run at its installation.
fn node_packages() -> anyhow::Result<PathBuf> {
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
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
        .args(["--no-update-notifier", "--loglevel=error", "--prefix"])
        .arg(&directory)
        .args(NODE_PACKAGES);
    run(npm).with_context(|| format!("install by hand into {}", directory.display()))?;
    fs::write(&done, "").context("mark the packages of Node.js as complete")?;
    Ok(modules)
}
