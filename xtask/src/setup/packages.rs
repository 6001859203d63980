//! Debian packages: which there are, who needs them, and how they are installed.

use std::fs;

use anyhow::{Context as _, bail};

use super::For;
use super::For::{Bench, Build, Cluster, Demo, EndToEnd, Machines, Test, Web};
use crate::root;
use crate::shell::{find, run_as};

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
    /// Who needs it.
    needed: &'static [For],
}

const EVERYBODY: &[For] = &[Build, Demo, EndToEnd, Test, Bench, Web, Machines];
const SERVERS: &[For] = &[Demo, EndToEnd, Test, Bench, Web];
const POOLERS: &[For] = &[EndToEnd, Test, Bench];
const CLIENTS: &[For] = &[EndToEnd, Test];
const BROWSERS: &[For] = &[EndToEnd, Test, Web];

/// A C compiler is none of them: without one this program would not be here.
const PACKAGES: [Package; 44] = [
    Package {
        name: "libclang-dev",
        why: "builds PostgreSQL's own grammar (pg_query)",
        sign: Sign::File("/usr/lib", "llvm-", "lib/libclang.so"),
        needed: EVERYBODY,
    },
    Package {
        name: "postgresql",
        why: "throw-away servers",
        sign: Sign::File("/usr/lib/postgresql", "", "bin/initdb"),
        needed: SERVERS,
    },
    Package {
        name: "postgresql-client",
        why: "the stock psql",
        sign: Sign::Program("psql"),
        needed: SERVERS,
    },
    Package {
        name: "pgbouncer",
        why: "a pooler as upstream, and what a hop costs that reads the protocol",
        sign: Sign::Program("pgbouncer"),
        needed: POOLERS,
    },
    Package {
        name: "haproxy",
        why: "what a bare TCP hop costs, and one from TLS to TLS",
        sign: Sign::Program("haproxy"),
        needed: &[Bench, Web],
    },
    Package {
        name: "nginx-light",
        why: "a server of HTTP that is faster than what stands before it",
        sign: Sign::Program("nginx"),
        needed: &[Web],
    },
    Package {
        name: "wrk",
        why: "asks for much over HTTP/1.1",
        sign: Sign::Program("wrk"),
        needed: &[Web],
    },
    Package {
        name: "nghttp2-client",
        why: "asks for much over HTTP/2",
        sign: Sign::Program("h2load"),
        needed: &[Web],
    },
    Package {
        name: "wget",
        why: "another client of HTTP",
        sign: Sign::Program("wget"),
        needed: CLIENTS,
    },
    Package {
        name: "tinyproxy-bin",
        why: "a proxy of a network's own, by CONNECT",
        sign: Sign::Program("tinyproxy"),
        needed: CLIENTS,
    },
    Package {
        name: "microsocks",
        why: "another, by SOCKS 5",
        sign: Sign::Program("microsocks"),
        needed: CLIENTS,
    },
    Package {
        name: "netcat-openbsd",
        why: "has ssh go through a proxy",
        sign: Sign::Program("nc"),
        needed: CLIENTS,
    },
    Package {
        name: "curl",
        why: "the stock client of HTTP",
        sign: Sign::Program("curl"),
        needed: BROWSERS,
    },
    Package {
        name: "python3",
        why: "runs the Python drivers",
        sign: Sign::File("/usr", "bin", "python3"),
        needed: BROWSERS,
    },
    Package {
        name: "python3-venv",
        why: "keeps the Python drivers out of the system",
        sign: Sign::File("/usr/lib", "python3.", "ensurepip/__init__.py"),
        needed: BROWSERS,
    },
    Package {
        name: "iproute2",
        why: "makes network namespaces",
        sign: Sign::Program("ip"),
        needed: CLIENTS,
    },
    Package {
        name: "runc",
        why: "runs containers that are agents",
        sign: Sign::Program("runc"),
        needed: CLIENTS,
    },
    Package {
        name: "docker.io",
        why: "runs containers that are agents, by their labels",
        sign: Sign::Program("dockerd"),
        needed: CLIENTS,
    },
    Package {
        name: "btrfs-progs",
        why: "makes a file system whose numbers are not the kernel's",
        sign: Sign::Program("mkfs.btrfs"),
        needed: CLIENTS,
    },
    Package {
        name: "podman",
        why: "runs containers that are agents, and makes their images",
        sign: Sign::Program("podman"),
        needed: CLIENTS,
    },
    Package {
        name: "containerd",
        why: "runs containers that are agents, as Kubernetes has it",
        sign: Sign::Program("ctr"),
        needed: CLIENTS,
    },
    Package {
        name: "busybox-static",
        why: "runs in the pods of a cluster's node",
        sign: Sign::Program("busybox"),
        needed: CLIENTS,
    },
    Package {
        name: "openssl",
        why: "makes the test servers' certificates",
        sign: Sign::Program("openssl"),
        needed: BROWSERS,
    },
    Package {
        name: "default-jdk-headless",
        why: "compiles and runs the client of JDBC",
        sign: Sign::Program("javac"),
        needed: CLIENTS,
    },
    Package {
        name: "libpostgresql-jdbc-java",
        why: "the driver of JDBC",
        sign: Sign::File("/usr/share", "java", "postgresql.jar"),
        needed: CLIENTS,
    },
    Package {
        name: "nodejs",
        why: "runs the client of node-pg and an OpenID Connect provider",
        sign: Sign::Program("node"),
        needed: CLIENTS,
    },
    Package {
        name: "npm",
        why: "installs node-pg and the provider",
        sign: Sign::Program("npm"),
        needed: CLIENTS,
    },
    Package {
        name: "chromium",
        why: "opens the console as people do",
        sign: Sign::Program("chromium"),
        needed: CLIENTS,
    },
    Package {
        name: "libpq-dev",
        why: "pip asks it for versions before it hands out psycopg2's source",
        sign: Sign::Program("pg_config"),
        needed: &[Test],
    },
    Package {
        name: "openssh-server",
        why: "throw-away SSH servers",
        sign: Sign::File("/usr", "sbin", "sshd"),
        needed: POOLERS,
    },
    Package {
        name: "openssh-client",
        why: "the stock ssh, scp and sftp",
        sign: Sign::Program("sftp"),
        needed: POOLERS,
    },
    Package {
        name: "dropbear-bin",
        why: "another client and another server of SSH",
        sign: Sign::Program("dbclient"),
        needed: CLIENTS,
    },
    Package {
        name: "xauth",
        why: "shows a screen over SSH",
        sign: Sign::Program("xauth"),
        needed: CLIENTS,
    },
    Package {
        name: "xvfb",
        why: "a screen that is shown over SSH",
        sign: Sign::Program("Xvfb"),
        needed: CLIENTS,
    },
    Package {
        name: "x11-utils",
        why: "draws on a screen over SSH",
        sign: Sign::Program("xdpyinfo"),
        needed: CLIENTS,
    },
    Package {
        name: "ssh-audit",
        why: "looks at what is offered to SSH",
        sign: Sign::Program("ssh-audit"),
        needed: CLIENTS,
    },
    Package {
        name: "rsync",
        why: "copies over SSH",
        sign: Sign::Program("rsync"),
        needed: CLIENTS,
    },
    Package {
        name: "git",
        why: "clones and pushes over SSH",
        sign: Sign::Program("git"),
        needed: CLIENTS,
    },
    Package {
        name: "etcd-server",
        why: "what a Kubernetes API server keeps its objects in",
        sign: Sign::Program("etcd"),
        needed: CLIENTS,
    },
    Package {
        name: "golang-1.19-go",
        why: "builds a Kubernetes API server, which no package has",
        sign: Sign::File("/usr/lib", "go-1.19", "bin/go"),
        needed: &[Cluster],
    },
    Package {
        name: "sqlsmith",
        why: "makes random statements",
        sign: Sign::Program("sqlsmith"),
        needed: &[Test],
    },
    Package {
        name: "qemu-system-x86",
        why: "emulates machines with other kernels",
        sign: Sign::Program("qemu-system-x86_64"),
        needed: &[Machines],
    },
    Package {
        name: "debootstrap",
        why: "makes their root file system",
        sign: Sign::Program("debootstrap"),
        needed: &[Machines],
    },
    Package {
        name: "cpio",
        why: "packs what they have in memory",
        sign: Sign::Program("cpio"),
        needed: &[Machines],
    },
];

