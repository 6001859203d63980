//! The mount, what lies within what, and how deep, on the mount tables of several kinds of hosts.

use std::fs::{self, File};
use std::path::PathBuf;

use super::{Hierarchy, is_within, level, mount_point};

#[test]
fn the_mount_is_found_on_unified_and_hybrid_hosts() {
    let rows = [
        (
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
            Some("/sys/fs/cgroup/unified"),
        ),
        (
            "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate",
            Some("/sys/fs/cgroup"),
        ),
        ("30 23 0:26 / /a\\040b rw - cgroup2 none rw", Some("/a b")),
        (
            "32 31 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
            None,
        ),
        ("32 31 0:28 / /cgroup2 rw - tmpfs cgroup2 rw", None),
        ("", None),
    ];
    for (line, expected) in rows {
        assert_eq!(mount_point(line), expected.map(PathBuf::from), "{line}");
    }
}

#[test]
fn a_cgroup_is_within_itself_and_those_above_it_only() {
    let rows = [
        ("/agents.slice/claude", "/agents.slice", true),
        ("/agents.slice", "/agents.slice", true),
        ("/agents.slice2", "/agents.slice", false),
        ("", "/agents.slice", false),
        ("/agents.slice/claude", "/agents.slice/", true),
        ("/interceptor", "/", true),
        ("/", "/", true),
        ("/", "/agents.slice", false),
        ("/../escaped", "/", false),
        ("/agents.slice/../escaped", "/agents.slice", false),
    ];
    for (path, ancestor, expected) in rows {
        assert_eq!(is_within(path, ancestor), expected, "{path} in {ancestor}");
    }
}

#[test]
fn a_cgroup_that_cannot_be_read_is_an_error_and_not_empty() {
    let mount = tempfile::tempdir().unwrap();
    let hierarchy = Hierarchy {
        mount: mount.path().to_owned(),
        directory: File::open(mount.path()).unwrap(),
    };
    fs::create_dir_all(mount.path().join("scope/below")).unwrap();
    fs::write(mount.path().join("scope/cgroup.procs"), "7\n").unwrap();
    fs::write(mount.path().join("scope/below/cgroup.procs"), "8\n").unwrap();
    let mut found = hierarchy.processes("/scope").unwrap();
    found.sort_unstable();
    assert_eq!(found, [7, 8]);
    fs::remove_file(mount.path().join("scope/below/cgroup.procs")).unwrap();
    fs::create_dir(mount.path().join("scope/below/cgroup.procs")).unwrap();
    hierarchy.processes("/scope").unwrap_err();
}

#[test]
fn levels_are_counted_from_the_root() {
    for (path, expected) in [("/", 0), ("/a", 1), ("a/b", 2), ("/a//b/", 2)] {
        assert_eq!(level(path), expected, "{path}");
    }
}
