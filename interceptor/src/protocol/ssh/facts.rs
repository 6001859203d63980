//! What a channel asks, as policy and audit have it.

// What a request asks for is written out for each kind of thing: a new one does not compile unread.
#![warn(clippy::wildcard_enum_match_arm)]

mod command;
pub(super) mod path;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::policy::{Access, Action, Ask, Context, Refusal, Resource, SshFacts};
use crate::session::{Reading, Typed};

/// Bytes of the name of a host (RFC 1035 has 255).
const HOST: usize = 256;

/// A request, with the text that stands for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) text: String,
    pub(super) reading: Arc<Reading>,
}

impl Asked {
    /// What is asked for beside the text: a command may be called like a subsystem, or like an operation on a file.
    pub(super) fn under(&self) -> Vec<String> {
        let asks = self.reading.asks.iter();
        let actions: BTreeSet<_> = asks
            .clone()
            .flat_map(|ask| ask.accesses.iter().map(|access| access.action.name()))
            .collect();
        let actions: Vec<_> = actions.into_iter().collect();
        let mut ssh = asks.filter_map(|ask| ask.context.ssh.as_ref());
        let pty = ssh.any(|ssh| ssh.pty).then(|| "at a terminal".to_owned());
        let actions = format!("asks for {}", actions.join(", "));
        std::iter::once(actions).chain(pty).collect()
    }
}

/// What is the same in all requests of a channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    /// The login on the server.
    pub(super) user: String,
    /// Whether a terminal was asked for.
    pub(super) pty: bool,
    /// Whether nothing goes to the client in which detectors do not look for values.
    pub(super) searches: bool,
}

/// What a command and its arguments are called where what may be somebody's is left out, and in a word.
fn redacted(read: &command::Command) -> (String, String) {
    match read {
        command::Command::Simple(words) => {
            let program = words.first().cloned().unwrap_or_default();
            let arguments = words.len().saturating_sub(1);
            (format!("{program} ({arguments} arguments)"), program)
        }
        command::Command::Complex(constructs) => {
            let constructs: Vec<_> = constructs.iter().copied().collect();
            let summary = format!("a command with {}", constructs.join(", "));
            (summary.clone(), summary)
        }
    }
}

/// A command in letters: two that differ differ here, too.
fn as_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\u{fffd}{byte:02x}"));
        }
    }
    text
}

/// A line that was typed into a shell.
pub(super) fn typed(text: String) -> Typed {
    let (redacted, _) = redacted(&command::read(text.as_bytes()));
    Typed { text, redacted }
}

/// Whether a command is one whose bytes are files, not text: the server's side of a copy, or of git.
pub(super) fn carries_files(bytes: &[u8]) -> bool {
    let read = command::read(bytes);
    let mut facts = SshFacts::default();
    command::describe(&read, &mut facts);
    command::copies(&read).is_some() || !facts.git_verb.is_empty()
}

/// A host as rules have it: an address in one form, however it was written, and a name without the dot behind it.
pub(super) fn host(said: &str) -> String {
    let said = said.to_ascii_lowercase();
    let bare = said
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(&said);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_name) => numbers(bare).map_or_else(|| bare.to_owned(), |address| address.to_string()),
    }
}

/// Whether a host is one to every server: not one whose text ends where it has a zero, and not one with a part
/// that only resolvers see. Empty for every address, where a server listens.
pub(super) fn is_host(said: &str) -> bool {
    let is_of_hosts = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]*".contains(&byte);
    said.len() <= HOST && said.bytes().all(is_of_hosts)
}

/// A socket as rules have it, where its text alone says which it is.
pub(super) fn socket(path: &str) -> Option<String> {
    let is_whole = path.starts_with('/') && !path.chars().any(char::is_control);
    let steps = is_whole.then(|| path::steps(path, None))??;
    Some(format!("/{}", steps.join("/")))
}

/// An address of IPv4 in the forms that resolvers still take: fewer numbers, octal ones, hexadecimal ones.
fn numbers(said: &str) -> Option<Ipv4Addr> {
    let parts: Vec<_> = said.split('.').collect();
    let number = |part: &&str| {
        let (digits, radix) = match part.strip_prefix("0x") {
            Some(rest) => (rest, 16),
            None if part.len() > 1 && part.starts_with('0') => (*part, 8),
            None => (*part, 10),
        };
        // `u32` would take a sign.
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_plain.then(|| u32::from_str_radix(digits, radix).ok())?
    };
    let parts: Option<Vec<_>> = parts.iter().map(number).collect();
    let parts = parts?;
    let (last, heads) = parts.split_last()?;
    let room = 32_u32.checked_sub(8_u32.checked_mul(u32::try_from(heads.len()).ok()?)?)?;
    if heads.len() > 3 || u64::from(*last) >= 1_u64.checked_shl(room)? {
        return None;
    }
    let mut address = *last;
    for (head, shift) in heads.iter().zip([24_u32, 16, 8]) {
        if *head > 255 {
            return None;
        }
        address |= head.checked_shl(shift)?;
    }
    Some(Ipv4Addr::from(address))
}

