//! Who started whom: from a process up to the root of its scope.
//!
//! Only what is so now can be read: a parent that has ended has left its children to another, and the
//! chain ends there. A parent is shown to be one by its child naming it again after it was opened.

use super::live::Live;
use super::lookup::Reader;
use super::{Error, Process, cgroup};

/// Ancestors that are listed.
const MAX_DEPTH: usize = 64;
/// Bytes of all ancestors' arguments together; those further up lose theirs first.
const MAX_ARGUMENTS: usize = 16 << 10;

/// Ancestors inside the scope, parent first.
pub(super) fn of(reader: &Reader, process: &Live, scope: &str) -> Result<Vec<Process>, Error> {
    let mut chain: Vec<Process> = Vec::new();
    let mut room = MAX_ARGUMENTS;
    let mut above: Option<Live> = None;
    while chain.len() < MAX_DEPTH {
        let child = above.as_ref().unwrap_or(process);
        let Some(parent) = ended(parent_of(child))?.flatten() else {
            break;
        };
        let Some((described, parent)) = ended(describe(reader, parent, scope, room))?.flatten()
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
        above = Some(parent);
    }
    Ok(chain)
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
    if !cgroup::is_inside(&parent.cgroup()?, scope) {
        return Ok(None);
    }
    let started = reader.boot_time(parent.stat()?.started);
    let described = reader.describe(&parent, started, parent.uid()?, room)?;
    parent.alive()?;
    Ok(Some((described, parent)))
}
