//! What a machine has in memory: a small Debian, once, and the tests with the program, each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use support::place;
use tempfile::TempDir;

use crate::root;
use crate::setup::debian::mirror;
use crate::shell::{self, read, run_as};

/// The release whose C library is no newer than what the tests were linked with.
const RELEASE: &str = "bookworm";

/// What the kernel tier runs, and the service stands on.
const INCLUDE: &str = "python3,iproute2,kmod,procps,systemd-sysv";

/// What the program is installed with.
const SERVICE: [(&str, &str); 7] = [
    ("service.sh", include_str!("service/service.sh")),
    ("tier.service", include_str!("service/tier.service")),
    ("config.yaml", include_str!("service/config.yaml")),
    ("agent.py", include_str!("service/agent.py")),
    ("far.py", include_str!("service/far.py")),
    ("probe.py", include_str!("service/probe.py")),
    ("removal.sh", include_str!("service/removal.sh")),
];

/// An archive of a small Debian, made once.
pub(super) fn base(cache: &Path) -> anyhow::Result<PathBuf> {
    let archive = cache.join(format!("{RELEASE},{INCLUDE}.cpio"));
    if archive.is_file() {
        return Ok(archive);
    }
    fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    let mut make = root::command("sh", "make a root file system")?;
    make.args(["-c", include_str!("base.sh"), "base"])
        .arg(&archive)
        .args([RELEASE, &mirror(RELEASE)?, INCLUDE]);
    run_as(make, &format!("debootstrap {RELEASE}"))?;
    Ok(archive)
}

/// The tests and the program, without what only a debugger reads.
pub(super) struct Payload {
    /// Removed when dropped.
    _directory: TempDir,
    /// The archive.
    pub(super) archive: PathBuf,
}

/// Packs them with the first process.
pub(super) fn payload(tests: &Path, program: &Path) -> anyhow::Result<Payload> {
    let directory = place::temporary("vm")?;
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("tier/tests")).context("make a place for the tests")?;
    for (from, to) in [(tests, "tier/kernel"), (program, "tier/interceptor")] {
        let mut strip = Command::new("strip");
        strip.arg("-s").arg("-o").arg(tree.join(to)).arg(from);
        read(strip).context("the C compiler's `strip`")?;
    }
    fs::write(tree.join("init"), include_str!("init.sh")).context("write the first process")?;
    service(&tree.join("tier"))?;
    let archive = directory.path().join("payload.cpio");
    let mut pack = Command::new("sh");
    let script = "chmod 755 \"$1/init\" && cd \"$1\" && find . | cpio -o -H newc --quiet > \"$2\"";
    pack.args(["-c", script, "pack", &shell::text(&tree)])
        .arg(&archive);
    read(pack).context("pack the tests")?;
    Ok(Payload {
        _directory: directory,
        archive,
    })
}

/// What README's installation takes, and what tries it.
fn service(tier: &Path) -> anyhow::Result<()> {
    let directory = tier.join("service");
    fs::create_dir(&directory).context("make a place for the service")?;
    for (name, text) in SERVICE {
        fs::write(directory.join(name), text).with_context(|| format!("write {name}"))?;
    }
    let workspace = place::workspace();
    for (from, to) in [
        ("interceptor/systemd/interceptor.service", &directory),
        ("interceptor/systemd/agent.conf", &directory),
        ("policies/starter", &tier.join("policies")),
    ] {
        let mut copy = Command::new("cp");
        copy.arg("-rL").arg(workspace.join(from)).arg(to);
        read(copy).with_context(|| format!("copy {from}"))?;
    }
    Ok(())
}