/// A subsystem in words.
pub(super) fn subsystem(name: &str) -> String {
    format!("subsystem {name}")
}

impl Common {
    fn facts(&self) -> SshFacts {
        SshFacts {
            user: self.user.clone(),
            pty: self.pty,
            ..SshFacts::default()
        }
    }

    /// Why what brings files or another protocol goes no farther.
    fn veto(&self, brings: bool, what: &str) -> Option<Refusal> {
        (self.searches && brings).then(|| Refusal::unsearchable(what))
    }

    /// Runs a command.
    pub(super) fn exec(&self, bytes: &[u8]) -> Asked {
        let read = command::read(bytes);
        let mut facts = self.facts();
        facts.command = as_text(bytes);
        command::describe(&read, &mut facts);
        let text = facts.command.clone();
        let (redacted, summary) = redacted(&read);
        let copies = command::accesses(&read);
        if copies.is_some() {
            facts.operation.clone_from(&facts.program);
        }
        let accesses: BTreeSet<_> = copies
            .unwrap_or_else(|| vec![on_target(Action::Exec)])
            .into_iter()
            .collect();
        let is_fetch = matches!(facts.git_verb.as_str(), "fetch" | "archive");
        let is_copy = command::copies(&read) == Some(true) || reads(&accesses);
        let veto = self.veto(is_fetch || is_copy, &facts.program);
        asked((facts, accesses), text, &redacted, &summary, veto)
    }

    /// Opens a shell.
    pub(super) fn shell(&self) -> Asked {
        let accesses = BTreeSet::from([on_target(Action::Shell)]);
        asked(
            (self.facts(), accesses),
            "shell".to_owned(),
            "shell",
            "shell",
            None,
        )
    }

    /// Begins a subsystem.
    pub(super) fn subsystem(&self, name: &str) -> Asked {
        let facts = SshFacts {
            subsystem: name.to_owned(),
            ..self.facts()
        };
        let accesses = BTreeSet::from([on_target(Action::Subsystem)]);
        let text = subsystem(name);
        asked((facts, accesses), text.clone(), &text, &text, None)
    }

    /// Does something to files.
    pub(super) fn files(&self, operation: &str, said: &str, accesses: BTreeSet<Access>) -> Asked {
        let facts = SshFacts {
            operation: operation.to_owned(),
            ..self.facts()
        };
        let text = format!("sftp {operation} {said}");
        let summary = format!("sftp {operation}");
        let veto = self.veto(operation == "open" && reads(&accesses), "sftp");
        asked((facts, accesses), text.clone(), &text, &summary, veto)
    }

    /// Forwards.
    pub(super) fn forward(&self, action: Action, resource: Resource, said: &str) -> Asked {
        let accesses = BTreeSet::from([Access { action, resource }]);
        // An ssh-agent signs, and shows nothing.
        let veto = self.veto(action != Action::ForwardAgent, "a forward");
        asked((self.facts(), accesses), said.to_owned(), said, said, veto)
    }
}

/// Gives the facts of a command back what is not written down with them, out of the statement that is; whether
/// they are whole then. A statement without what may be somebody's has another fingerprint, and tells nothing.
pub(crate) fn recall(facts: &mut SshFacts, statement: &str, known: &str) -> bool {
    let is_command = facts.is_simple || !facts.constructs.is_empty();
    if !is_command {
        return true;
    }
    if fingerprint(statement) != known {
        return false;
    }
    statement.clone_into(&mut facts.command);
    command::describe(&command::read(statement.as_bytes()), facts);
    true
}

fn fingerprint(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()))
}

/// Whether what a file holds is asked for.
fn reads(accesses: &BTreeSet<Access>) -> bool {
    let mut actions = accesses.iter().map(|access| access.action);
    actions.any(|action| action == Action::ReadFile)
}

/// What is asked of the target as a whole.
fn on_target(action: Action) -> Access {
    Access {
        action,
        resource: Resource::Target,
    }
}

