//! Each source of a secret, what it refuses, and that nothing of a secret is said.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::credential::Credentials;
use super::*;

const SENTINEL: &str = "hunter2-sentinel";

fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

async fn file(path: &Path) -> Result<Secret, Error> {
    Secrets::new()
        .fetch(&SecretSource::File(path.to_owned()))
        .await
}

fn shell(script: &str, ttl: Duration) -> SecretSource {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    SecretSource::Exec {
        command,
        timeout: Duration::from_secs(20),
        ttl,
    }
}

async fn run(script: &str) -> Result<Secret, Error> {
    Secrets::new().fetch(&shell(script, Duration::ZERO)).await
}

/// An error shows neither in its text nor in its debug form what was read.
fn assert_silent(error: &Error) {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_file_gives_its_text_without_one_line_end() {
    let place = place();
    let path = place.path().join("secret");
    let longest = "x".repeat(MAX_SECRET);
    let rows: &[(&str, &str)] = &[
        ("abc", "abc"),
        ("abc\n", "abc"),
        ("abc\r\n", "abc"),
        ("abc\n\n", "abc\n"),
        (" a b ", " a b "),
        ("käse", "käse"),
        (&longest, &longest),
    ];
    for (bytes, expected) in rows {
        write(&path, bytes.as_bytes(), 0o600);
        assert_eq!(file(&path).await.unwrap().expose_secret(), *expected);
    }
    write(&path, format!("{longest}\r\n").as_bytes(), 0o400);
    assert_eq!(file(&path).await.unwrap().expose_secret(), longest);
}

#[tokio::test]
async fn a_file_that_is_no_secret_is_refused_without_a_word_of_it() {
    let place = place();
    let path = place.path().join("secret");
    let rows: &[(&[u8], u32, &str)] = &[
        (b"hunter2", 0o640, "chmod it to 0600"),
        (b"hunter2", 0o604, "chmod it to 0600"),
        (b"hunter2", 0o620, "chmod it to 0600"),
        (b"", 0o600, "it is empty"),
        (b"\n", 0o600, "it is empty"),
        (b"hunter2\xff", 0o600, "not UTF-8"),
        (b"hunter2\0", 0o600, "without NUL"),
        (&[b'x'; MAX_SECRET + 1], 0o600, "longer than 64 KiB"),
        (&[b'x'; 2 * MAX_SECRET], 0o600, "longer than 64 KiB"),
    ];
    for (bytes, mode, expected) in rows {
        write(&path, bytes, *mode);
        let error = file(&path).await.expect_err(expected);
        assert!(
            error.to_string().contains(expected),
            "{error} does not say {expected}"
        );
        assert_silent(&error);
    }
}

#[tokio::test]
async fn only_a_regular_file_of_a_trusted_owner_at_the_very_path_is_read() {
    let place = place();
    let (path, link, fifo) = (
        place.path().join("a"),
        place.path().join("b"),
        place.path().join("c"),
    );
    write(&path, SENTINEL.as_bytes(), 0o600);
    symlink(&path, &link).unwrap();
    assert!(
        matches!(file(&link).await, Err(Error::Read { .. })),
        "a link is not followed"
    );
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(
        matches!(file(&fifo).await, Err(Error::NotRegular(_))),
        "a fifo is not waited for"
    );
    assert!(matches!(
        file(place.path()).await,
        Err(Error::NotRegular(_))
    ));
    assert!(matches!(
        file(&place.path().join("absent")).await,
        Err(Error::Read { .. })
    ));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_533), None).unwrap();
        assert!(matches!(
            file(&path).await,
            Err(Error::Owner { uid: 65_533, .. })
        ));
    }
}

