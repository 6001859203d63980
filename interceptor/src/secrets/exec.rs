//! Secrets from a command's standard output, cached for a time; callers at once share one run.
//!
//! The command gets a PATH and nothing else: no environment, no input, no open files, a process group
//! of its own. Whatever ends the wait (time, too much output, a caller that goes away) kills the group.

#![expect(unsafe_code, reason = "closes inherited files between fork and exec")]

use std::collections::{HashMap, HashSet};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::file::buffer;
use super::{Error, NEW_FOR, Secret, Store, secret};
use crate::clock::{self, BootTime};
use crate::config::SecretSource;

/// Where the command finds programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The first file that is closed: after standard input, output and error.
const FIRST_INHERITED: libc::c_uint = 3;

/// One run, and its answer once it has one. Who asks while it runs gets the same answer.
type Run = Arc<OnceCell<(BootTime, Result<Secret, Error>)>>;

/// Commands, with the last answer of each.
pub(super) struct Commands {
    /// As many as the configuration has sources.
    runs: Mutex<HashMap<SecretSource, Run>>,
    /// How long a failure is the answer.
    pub(super) failed_for: Duration,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            runs: Mutex::default(),
            failed_for: NEW_FOR,
        }
    }
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

impl Store for Commands {
    type Name = SecretSource;

    async fn fetch(&self, source: &SecretSource) -> Result<Secret, Error> {
        let SecretSource::Exec {
            command,
            timeout,
            ttl,
        } = source
        else {
            return Err(Error::NoProgram);
        };
        let run = self.current(source, *ttl);
        // Where the caller that runs it goes away, the next one that waits runs it anew.
        let (_, answer) = run
            .get_or_init(async || {
                let answer = answer(command, *timeout).await;
                (clock::boot(), answer)
            })
            .await;
        answer.clone()
    }
}

impl Commands {
    /// The run to wait for: the one that is under way or still good, else a new one. A failure is good for
    /// a moment too: whoever logs in again and again cannot have the command run as often as it fails.
    fn current(&self, source: &SecretSource, ttl: Duration) -> Run {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs.entry(source.clone()).or_default();
        let stale = match run.get() {
            None => false,
            Some((at, Err(_))) => clock::boot().since(*at) >= self.failed_for,
            Some((at, Ok(_))) => clock::boot().since(*at) >= ttl,
        };
        if stale {
            *run = Run::default();
        }
        Arc::clone(run)
    }

    /// Drops an answer that turned out to be of no use; but not one that is new: whoever asks cannot
    /// have the command run as often as it likes.
    pub(super) fn doubt(&self, source: &SecretSource, refused: &Secret, new_for: Duration) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = |run: &Run| match run.get() {
            Some((at, Ok(answer))) => {
                let same = answer.expose_secret() == refused.expose_secret();
                same && clock::boot().since(*at) >= new_for
            }
            _ => false,
        };
        if runs.get(source).is_some_and(stale) {
            runs.remove(source);
        }
    }

    pub(super) fn keep<'a>(&self, sources: impl IntoIterator<Item = &'a SecretSource>) {
        let sources: HashSet<_> = sources.into_iter().collect();
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|source, _| sources.contains(source));
    }
}

async fn answer(command: &[String], timeout: Duration) -> Result<Secret, Error> {
    let (program, arguments) = match command.split_first() {
        Some((program, arguments)) if program.starts_with('/') => (program, arguments),
        _ => return Err(Error::NoProgram),
    };
    let mut child = spawn(program, arguments)?;
    let mut group = Group::of(&child);
    let answer = tokio::time::timeout(timeout, collect(program, &mut child)).await;
    let answer = match answer {
        // The leader is reaped: its number may already name another group.
        Ok(Ok(answer)) => {
            group.0 = None;
            answer
        }
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Err(Error::Timeout {
            program: program.clone(),
            timeout,
        }),
    };
    drop(group);
    answer
}

fn spawn(program: &str, arguments: &[String]) -> Result<Child, Error> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // SAFETY: runs between fork and exec and calls only close_range(2), which is a bare system call.
    // CLOEXEC rather than closing: std reports a failed exec through a pipe of its own.
    unsafe {
        command.pre_exec(|| {
            let flags = libc::CLOSE_RANGE_CLOEXEC;
            let flags = libc::c_int::try_from(flags).map_err(std::io::Error::other)?;
            match libc::close_range(FIRST_INHERITED, libc::c_uint::MAX, flags) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command.spawn().map_err(|cause| Error::Spawn {
        program: program.to_owned(),
        cause: Arc::new(cause),
    })
}

/// Reads everything and waits for the end. The outer error is one after which the child may still run.
async fn collect(program: &str, child: &mut Child) -> Result<Result<Secret, Error>, Error> {
    let failed = |cause| Error::Spawn {
        program: program.to_owned(),
        cause: Arc::new(cause),
    };
    let mut bytes = buffer();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = async {
        let length = fill(out, &mut bytes).await.map_err(failed)?;
        // Said at once: a command that nobody reads any more would not end.
        let whole = length < bytes.len();
        whole
            .then_some(length)
            .ok_or_else(|| Error::TooLong(format!("command {program}")))
    };
    let err = async { count(err).await.map_err(failed) };
    let (length, stderr_bytes) = tokio::try_join!(out, err)?;
    let status: ExitStatus = child.wait().await.map_err(failed)?;
    if !status.success() {
        return Ok(Err(Error::Failed {
            program: program.to_owned(),
            status,
            stderr_bytes,
        }));
    }
    let bytes = bytes.get(..length).unwrap_or_default();
    Ok(secret(bytes, || format!("command {program}")))
}

/// Fills the buffer to its end or the stream's.
async fn fill(from: Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> std::io::Result<usize> {
    let Some(mut from) = from else { return Ok(0) };
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match from.read(rest).await? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// Reads a stream to its end and keeps nothing: what a command says when it fails may hold the secret.
async fn count(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<u64> {
    let Some(mut from) = from else { return Ok(0) };
    let mut chunk = zeroize::Zeroizing::new([0; 1024]);
    let mut total: u64 = 0;
    loop {
        match from.read(chunk.as_mut_slice()).await? {
            0 => return Ok(total),
            read => total = total.saturating_add(u64::try_from(read).unwrap_or(u64::MAX)),
        }
    }
}

/// A process group that is killed when this is dropped, before its leader is reaped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(
            child
                .id()
                .and_then(|pid| i32::try_from(pid).ok())
                .map(Pid::from_raw),
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0
            && let Err(error) = killpg(leader, Signal::SIGKILL)
        {
            tracing::warn!(%error, group = leader.as_raw(), "cannot kill a secret's command");
        }
    }
}
