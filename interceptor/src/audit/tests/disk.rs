//! What the log does when there is no space left.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use tempfile::TempDir;

use super::{
    assert_whole, events, finished, lost, open, outcome, segments, settings, waited, written,
};
use crate::audit::{Error, Sink as _, finish_bytes, verify};
use crate::clock;

/// A file system of its own, so small that it can be filled.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(crate) fn mount(options: &str) -> Self {
        let at = tempfile::tempdir().expect("a temporary directory");
        let mounted = nix::mount::mount(
            Some("tmpfs"),
            at.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options),
        );
        mounted.expect("this test mounts a tmpfs: run it as root");
        Self(at)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left; removing the file gives it back.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        for size in [64 << 10, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
    }
}

#[test]
fn a_full_disk_refuses_new_lines_takes_reserved_ones_and_mends_itself_needs_root() {
    let disk = SmallDisk::mount("size=2m,mode=0700");
    let dir = disk.path().join("audit");
    let log = open(&dir, &settings(256 << 10));
    let principal =
        RawValue::from_string(format!("{{\"agent\":\"{}\"}}", "p".repeat(1000))).unwrap();
    let outcome = outcome("ok");
    let reserved: Vec<_> = (0..50)
        .map(|_| log.reserve(finish_bytes(Some(&principal))).expect("space"))
        .collect();
    let ballast = disk.fill();
    let mut written = 0;
    while log.append(&finished(Some(&principal), &outcome)).is_ok() {
        written += 1;
    }
    while log.append(&lost(1)).is_ok() {}
    assert!(matches!(log.reserve(64 << 10), Err(Error::Full { .. })));
    for (number, reservation) in reserved.into_iter().enumerate() {
        let line = finished(Some(&principal), &outcome);
        let taken = match number % 2 {
            0 => log.append_reserved(reservation, &line).map(drop),
            _ => log.append_later(reservation, &line),
        };
        taken.expect("its space was reserved");
        // A line that finds no space takes none with it that was put off.
        written += usize::from(log.append(&line).is_ok());
    }
    let since = clock::boot();
    while events(&dir, "request.finished").len() != written + 50 && waited(since) {
        std::thread::yield_now();
    }
    assert!(verify(&dir).expect("a report").is_whole());
    fs::remove_file(ballast).unwrap();
    log.append(&lost(2)).expect("there is space again");
    log.close().expect("a closed log");
    assert_whole(&dir);
    let lost = events(&dir, "log.lost");
    let count: u64 = lost.iter().filter_map(|line| line["count"].as_u64()).sum();
    assert!(count >= 2, "what did not fit is at least counted: {lost:?}");
}

#[test]
fn a_log_on_a_full_disk_opens_refuses_and_mends_itself_needs_root() {
    let disk = SmallDisk::mount("size=1m,mode=0700");
    let dir = disk.path().join("audit");
    written(&dir, 5, 1 << 20);
    let ballast = disk.fill();
    let log = open(&dir, &settings(1 << 20));
    while log.append(&lost(7)).is_ok() {}
    assert!(matches!(log.append(&lost(7)), Err(Error::Full { .. })));
    fs::remove_file(ballast).unwrap();
    log.append(&lost(8)).expect("there is space again");
    log.close().expect("a closed log");
    assert_whole(&dir);
}

#[test]
fn the_next_segment_waits_for_space_while_promises_are_kept_needs_root() {
    let disk = SmallDisk::mount("size=1m,mode=0700");
    let dir = disk.path().join("audit");
    let log = open(&dir, &settings(1024));
    let reserved: Vec<_> = (0..100)
        .map(|_| log.reserve(1024).expect("space"))
        .collect();
    let ballast = disk.fill();
    let before = segments(&dir).len();
    let outcome = outcome("ok");
    for reservation in reserved {
        log.append_reserved(reservation, &finished(None, &outcome))
            .expect("its space was reserved");
    }
    assert_eq!(segments(&dir).len(), before, "no new segment can be had");
    fs::remove_file(ballast).unwrap();
    log.append(&lost(1)).expect("a line");
    assert_eq!(segments(&dir).len(), before + 1);
    log.close().expect("a closed log");
    assert_whole(&dir);
}