fn asked(
    (facts, accesses): (SshFacts, BTreeSet<Access>),
    text: String,
    redacted: &str,
    summary: &str,
    veto: Option<Refusal>,
) -> Asked {
    let ask = Ask {
        accesses,
        context: Context {
            ssh: Some(Box::new(facts)),
            ..Context::default()
        },
    };
    let fingerprint = fingerprint(&text);
    let reading = Reading {
        asks: vec![ask],
        redacted: Arc::from(redacted),
        fingerprint: Arc::from(fingerprint),
        summary: Arc::from(summary),
        masked: Arc::from([]),
        veto: veto.map(Arc::new),
    };
    Asked {
        text,
        reading: Arc::new(reading),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_however_it_is_written() {
        let cases = [
            ("127.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("DB.Internal.", "db.internal"),
            ("256.1", "256.1"),
            ("1.2.3.4.5", "1.2.3.4.5"),
            ("4294967296", "4294967296"),
            ("+1", "+1"),
            ("", ""),
        ];
        for (said, expected) in cases {
            assert_eq!(host(said), expected, "{said}");
        }
    }

    #[test]
    fn people_are_shown_what_kind_of_thing_a_text_asks_for() {
        let pty = Common {
            pty: true,
            ..Common::default()
        };
        let common = Common::default();
        assert_eq!(common.exec(b"shell").under(), ["asks for Exec"]);
        assert_eq!(common.shell().under(), ["asks for Shell"]);
        assert_eq!(pty.shell().under(), ["asks for Shell", "at a terminal"]);
        let named = common.exec(b"subsystem sftp");
        assert_eq!(named.text, common.subsystem("sftp").text);
        assert_ne!(named.under(), common.subsystem("sftp").under());
    }

    #[test]
    fn a_place_is_one_to_every_server() {
        for host in ["", "*", "db.internal", "a_b", "10.0.0.1", "[::1]"] {
            assert!(is_host(host), "{host}");
        }
        let long = "x".repeat(300);
        for host in ["a\0b", "::1%lo", "a b", "a\n", "ä", &long] {
            assert!(!is_host(host), "{host:?}");
        }
        let sockets = [
            ("/run/x", Some("/run/x")),
            ("/run//./x/", Some("/run/x")),
            ("/run/a/../x", None),
            ("run/x", None),
            ("/run/x\0y", None),
            ("/run/x\ny", None),
            ("", None),
        ];
        for (path, expected) in sockets {
            assert_eq!(socket(path).as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn commands_that_differ_are_shown_differently() {
        let asked = |bytes: &[u8]| Common::default().exec(bytes).text;
        assert_ne!(asked(b"cat /srv/\xff"), asked(b"cat /srv/\xfe"));
        assert_ne!(
            asked(b"cat /srv/\xff"),
            asked("cat /srv/\u{fffd}".as_bytes())
        );
        assert_eq!(asked("cat ä".as_bytes()), "cat ä");
    }

    #[test]
    fn what_detectors_cannot_search_is_vetoed_where_they_withhold() {
        let searching = Common {
            searches: true,
            ..Common::default()
        };
        let accesses = |action| {
            let resource = Resource::File {
                path: vec!["a".to_owned()],
            };
            BTreeSet::from([Access { action, resource }])
        };
        let to = |common: &Common, action| common.forward(action, Resource::Target, "forward");
        for (common, is_vetoed) in [(&searching, true), (&Common::default(), false)] {
            let brings = [
                common.exec(b"scp -f /a"),
                common.exec(b"rsync --server --sender -v . /a"),
                common.exec(b"rsync --server --sender --new-option . /a"),
                common.exec(b"git-upload-pack '/a.git'"),
                common.files("open", "/a", accesses(Action::ReadFile)),
                to(common, Action::ForwardTo),
                to(common, Action::ForwardFrom),
                to(common, Action::ForwardX11),
            ];
            for asked in brings {
                let veto = asked.reading.veto.is_some();
                assert_eq!(veto, is_vetoed, "{}", asked.text);
            }
            let others = [
                common.exec(b"cat /a"),
                common.exec(b"scp -t /a"),
                common.exec(b"/tmp/rsync --server --sender . /a"),
                common.exec(b"rsync --server -v . /a"),
                common.exec(b"git-receive-pack '/a.git'"),
                common.shell(),
                common.subsystem("sftp"),
                common.files("open", "/a", accesses(Action::WriteFile)),
                common.files("rename", "/a /b", accesses(Action::ReadFile)),
                to(common, Action::ForwardAgent),
            ];
            for asked in others {
                assert_eq!(asked.reading.veto, None, "{}", asked.text);
            }
        }
    }

    #[test]
    fn a_copy_says_which_program_makes_it() {
        let operation = |command: &str| {
            let asked = Common::default().exec(command.as_bytes());
            let ssh = asked.reading.asks[0].context.ssh.clone();
            ssh.map(|facts| facts.operation).unwrap_or_default()
        };
        assert_eq!(operation("scp -r -t /srv"), "scp");
        assert_eq!(operation("rsync --server -vr . /srv"), "rsync");
        assert_eq!(
            operation("rsync --server --sender -e.LsfxCIvu . /srv"),
            "rsync"
        );
        assert_eq!(operation("rsync --server - . /srv"), "");
        assert_eq!(operation("ls"), "");
    }
}
