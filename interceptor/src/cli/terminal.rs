//! What is shown on a terminal, made harmless: statements, rows and errors are written by agents and
//! servers, either of which may be hostile to whoever reads them.
//!
//! Nothing that came from outside is printed by a verb without passing here first.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

#[cfg(test)]
mod tests;

/// Whether a terminal may do something else with it than show it: controls of C0 and C1, which begin
/// escape sequences, and the invisible characters that reorder or hide what is around them.
pub use crate::unseen::is_unseen as acts;

/// Text in one line: what acts is shown as an escape that a reader can tell.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |shown, to| match shown {
        '\n' => to.push_str("\\n"),
        '\t' => to.push_str("\\t"),
        '\r' => to.push_str("\\r"),
        other => to.extend(other.escape_unicode()),
    })
}

/// Text of several lines: line feeds and tabs stay, everything else that acts is escaped.
#[must_use]
pub fn block(text: &str) -> Cow<'_, str> {
    escaped(text, |shown, to| match shown {
        '\n' | '\t' => to.push(shown),
        other => to.extend(other.escape_unicode()),
    })
}

/// JSON that says the same: what acts stands in strings only, where an escape means the character.
/// Line feeds between values, as pretty JSON has them, stay.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |shown, to| {
        if shown == '\n' {
            to.push(shown);
            return;
        }
        let mut units = [0; 2];
        for unit in shown.encode_utf16(&mut units) {
            // Writing to a string cannot fail.
            let _always_written = write!(to, "\\u{unit:04x}");
        }
    })
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut to = String::with_capacity(text.len() + 16);
    for shown in text.chars() {
        if acts(shown) {
            escape(shown, &mut to);
        } else {
            to.push(shown);
        }
    }
    Cow::Owned(to)
}

/// Waits, unless whoever reads our output goes away before: then `false`.
pub fn pause(time: Duration) -> io::Result<bool> {
    let out = io::stdout();
    let mut gone = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    // `POLLERR` and `POLLHUP` are told without being asked for (poll(2)).
    Ok(poll(&mut gone, timeout)? == 0)
}
