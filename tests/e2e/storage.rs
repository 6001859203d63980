//! A full disk refuses; it does not forget, and what was written stays whole.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::{DEADLINE, Postgres, place};

use crate::lab::{self, Lab, has};

/// A small disk of the test's own.
struct Disk {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Disk {
    fn new(size: &str) -> Result<Self> {
        lab::needs_root()?;
        let directory = place::temporary("disk")?;
        let path = directory.path().join("mount");
        fs::create_dir(&path)?;
        let options = format!("size={size},mode=0755");
        mount(
            Some("none"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .context("mount a small disk")?;
        Ok(Self {
            _directory: directory,
            path,
        })
    }

    /// Takes every byte that is left.
    fn fill(&self) -> Result<PathBuf> {
        let file = self.path.join("filler");
        let mut filler = fs::File::create(&file)?;
        for size in [64 * 1024, 4096, 512, 1] {
            let block = vec![b'x'; size];
            while filler.write_all(&block).is_ok() {}
        }
        Ok(file)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if umount2(&self.path, MntFlags::MNT_DETACH).is_err() {
            // It was never mounted.
        }
    }
}

fn lab_on(disk: &Path, durability: &'static str) -> Result<Lab> {
    Lab::over(Postgres::start()?, |settings| {
        settings.state = Some(disk.join("state"));
        settings.durability = durability;
        settings.audit = vec!["segment: 64KiB".to_owned()];
        "recording:\n  segment: 64KiB\n".clone_into(&mut settings.more);
    })
}

#[test]
fn a_full_disk_refuses_requests_and_loses_nothing_that_was_written() -> Result<()> {
    for durability in ["relaxed", "strict"] {
        let disk = Disk::new("8m")?;
        let lab = lab_on(&disk.path, durability)?;
        lab.psql(&["select 1"])?.ok()?;
        lab.daemon
            .audit()
            .wait_for("session.closed", DEADLINE, |_| true)?;
        let before = lab.daemon.audit().lines()?;
        let filler = disk.fill()?;
        let mut refusals = 0;
        for _ in 0..200 {
            let finished =
                lab.psql(&["insert into orders select max(id) + 1, 1, 'x', 1 from orders"])?;
            if !finished.status.success() {
                refusals += 1;
                has(&finished.stderr, &["cannot be written"])?;
                break;
            }
        }
        ensure!(refusals > 0, "a full disk never refused");
        // Who cannot be written down as a reader reads nothing; until then each reading takes its line.
        let which = "x".repeat(100_000);
        let read = || lab.daemon.cli(&["audit", "show", "--event", &which]);
        let mut reader = read()?;
        for _ in 0..100 {
            if !reader.status.success() {
                break;
            }
            reader = read()?;
        }
        ensure!(!reader.status.success(), "every reader reads");
        ensure!(reader.stdout.is_empty(), "read: {}", reader.stdout);
        has(&reader.stderr, &["cannot write to the audit"])?;
        let inserted: usize = lab
            .server
            .admin("select count(*) from orders where item = 'x'")?
            .trim()
            .parse()?;
        let permitted = lab
            .daemon
            .audit()
            .events("request.permitted")?
            .iter()
            .filter(|line| {
                line["summary"]
                    .as_str()
                    .is_some_and(|words| words.contains("INSERT"))
            })
            .count();
        ensure!(
            permitted >= inserted,
            "{inserted} inserts ran, {permitted} are in the audit"
        );
        let after = lab.daemon.audit().lines()?;
        ensure!(after.starts_with(&before), "what was written changed");
        fs::remove_file(filler)?;
        lab.psql(&["select 1"])?
            .ok()
            .context("there is room again")?;
        lab.daemon.cli(&["audit", "verify"])?.ok()?;
    }
    Ok(())
}

#[test]
fn a_session_whose_recording_cannot_begin_is_a_refusal_in_the_audit() -> Result<()> {
    let lab = Lab::new()?;
    let recordings = lab.daemon.state().join("recordings");
    fs::remove_dir_all(&recordings)?;
    fs::write(&recordings, "no directory")?;
    let finished = lab.psql(&["select 1"])?;
    ensure!(!finished.status.success(), "it began all the same");
    let line = lab
        .daemon
        .audit()
        .wait_for("connection.refused", DEADLINE, |_| true)?;
    ensure!(line["refusal"]["kind"] == "storage", "{line}");
    Ok(())
}
