//! Debian's packages that this machine's own apt does not offer, from the mirror that it does use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::shell::{self, read, run};

/// apt with a source and a state of its own: nothing of the machine is touched.
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Knows one suite: `deb` of programs, `deb-src` of sources. Keeps what it has below `directory`.
    pub(crate) fn new(kind: &str, suite: &str, directory: &Path) -> anyhow::Result<Self> {
        for below in ["lists/partial", "archives/partial"] {
            let below = directory.join("apt").join(below);
            fs::create_dir_all(&below).with_context(|| format!("make {}", below.display()))?;
        }
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let source = format!(
            "{kind} [signed-by={keys}] {} {suite} main\n",
            mirror(suite)?
        );
        let apt = Self {
            directory: directory.join("apt"),
        };
        fs::write(apt.directory.join("sources.list"), source).context("name the source")?;
        run(apt.get(&["-qq", "update"]))
            .with_context(|| format!("the mirror of this machine has no suite {suite}"))?;
        Ok(apt)
    }

    /// `apt-get`, which leaves what it downloads in its directory.
    pub(crate) fn get(&self, arguments: &[&str]) -> Command {
        let at = |below: &str| shell::text(&self.directory.join(below));
        let mut command = Command::new("apt-get");
        for (key, value) in [
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Dir::State", at("")),
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Cache", at("")),
            ("APT::Sandbox::User", String::new()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command.args(arguments).current_dir(&self.directory);
        command
    }

    /// Where it downloads to.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Where the machine's own apt finds Debian, or Debian's security.
pub(crate) fn mirror(suite: &str) -> anyhow::Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)"]);
    let known = read(targets).context("ask apt where it finds packages")?;
    let wanted = |uri: &&str| {
        uri.contains("debian") && uri.contains("debian-security") == suite.ends_with("-security")
    };
    let found = known.lines().find(wanted).with_context(|| {
        format!("the apt of this machine knows no mirror of Debian that could have {suite}")
    })?;
    Ok(found.to_owned())
}
