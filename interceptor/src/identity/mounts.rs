//! A file as the kernel itself knows it: superblock device and inode number.
//!
//! stat(2) answers what the file system likes: on overlayfs and btrfs other numbers than the kernel's
//! own. `fdinfo` (`ino:`, Linux 5.14) and `mountinfo` show the kernel's, as the programs stamp them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsRawFd as _;

use nix::sys::stat::{FileStat, major, minor};

use super::live::Live;
use crate::capture::KernelFile;

/// Bits of the minor number in the kernel's own encoding (`MINORBITS`, include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;
/// Bytes of a mountinfo: 100,000 mounts (`fs.mount-max`) of short paths.
const MAX_MOUNTINFO: u64 = 16 << 20;

/// The numbers that stat(2) gives, in the kernel's encoding.
pub(super) fn by_stat(about: &FileStat) -> Option<KernelFile> {
    let device = device(major(about.st_dev), minor(about.st_dev))?;
    Some(KernelFile {
        device,
        inode: about.st_ino,
    })
}

/// The numbers that the kernel has, of an open file that `process` executes.
pub(super) fn by_kernel(file: &File, process: &Live) -> Option<KernelFile> {
    let mut text = String::new();
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    File::open(path)
        .ok()?
        .take(4_096)
        .read_to_string(&mut text)
        .ok()?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))?
            .trim()
            .parse()
            .ok()
    };
    let (inode, mount) = (field("ino:")?, field("mnt_id:")?);
    // A mount's number is unique on the host while the mount is in use, as this one is: whichever
    // namespace lists it, it is the same.
    let own = || File::open("/proc/self/mountinfo").ok();
    let device =
        device_of(process.file("mountinfo").ok()?, mount).or_else(|| device_of(own()?, mount))?;
    Some(KernelFile { device, inode })
}

/// The device of a mount (proc_pid_mountinfo(5): id, parent, major:minor, …).
fn device_of(mountinfo: File, mount: u64) -> Option<u32> {
    let lines = BufReader::new(mountinfo.take(MAX_MOUNTINFO)).split(b'\n');
    lines.map_while(Result::ok).find_map(|line| {
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.split(' ');
        if fields.next()?.parse::<u64>().ok()? != mount {
            return None;
        }
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        device(major.parse().ok()?, minor.parse().ok()?)
    })
}

fn device(major: u64, minor: u64) -> Option<u32> {
    if minor >> MINOR_BITS != 0 {
        return None;
    }
    u32::try_from(major << MINOR_BITS | minor).ok()
}
