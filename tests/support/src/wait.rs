//! Waiting for a file's change, and the one bounded look-again for what sends no event.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// How long one look may be from the next, where neither event nor inotify tells.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Asks `condition` now and after each change below `directory` until it gives a value.
///
/// # Errors
/// When `condition` fails, or gives nothing until `deadline` has passed; the text says `what` was awaited.
pub fn for_files<T>(
    what: &str,
    directory: &Path,
    deadline: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let notify =
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("open inotify")?;
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE;
    notify
        .add_watch(directory, flags)
        .with_context(|| format!("watch {}", directory.display()))?;
    let until = Instant::now() + deadline;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("{what} did not happen within {deadline:?}");
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        poll(
            &mut [PollFd::new(notify.as_fd(), PollFlags::POLLIN)],
            timeout,
        )
        .context("wait for a file's change")?;
        while matches!(notify.read_events(), Ok(events) if !events.is_empty()) {}
    }
}

/// Asks `condition` again and again until it gives a value: for facts that send no event, such as
/// those of /proc. Only the deadline is a verdict, never the time between two looks.
///
/// # Errors
/// When `condition` fails, or gives nothing until `deadline` has passed.
pub fn for_fact<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let until = Instant::now() + deadline;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= until {
            bail!("{what} did not happen within {deadline:?}");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
