//! Who started whom: from a process up to the root of its scope.
//!
//! Only what is so now can be read: a parent that has ended has left its children to another, and the
//! chain ends there. A parent is shown to be one by its child naming it again after it was opened.

use super::live::Live;
use super::lookup::Reader;
use super::{Error, Process};
use crate::capture::cgroup2::is_within;

/// Ancestors that are listed.
const MAX_DEPTH: usize = 64;
/// Bytes of all ancestors' arguments together; those further up lose theirs first.
const MAX_ARGUMENTS: usize = 16 << 10;

/// Who started a process, held. Asked while it lives; of the chain above it nothing depends on it then.
pub(super) fn parent(child: &Live) -> Result<Option<Live>, Error> {
    Ok(ended(parent_of(child))?.flatten())
}

/// Ancestors inside the scope, from the `parent` on.
pub(super) fn of(
    reader: &Reader,
    parent: Option<Live>,
    scope: &str,
) -> Result<Vec<Process>, Error> {
    let mut chain = Vec::new();
    climb(reader, parent, scope, &mut chain)?;
    Ok(chain)
}

/// Ancestors wherever they are, from the `parent` on, up to the first that cannot be read.
pub(super) fn readable(reader: &Reader, parent: Option<Live>) -> Vec<Process> {
    let mut chain = Vec::new();
    if let Err(error) = climb(reader, parent, "/", &mut chain) {
        tracing::debug!(%error, "a chain of ancestors ends here");
    }
    chain
}

fn climb(
    reader: &Reader,
    mut parent: Option<Live>,
    scope: &str,
    chain: &mut Vec<Process>,
) -> Result<(), Error> {
    let mut room = MAX_ARGUMENTS;
    while chain.len() < MAX_DEPTH
        && let Some(process) = parent
    {
        let Some((described, process)) = ended(describe(reader, process, scope, room))?.flatten()
        else {
            break;
        };
        room = room.saturating_sub(
            described
                .argv
                .iter()
                .map(|argument| argument.len() + 1)
                .sum(),
        );
        chain.push(described);
        parent = self::parent(&process)?;
    }
    Ok(())
}

/// `None` for a process that ended while it was read.
fn ended<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Gone { .. } | Error::Executed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parent_of(child: &Live) -> Result<Option<Live>, Error> {
    let stat = child.stat()?;
    if stat.parent == 0 {
        return Ok(None);
    }
    let parent = Live::open(stat.parent)?;
    let is_parent = child.stat()?.parent == stat.parent && parent.stat()?.started <= stat.started;
    Ok(is_parent.then_some(parent))
}

fn describe(
    reader: &Reader,
    parent: Live,
    scope: &str,
    room: usize,
) -> Result<Option<(Process, Live)>, Error> {
    if !is_within(&parent.cgroup()?, scope) {
        return Ok(None);
    }
    let started = reader.boot_time(parent.stat()?.started);
    let described = reader.describe(&parent, started, parent.uid()?, room)?;
    parent.alive()?;
    Ok(Some((described, parent)))
}
