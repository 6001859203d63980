//! What the demo could leave behind: cgroups, mounts, directories and processes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use support::cgroup;

use super::story::Stage;

/// Where a stage can be seen on the machine.
pub(super) struct Traces {
    cgroups: [PathBuf; 3],
    directories: [PathBuf; 2],
}

impl Traces {
    /// Those of one that is up.
    pub(super) fn of(stage: &Stage) -> anyhow::Result<Self> {
        let Stage { daemon, server } = stage;
        let mount = cgroup::mount()?;
        let home = daemon.process().context("the daemon is gone")?.pid();
        let home = fs::read_to_string(format!("/proc/{home}/cgroup"))?;
        let home = home.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = home.context("the daemon is in no cgroup")?;
        let above = |file: &Path| file.parent().map(Path::to_path_buf);
        Ok(Self {
            cgroups: [daemon.run_parent(), daemon.scope(), home].map(|path| mount.join(path)),
            directories: [
                above(&daemon.config()).context("the daemon has no directory")?,
                above(&server.data()).context("the server has no directory")?,
            ],
        })
    }

    /// Fails where one is still there.
    pub(super) fn are_gone(&self) -> anyhow::Result<()> {
        for path in self.cgroups.iter().chain(&self.directories) {
            ensure!(!path.exists(), "{} is still there", path.display());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points {
            ensure!(!self.is_ours(point), "{point} is still mounted");
        }
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_process = name.parse::<u32>().is_ok();
            ensure!(
                !(is_process && self.works_there(&entry.path())),
                "process {name} still runs"
            );
        }
        Ok(())
    }

    /// Whether a process was started with one of the directories, or is in it.
    fn works_there(&self, process: &Path) -> bool {
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let is_in = fs::read_link(process.join("cwd")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        self.is_ours(&is_in.to_string_lossy()) || words.any(|word| self.is_ours(&word))
    }

    fn is_ours(&self, path: &str) -> bool {
        let mut directories = self.directories.iter();
        directories.any(|directory| path.contains(&*directory.to_string_lossy()))
    }
}
