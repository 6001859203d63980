//! A thread that brings recordings to the disk before the log speaks of them.
//!
//! Lines of all sessions go through it in the order in which they come. Those that wait together are served by
//! one sync of the whole file system where there are many: a disk that is slow makes batches, and no queue.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Error;
use super::seal::{Line, Says};
use super::store::{META, prepare, sync_prepared};

/// More lines than this at once are worth a sync of everything.
const FEW: usize = 8;

/// Lines that may wait. Each of them holds a sync up, or is served by the next one.
const LINES: usize = 4096;

/// Where lines about recordings go.
pub(super) struct Syncer {
    lines: Option<SyncSender<Line>>,
    thread: Option<JoinHandle<()>>,
    /// How long something may be written before the log vouches for it.
    pub(super) every: Duration,
}

impl Syncer {
    /// Starts the thread, for recordings below `root`.
    pub(super) fn start(root: &Path, every: Duration) -> io::Result<Self> {
        let (sender, lines) = mpsc::sync_channel(LINES);
        let whole = File::open(root)?;
        let thread = std::thread::Builder::new()
            .name("recording-sync".to_owned())
            .spawn(move || run(&whole, &lines))?;
        Ok(Self {
            lines: Some(sender),
            thread: Some(thread),
            every,
        })
    }

    /// The same as [`Syncer::put`], for whoever may not wait: refused while the disk is far behind.
    pub(super) fn put_now(&self, line: Line) -> Result<(), Error> {
        let Some(lines) = &self.lines else {
            return Err(Error::Closed);
        };
        lines.try_send(line).map_err(|error| match error {
            TrySendError::Full(line) => failed(&line.dir, io::ErrorKind::WouldBlock.into()),
            TrySendError::Disconnected(_) => Error::Closed,
        })
    }

    /// Has a line written once all that it is about is on disk; waits while the disk is far behind.
    pub(super) fn put(&self, line: Line) {
        let Some(lines) = &self.lines else {
            return;
        };
        // A thread that panicked takes nothing more.
        if let Err(mpsc::SendError(line)) = lines.send(line) {
            line.seals.fails(Error::Closed);
        }
    }
}

impl Drop for Syncer {
    /// What was put is written first.
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("what recordings end with was not written: their thread panicked");
        }
    }
}

fn run(whole: &File, lines: &Receiver<Line>) {
    while let Ok(first) = lines.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(lines.try_iter()).collect();
        for line in &batch {
            line.note();
        }
        let all = (batch.len() > FEW).then(|| together(whole, &batch));
        for line in batch {
            let synced = match &all {
                Some(synced) => synced.map_err(|errno| failed(&line.dir, errno.into())),
                None => line.sync(),
            };
            if let Err(error) = synced {
                line.seals.fails(error);
            }
            line.write();
        }
    }
}

/// Brings all that there is to the disk.
fn together(whole: &File, batch: &[Line]) -> nix::Result<()> {
    #[cfg(test)]
    let lengths = seen::lengths(batch.iter().flat_map(Line::paths));
    #[cfg(not(test))]
    let _ = batch;
    nix::unistd::syncfs(whole)?;
    #[cfg(test)]
    seen::note(lengths);
    Ok(())
}

impl Line {
    /// Puts what the session was beside its file, so that it is on disk when it takes its place.
    fn note(&self) {
        if let Says::Last(_, meta, _) = &self.says
            && self.seals.sound().is_ok()
            && let Err(error) = meta
                .text(&self.dir)
                .and_then(|text| prepare(&self.dir, META, &text))
        {
            tracing::warn!(%error, "cannot write the end of a recording beside its meta.json");
        }
    }

    /// All that it brings to the disk.
    #[cfg(test)]
    fn paths(&self) -> Vec<std::path::PathBuf> {
        let mut paths = self.behind.clone();
        paths.push(self.dir.join("meta.json.new"));
        paths
    }

    fn sync(&self) -> Result<(), Error> {
        if let Says::Last(..) = &self.says {
            sync_prepared(&self.dir, META);
        }
        self.behind.iter().try_for_each(|path| to_disk(path))
    }
}

/// Brings a file, or what a directory lists, to the disk.
pub(super) fn to_disk(path: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    #[cfg(test)]
    let lengths = seen::lengths([path]);
    file.sync_all().map_err(|error| failed(path, error))?;
    #[cfg(test)]
    seen::note(lengths);
    Ok(())
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::io("bring to the disk", path, error)
}

/// How much of each file was brought to the disk, for tests of what may be said of it.
#[cfg(test)]
pub(super) mod seen {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    static ON_DISK: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

    pub(super) fn lengths(paths: impl IntoIterator<Item: AsRef<Path>>) -> Vec<(PathBuf, u64)> {
        let paths = paths.into_iter();
        let lengths = paths.filter_map(|path| {
            let path = path.as_ref();
            Some((path.to_owned(), path.metadata().ok()?.len()))
        });
        lengths.collect()
    }

    pub(super) fn note(lengths: Vec<(PathBuf, u64)>) {
        ON_DISK.lock().unwrap().extend(lengths);
    }

    /// Bytes of a file that are on disk for sure; none where it is not.
    pub(in crate::recording) fn on_disk(path: &Path) -> Option<u64> {
        ON_DISK.lock().unwrap().get(path).copied()
    }
}
