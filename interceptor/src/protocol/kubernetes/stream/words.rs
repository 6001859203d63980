//! The words of the streams: which there are, what their numbers are, and what is said in JSON on two of them.

use serde::Deserialize;
use serde_json::Value;

use super::Broken;

/// What one of the streams is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Input,
    Output,
    Errors,
    Status,
    Size,
}

/// What a server said.
#[derive(Debug)]
pub(super) enum Said {
    Data {
        channel: Channel,
        bytes: Vec<u8>,
        /// Its message or frame ends.
        ends: bool,
        /// Nothing comes behind it.
        last: bool,
    },
    /// That a channel is closed.
    Closes(Vec<u8>),
    /// A control frame, with its kind where that stands apart.
    Control(u8, Vec<u8>),
}

impl Said {
    pub(super) fn data(channel: Channel, bytes: &[u8], (ends, last): (bool, bool)) -> Self {
        Self::Data {
            channel,
            bytes: bytes.to_vec(),
            ends,
            last,
        }
    }
}

/// As clients say it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    pub(super) width: u16,
    pub(super) height: u16,
}

/// The exit status in what a server says of a command's end (`metav1.Status`).
pub(super) fn exit(status: &[u8]) -> Option<u32> {
    let status: Value = serde_json::from_slice(status).ok()?;
    if status.get("status")? == "Success" {
        return Some(0);
    }
    let causes = status.pointer("/details/causes")?.as_array()?;
    let mut exits = causes.iter().filter(|cause| {
        cause
            .get("reason")
            .is_some_and(|reason| reason == "ExitCode")
    });
    exits.next()?.get("message")?.as_str()?.parse().ok()
}

/// The channel of a number.
pub(super) fn of(number: u8) -> Result<Channel, Broken> {
    let channels = [
        Channel::Input,
        Channel::Output,
        Channel::Errors,
        Channel::Status,
        Channel::Size,
    ];
    let channel = channels.get(usize::from(number)).copied();
    channel.ok_or(Broken("something is said on a channel that is none"))
}

pub(super) fn number_of(channel: Channel) -> u8 {
    match channel {
        Channel::Input => 0,
        Channel::Output => 1,
        Channel::Errors => 2,
        Channel::Status => 3,
        Channel::Size => 4,
    }
}
