//! What needs no process: text in, answer out.

use super::super::cgroup::{Directories, container, normal};
use super::super::live::{Stat, stat};
use super::super::lookup::arguments;
use super::*;

#[test]
fn a_stat_line_is_read_behind_its_last_parenthesis() {
    let tail = "S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 98";
    let expected = Some(Stat {
        parent: 7,
        started: 4711,
    });
    let rows = [
        (format!("42 (sleep) {tail}"), expected),
        (format!("42 (a) S 1 1 1 (b) {tail}"), expected),
        (format!("42 (x ) S 0) {tail}"), expected),
        ("42 (sleep) S 7 8".to_owned(), None),
        ("42 sleep S 7".to_owned(), None),
        (String::new(), None),
    ];
    for (text, expected) in rows {
        assert_eq!(stat(&text), expected, "{text}");
    }
}

#[test]
fn a_path_has_one_leading_slash_and_none_at_its_end() {
    for path in ["a/b", "/a/b", "/a/b/"] {
        assert_eq!(normal(path), "/a/b");
    }
}

#[test]
fn a_container_is_named_by_its_cgroup() {
    let a = "0123456789abcdef".repeat(4);
    let b = "fedcba9876543210".repeat(4);
    let rows: &[(String, Option<&str>)] = &[
        (format!("/system.slice/docker-{a}.scope"), Some(&a)),
        (
            format!("/system.slice/docker-{a}.scope/init.scope"),
            Some(&a),
        ),
        (format!("/docker/{a}"), Some(&a)),
        (
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{a}.scope"
            ),
            Some(&a),
        ),
        (
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{a}.scope/container"),
            Some(&a),
        ),
        (format!("/kubepods/burstable/pod1-2/{a}"), Some(&a)),
        (
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:{a}"
            ),
            Some(&a),
        ),
        (format!("/machine.slice/libpod-{a}.scope"), Some(&a)),
        (format!("/libpod_parent/libpod-{a}"), Some(&a)),
        (
            format!("/system.slice/docker-{a}.scope/docker/{b}"),
            Some(&a),
        ),
        (format!("/machine.slice/libpod-conmon-{a}.scope"), None),
        (format!("/machine.slice/crio-conmon-{a}.scope"), None),
        (
            format!("/system.slice/docker-{}.scope", a.to_uppercase()),
            None,
        ),
        (format!("/system.slice/docker-{a}0.scope"), None),
        (
            format!(
                "/system.slice/docker-{}.scope",
                a.strip_prefix('0').unwrap()
            ),
            None,
        ),
        (format!("/system.slice/mine-{a}.scope"), None),
        ("/agents.slice/claude".into(), None),
        ("/".into(), None),
    ];
    for (path, expected) in rows {
        assert_eq!(container(path, |_| true).as_deref(), *expected, "{path}");
    }
    // A name that the agent has made below what it was given is no container's.
    let path = format!("/user.slice/docker-{a}.scope/docker-{b}.scope");
    assert_eq!(container(&path, |parent| parent == "/"), None);
    assert_eq!(container(&path, |parent| parent == "/user.slice"), Some(a));
}

#[test]
fn a_container_is_believed_only_where_root_made_the_name() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let id = "0123456789abcdef".repeat(4);
    let parent = place.path().join("user.slice");
    fs::create_dir_all(parent.join(format!("docker-{id}.scope"))).unwrap();
    let directories = Directories::new(place.path());
    let path = format!("/user.slice/docker-{id}.scope");
    assert_eq!(directories.container(&path), Some(id));
    std::os::unix::fs::chown(&parent, Some(65_534), None).unwrap();
    assert_eq!(directories.container(&path), None);
}

#[test]
fn arguments_are_cut_to_their_bound() {
    let rows: &[(&[u8], usize, &[&str])] = &[
        (b"a\0bc\0", 100, &["a", "bc"]),
        (b"a\0\0c\0", 100, &["a", "", "c"]),
        (b"a", 100, &["a"]),
        (b"", 100, &[]),
        (b"\xff\0", 100, &["\u{fffd}"]),
        (b"abc\0def\0", 6, &["abc", "d"]),
        (b"abc\0def\0", 4, &["abc"]),
        (b"abc\0def\0", 0, &[]),
        // A letter that does not fit whole is left out whole.
        ("käse\0".as_bytes(), 3, &["k"]),
        (b"\xff\xff\xff\0", 5, &["\u{fffd}"]),
    ];
    for (bytes, most, expected) in rows {
        assert_eq!(arguments(bytes, *most), *expected, "{bytes:?} in {most}");
    }
    let total = |arguments: &[String]| {
        arguments
            .iter()
            .map(|argument| argument.len() + 1)
            .sum::<usize>()
    };
    for bytes in [vec![0; 10_000], vec![b'x'; 10_000], vec![0xff; 10_000]] {
        assert!(total(&arguments(&bytes, 4_096)) <= 4_096);
    }
}