/// Installs what is missing of what `whom` needs. No service that comes along is started or enabled.
pub(super) fn install(whom: For) -> anyhow::Result<()> {
    let missing: Vec<&Package> = needed(whom)
        .filter(|package| !is_there(&package.sign))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("setup: {} is missing: {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if find("apt-get").is_none() {
        bail!(
            "this machine has no apt-get; install what these Debian packages hold: {}",
            names.join(" ")
        );
    }
    let mut script = root::command("sh", &format!("install {}", names.join(", ")))?;
    script
        .args(["-c", include_str!("install.sh"), "install"])
        .args(&names);
    let shown = format!("apt-get install {}", names.join(" "));
    run_as(script, &shown).with_context(|| format!("install them by hand: sudo {shown}"))
}

fn needed(whom: For) -> impl Iterator<Item = &'static Package> {
    PACKAGES
        .iter()
        .filter(move |package| package.needed.contains(&whom))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_what_it_needs_and_no_more() {
        let names = |whom| -> Vec<_> { needed(whom).map(|package| package.name).collect() };
        assert_eq!(names(Build), ["libclang-dev"]);
        let demo = ["libclang-dev", "postgresql", "postgresql-client"];
        assert_eq!(names(Demo), demo);
        for (whom, more) in [
            (EndToEnd, "default-jdk-headless"),
            (Test, "sqlsmith"),
            (Bench, "haproxy"),
            (Web, "nginx-light"),
        ] {
            let names = names(whom);
            assert!(demo.iter().all(|name| names.contains(name)), "{names:?}");
            assert!(names.contains(&more), "{names:?}");
        }
        assert_eq!(names(Cluster), ["golang-1.19-go"]);
        assert!(!names(Bench).contains(&"nodejs"));
        assert!(!names(Web).contains(&"nodejs"));
        assert!(!names(Test).contains(&"haproxy"));
    }
}