#[tokio::test]
async fn a_file_of_this_host_is_looked_at_anew_each_time() {
    let (one, other) = (place(), tempfile::tempdir_in("/dev/shm").unwrap());
    let at = one.path().join("at");
    symlink(other.path(), &at).unwrap();
    let (path, away) = (at.join("secret"), other.path().join("secret"));
    let reader = file::Reader::default();
    let ask = || async { reader.fetch(&path, 0o077).await };
    write(&away, b"first", 0o600);
    assert_eq!(ask().await.unwrap().expose_secret(), "first");
    assert!(reader.is_local(&path), "memory is of this host");
    write(&away, b"second", 0o600);
    assert_eq!(ask().await.unwrap().expose_secret(), "second");
    assert!(reader.is_local(&path));

    // On another device now: that one is not known yet.
    write(&one.path().join("secret"), b"third", 0o600);
    fs::remove_file(&at).unwrap();
    symlink(one.path(), &at).unwrap();
    assert_eq!(ask().await.unwrap().expose_secret(), "third");
    assert!(!reader.is_local(&path));
    assert_eq!(ask().await.unwrap().expose_secret(), "third");
    write(&path, b"fourth", 0o644);
    assert!(matches!(ask().await, Err(Error::Mode { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(ask().await, Err(Error::Read { .. })));
    assert!(!reader.is_local(&path));
}

#[tokio::test]
async fn a_file_that_does_not_answer_fails_in_time_and_keeps_one_thread() {
    let place = place();
    let (hung, other) = (place.path().join("hung"), place.path().join("other"));
    write(&hung, SENTINEL.as_bytes(), 0o600);
    write(&other, SENTINEL.as_bytes(), 0o600);
    let mut reader = file::Reader::default();
    reader.timeout = Duration::from_millis(10);
    // As a thread that is stuck in a read holds it.
    let stuck = reader.turn(&hung).acquire_owned().await.unwrap();
    let error = reader.fetch(&hung, 0o077).await.unwrap_err();
    assert!(matches!(error, Error::Late { .. }), "{error}");
    reader.timeout = Duration::from_secs(60);
    assert!(reader.fetch(&other, 0o077).await.is_ok());
    drop(stuck);
    assert!(reader.fetch(&hung, 0o077).await.is_ok());
}

#[tokio::test]
async fn a_variable_of_the_environment_is_a_secret() {
    let secrets = Secrets::new();
    let path = secrets
        .fetch(&SecretSource::Env("PATH".into()))
        .await
        .unwrap();
    assert_eq!(path.expose_secret(), std::env::var("PATH").unwrap());
    let error = secrets
        .fetch(&SecretSource::Env("NO_SUCH_VARIABLE_9F".into()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("NO_SUCH_VARIABLE_9F"), "{error}");
}

#[tokio::test]
async fn a_credential_is_read_from_systemds_directory_alone() {
    let place = place();
    write(&place.path().join("db"), SENTINEL.as_bytes(), 0o400);
    write(&place.path().join("acl"), SENTINEL.as_bytes(), 0o440);
    write(&place.path().join("open"), SENTINEL.as_bytes(), 0o444);
    let store = Credentials::new(Some(place.path().to_owned()));
    for name in ["db", "acl"] {
        assert_eq!(store.fetch(name).await.unwrap().expose_secret(), SENTINEL);
    }
    assert!(matches!(store.fetch("open").await, Err(Error::Mode { .. })));
    for name in ["", ".", "..", "../db", "a/b"] {
        assert!(
            matches!(store.fetch(name).await, Err(Error::CredentialName)),
            "{name}"
        );
    }
    assert!(matches!(
        Credentials::new(None).fetch("db").await,
        Err(Error::NoCredentials(_))
    ));
    let relative = Credentials::new(Some("relative".into()));
    assert!(matches!(
        relative.fetch("db").await,
        Err(Error::NoCredentials(_))
    ));
}

#[tokio::test]
async fn a_command_gives_its_output() {
    assert_eq!(run("echo abc").await.unwrap().expose_secret(), "abc");
    assert_eq!(run("printf 'a b'").await.unwrap().expose_secret(), "a b");
    let longest = run(&format!("head -c {MAX_SECRET} /dev/zero | tr '\\0' x"))
        .await
        .unwrap();
    assert_eq!(longest.expose_secret().len(), MAX_SECRET);
}

#[tokio::test]
async fn a_command_inherits_a_path_and_nothing_else() {
    let environment = run("/usr/bin/env | grep -v ^_= | cut -d= -f1 | sort | tr '\\n' ' '")
        .await
        .unwrap();
    // sh sets PWD itself.
    assert_eq!(environment.expose_secret().trim_end(), "PATH PWD");
    let open = File::open("/dev/null").unwrap();
    let inherited = nix::fcntl::fcntl(open.as_fd(), nix::fcntl::FcntlArg::F_DUPFD(200)).unwrap();
    let script = format!("[ -e /proc/$$/fd/{inherited} ] && echo inherited || echo closed");
    assert_eq!(run(&script).await.unwrap().expose_secret(), "closed");
    nix::unistd::close(inherited).unwrap();
    let input = run("cat; readlink /proc/$$/fd/0").await.unwrap();
    assert_eq!(input.expose_secret(), "/dev/null");
    let group = run("set -- $(cat /proc/$$/stat); [ \"$5\" = \"$$\" ] && echo own")
        .await
        .unwrap();
    assert_eq!(group.expose_secret(), "own");
}

#[tokio::test]
async fn a_command_that_fails_is_an_error_that_repeats_nothing() {
    let rows = [
        (
            "echo hunter2; echo hunter2 >&2; exit 3",
            "exit status: 3, and 8 bytes on standard error",
        ),
        ("echo hunter2; kill -9 $$", "signal: 9"),
        (":", "it is empty"),
        ("printf 'hunter2\\377'", "not UTF-8"),
        ("yes hunter2", "longer than 64 KiB"),
        ("yes hunter2 >&2 & yes hunter2", "longer than 64 KiB"),
    ];
    for (script, expected) in rows {
        let error = run(script).await.expect_err(script);
        assert!(
            error.to_string().contains(expected),
            "{script}: {error} does not say {expected}"
        );
        assert_silent(&error);
    }
    let secrets = Secrets::new();
    for command in [
        vec!["/no/such/program".to_owned()],
        vec!["sh".to_owned()],
        vec![],
    ] {
        let timeout = Duration::from_secs(1);
        let error = secrets
            .fetch(&SecretSource::Exec {
                command,
                timeout,
                ttl: timeout,
            })
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Spawn { .. } | Error::NoProgram),
            "{error}"
        );
    }
}

/// Waits until the process that a script wrote down is gone; fails after ten seconds.
async fn assert_gone(pid_file: &Path) {
    let pid: i32 = fs::read_to_string(pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let stat = format!("/proc/{pid}/stat");
    let gone = async {
        // Gone, or a zombie that its new parent has yet to reap.
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("still there");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let place = place();
    let pid = place.path().join("pid");
    // The child keeps the output open after its parent has ended, too.
    for script in [
        "sleep 999 & echo $! > PID; wait",
        "sleep 999 & echo $! > PID",
    ] {
        let script = script.replace("PID", &pid.display().to_string());
        let SecretSource::Exec { command, ttl, .. } = shell(&script, Duration::ZERO) else {
            panic!("a shell is a command")
        };
        let timeout = Duration::from_millis(500);
        let error = Secrets::new()
            .fetch(&SecretSource::Exec {
                command,
                timeout,
                ttl,
            })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert_gone(&pid).await;
    }
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_killed() {
    let place = place();
    let (pid, ready) = (place.path().join("pid"), place.path().join("ready"));
    nix::unistd::mkfifo(&ready, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!(
        "sleep 999 & echo $! > {}; echo > {}; wait",
        pid.display(),
        ready.display()
    );
    let wait = tokio::task::spawn_blocking(move || fs::read(ready).unwrap());
    tokio::select! {
        answer = run(&script) => panic!("{answer:?}"),
        read = wait => drop(read.unwrap()),
    }
    assert_gone(&pid).await;
}

#[tokio::test]
async fn an_answer_is_used_for_its_time_and_shared_by_those_who_ask_at_once() {
    let place = place();
    let count = place.path().join("count");
    let script = format!("echo x >> {}; echo secret", count.display());
    let runs = || {
        fs::read_to_string(&count)
            .unwrap_or_default()
            .lines()
            .count()
    };

    let (secrets, cached) = (Secrets::new(), shell(&script, Duration::from_secs(3600)));
    let ask = || async {
        secrets
            .fetch(&cached)
            .await
            .unwrap()
            .expose_secret()
            .to_owned()
    };
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    assert_eq!([a, b, c, d], ["secret"; 4]);
    assert_eq!(ask().await, "secret");
    assert_eq!(runs(), 1);

    secrets.keep([&shell("other", Duration::ZERO)]);
    assert_eq!(ask().await, "secret");
    assert_eq!(runs(), 2, "a source that was dropped is asked anew");
    secrets.keep([&cached]);
    assert_eq!(ask().await, "secret");
    assert_eq!(runs(), 2, "a source that was kept is not");

    let each_time = shell(&script, Duration::ZERO);
    for _ in 0..2 {
        let _secret = secrets.fetch(&each_time).await.unwrap();
    }
    assert_eq!(runs(), 4);
}

#[tokio::test]
async fn an_answer_that_was_refused_is_asked_for_again_unless_it_is_new() {
    let place = place();
    let count = place.path().join("count");
    let script = format!("echo x >> {0}; wc -l < {0}", count.display());
    let (secrets, source) = (Secrets::new(), shell(&script, Duration::from_secs(3600)));
    let first = secrets.fetch(&source).await.unwrap();
    assert_eq!(first.expose_secret(), "1");
    let again = secrets.fetch_again(&source, &first).await.unwrap();
    assert_eq!(again.expose_secret(), "1", "it is new");
    // Another one than was refused is as good as new.
    let other = Secret::from("0");
    secrets.exec.doubt(&source, &other, Duration::ZERO);
    assert_eq!(secrets.fetch(&source).await.unwrap().expose_secret(), "1");
    secrets.exec.doubt(&source, &first, Duration::ZERO);
    assert_eq!(secrets.fetch(&source).await.unwrap().expose_secret(), "2");
}

#[tokio::test]
async fn an_error_is_kept_for_a_moment_only() {
    let place = place();
    let (runs, flag) = (place.path().join("runs"), place.path().join("flag"));
    let script = format!("echo >> {}; cat {}", runs.display(), flag.display());
    let (mut secrets, source) = (Secrets::new(), shell(&script, Duration::from_secs(3600)));
    for _ in 0..3 {
        assert!(secrets.fetch(&source).await.is_err());
    }
    assert_eq!(fs::read(&runs).unwrap(), b"\n");
    secrets.exec.failed_for = Duration::ZERO;
    assert!(secrets.fetch(&source).await.is_err());
    assert_eq!(fs::read(&runs).unwrap(), b"\n\n");
    fs::write(&flag, SENTINEL).unwrap();
    assert_eq!(
        secrets.fetch(&source).await.unwrap().expose_secret(),
        SENTINEL
    );
}

#[tokio::test]
async fn a_secret_shows_in_no_debug_form() {
    let secrets = Secrets::new();
    let source = shell(
        &format!("echo {SENTINEL} | cut -c1-"),
        Duration::from_secs(3600),
    );
    let secret = secrets.fetch(&source).await.unwrap();
    assert_eq!(secret.expose_secret(), SENTINEL);
    assert!(!format!("{secret:?} {secrets:?}").contains(SENTINEL));
}

#[test]
fn a_hardened_process_is_not_dumpable_and_writes_no_core() {
    use nix::sys::resource::{Resource, getrlimit};
    harden().unwrap();
    assert!(!nix::sys::prctl::get_dumpable().unwrap());
    assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
}
