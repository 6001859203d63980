//! A child process whose output is kept and whose end can be waited for.
//!
//! One thread reads each of its two streams, one waits for its end; who waits is woken by them.
//! A process is signalled only while it is known not to have been reaped: a pid is never reused under us.

use std::io::{Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// A child process. Killed and reaped when dropped.
pub struct Process {
    name: String,
    pid: Pid,
    input: Option<ChildStdin>,
    shared: Arc<Shared>,
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: u8,
    over: bool,
    status: Option<ExitStatus>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait(
        &self,
        deadline: Duration,
        pending: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'_, State> {
        self.changed
            .wait_timeout_while(self.lock(), deadline, pending)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl Process {
    /// Starts `command` with both outputs kept and its input open until [`Process::close_input`].
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("pid out of range")?);
        let input = child.stdin.take();
        let shared = Arc::new(Shared::default());
        shared.lock().open = 2;
        follow(&shared, child.stdout.take(), |state| &mut state.stdout);
        follow(&shared, child.stderr.take(), |state| &mut state.stderr);
        reap(&shared, child, pid);
        Ok(Self {
            name,
            pid,
            input,
            shared,
        })
    }

    /// Runs `command` to its end with no input.
    ///
    /// # Errors
    /// When it cannot be started, or is not over after `deadline` (it is killed then).
    pub fn run(command: Command, deadline: Duration) -> anyhow::Result<Finished> {
        let mut process = Self::start(command)?;
        process.close_input();
        process.finish(deadline)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// When the input is closed on either side.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let Some(input) = self.input.as_mut() else {
            bail!("the input of {} is closed", self.name);
        };
        input
            .write_all(text.as_bytes())
            .and_then(|()| input.flush())
            .with_context(|| format!("write to {}", self.name))
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Standard output and standard error so far, one after the other.
    #[must_use]
    pub fn log(&self) -> String {
        let state = self.shared.lock();
        text(&state.stdout) + &text(&state.stderr)
    }

    /// Waits until either output contains `wanted`.
    ///
    /// # Errors
    /// When the process ends or the deadline passes first; the text has the log.
    pub fn await_text(&self, wanted: &str, deadline: Duration) -> anyhow::Result<()> {
        let has = |state: &State| {
            contains(&state.stdout, wanted.as_bytes()) || contains(&state.stderr, wanted.as_bytes())
        };
        let state = self
            .shared
            .wait(deadline, |state| !has(state) && state.open > 0);
        if has(&state) {
            return Ok(());
        }
        drop(state);
        bail!(
            "{} never said {wanted:?}; its log:\n{}",
            self.name,
            self.log()
        )
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.lock().over
    }

    /// Sends a signal, unless it has ended already.
    pub fn signal(&self, signal: Signal) {
        let state = self.shared.lock();
        if !state.over && kill(self.pid, signal).is_err() {
            // It ended between the check and the signal; the waiting thread will say so.
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is not over after `deadline`; it is killed then.
    pub fn finish(&mut self, deadline: Duration) -> anyhow::Result<Finished> {
        let state = self
            .shared
            .wait(deadline, |state| state.status.is_none() || state.open > 0);
        // A grandchild may hold the outputs open; the process's own end is what counts.
        let Some(status) = state.status else {
            drop(state);
            self.signal(Signal::SIGKILL);
            bail!(
                "{} did not end within {deadline:?}; its log:\n{}",
                self.name,
                self.log()
            );
        };
        Ok(Finished {
            status,
            stdout: text(&state.stdout),
            stderr: text(&state.stderr),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        drop(
            self.shared
                .wait(crate::DEADLINE, |state| state.status.is_none()),
        );
    }
}

impl Finished {
    /// Its standard output, where it ended well.
    ///
    /// # Errors
    /// When it ended with another status than 0; the text has both outputs.
    pub fn ok(self) -> anyhow::Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!(
            "ended with {}\nstdout: {}\nstderr: {}",
            self.status,
            self.stdout,
            self.stderr
        )
    }
}

fn follow<R: Read + Send + 'static>(
    shared: &Arc<Shared>,
    stream: Option<R>,
    of: fn(&mut State) -> &mut Vec<u8>,
) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut buffer = [0_u8; 16 * 1024];
        if let Some(mut stream) = stream {
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                let chunk = buffer.get(..read).unwrap_or_default();
                shared.change(|state| of(state).extend_from_slice(chunk));
            }
        }
        shared.change(|state| state.open = state.open.saturating_sub(1));
    });
}

fn reap(shared: &Arc<Shared>, mut child: Child, pid: Pid) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        // Seen as ended first, reaped second: in between nobody signals it.
        let ended = waitid(
            Id::Pid(pid),
            WaitPidFlag::WEXITED.union(WaitPidFlag::WNOWAIT),
        );
        shared.change(|state| state.over = ended.is_ok());
        if let Ok(status) = child.wait() {
            shared.change(|state| {
                state.over = true;
                state.status = Some(status);
            });
        }
    });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len().max(1))
        .any(|window| window == wanted)
}
