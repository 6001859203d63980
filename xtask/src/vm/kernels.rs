//! Debian's kernels: which, and how they are fetched. Pinned by version and hash, kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::setup::debian::Apt;
use crate::shell::{read, run};

/// One kernel.
pub(crate) struct Kernel {
    /// How it is asked for.
    pub(crate) name: &'static str,
    /// Whose it is.
    suite: &'static str,
    packages: &'static [Package],
}

struct Package {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
}

/// The floor, those of Debian 12 and 13, and the newest.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel {
        name: "5.10",
        suite: "bullseye-security",
        packages: &[Package {
            name: "linux-image-5.10.0-46-cloud-amd64",
            version: "5.10.262-1",
            sha256: "18d94781d1b3052e21967ac2262239e5f14fbf511d6c3e110629d7aa35340760",
        }],
    },
    Kernel {
        name: "6.1",
        suite: "bookworm-security",
        packages: &[Package {
            name: "linux-image-6.1.0-56-cloud-amd64",
            version: "6.1.192-2",
            sha256: "e7d02b943971edcb8790e256c02cfab3bca6c3d37c1bf25392a57c71300615ee",
        }],
    },
    Kernel {
        name: "6.12",
        suite: "trixie-security",
        packages: &[Package {
            name: "linux-image-6.12.118+deb13-cloud-amd64",
            version: "6.12.118-1",
            sha256: "07f23ba1de88377d700e1e2f5b2ee495ff89b0d0bb73fdbd3eac8f6b27609b9a",
        }],
    },
    Kernel {
        name: "7.3",
        suite: "trixie-backports",
        packages: &[
            Package {
                name: "linux-binary-7.3.4+deb13-cloud-amd64",
                version: "7.3.4-1~bpo13+1",
                sha256: "c4fbc8e404958693b28825474c20742d70594d65ca58aea7be6a279c81eb6fa0",
            },
            Package {
                name: "linux-modules-7.3.4+deb13-cloud-amd64",
                version: "7.3.4-1~bpo13+1",
                sha256: "359f04c363b7d3c5f9ce999ccb7351e00cc8eec0a30d6bc1cda37734987fc43d",
            },
        ],
    },
];

/// Modules that tests need where they are no part of the kernel.
const MODULES: [&str; 7] = [
    "dummy",
    "veth",
    "tun",
    "vsock",
    "sctp",
    "libcrc32c",
    "vmw_vsock_virtio_transport_common",
];

/// What a kernel boots from.
pub(crate) struct Fetched {
    /// The compressed kernel.
    pub(crate) image: PathBuf,
    /// An archive of its modules.
    pub(crate) modules: PathBuf,
}

/// Fetches, checks and unpacks a kernel, once.
pub(crate) fn fetch(kernel: &Kernel, cache: &Path) -> anyhow::Result<Fetched> {
    let versions: Vec<_> = kernel.packages.iter().map(|one| one.version).collect();
    let directory = cache.join(versions.join("-"));
    let fetched = Fetched {
        image: directory.join("vmlinuz"),
        modules: directory.join("modules.cpio"),
    };
    if fetched.modules.is_file() {
        return Ok(fetched);
    }
    drop(fs::remove_dir_all(&directory));
    let apt = Apt::new("deb", kernel.suite, &directory)?;
    for package in kernel.packages {
        let file = download(&apt, package)?;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(file).arg(directory.join("all"));
        run(unpack)?;
    }
    let mut keep = Command::new("sh");
    keep.args(["-c", include_str!("modules.sh"), "modules"])
        .arg(&directory)
        .args(MODULES);
    read(keep).context("keep what a machine boots from")?;
    Ok(fetched)
}

/// One package's file, if it is what was pinned.
fn download(apt: &Apt, package: &Package) -> anyhow::Result<PathBuf> {
    let pinned = format!("{}={}", package.name, package.version);
    run(apt.get(&["-qq", "download", &pinned])).with_context(|| {
        format!("{pinned} is gone; pin what replaced it in xtask/src/vm/kernels.rs")
    })?;
    let file = fs::read_dir(apt.directory())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(package.name) && name.ends_with(".deb")
        });
    let file = file.with_context(|| format!("apt-get left no file of {pinned}"))?;
    let mut sum = Command::new("sha256sum");
    sum.arg(&file);
    if !read(sum)?.starts_with(package.sha256) {
        bail!(
            "{} is not what was pinned: its SHA-256 is another",
            file.display()
        );
    }
    Ok(file)
}
