//! A command as the server's shell would read it, as far as every shell reads it alike.
//!
//! What is simple is one program with its arguments, whatever shell the login has. All that a shell
//! could make something else of is named, and left to policy: nothing is guessed. A command that no
//! rule on a program can see is no simple one.

use std::collections::BTreeSet;

use super::path;
use crate::policy::{Access, Action, Resource, SshFacts};

/// Bytes of a command that is read.
const MOST: usize = 256 << 10;
/// Arguments of a command that is read.
const MOST_ARGUMENTS: usize = 2_048;

/// Words that shells take for themselves where a command begins, and those that make code of their arguments.
const KEYWORDS: [&str; 34] = [
    "!",
    "{",
    "}",
    "[[",
    "]]",
    "if",
    "then",
    "else",
    "elif",
    "fi",
    "do",
    "done",
    "case",
    "esac",
    "while",
    "until",
    "for",
    "in",
    "select",
    "function",
    "time",
    "coproc",
    "eval",
    ".",
    "source",
    "repeat",
    "foreach",
    "end",
    "endif",
    "switch",
    "nocorrect",
    "noglob",
    "begin",
    "alias",
];

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::ssh) enum Command {
    /// One program and its arguments.
    Simple(Vec<String>),
    /// Something else, by what makes it so.
    Complex(BTreeSet<&'static str>),
}

/// Reads a command.
pub(in crate::protocol::ssh) fn read(command: &[u8]) -> Command {
    let Ok(text) = std::str::from_utf8(command) else {
        return Command::Complex(BTreeSet::from(["unreadable"]));
    };
    if text.len() > MOST {
        return Command::Complex(BTreeSet::from(["unreadable"]));
    }
    let mut reader = Reader::default();
    reader.read(text);
    let Reader {
        words, constructs, ..
    } = reader;
    let first = words.first();
    let mut constructs = constructs;
    match first {
        None => drop(constructs.insert("unreadable")),
        Some(first) if KEYWORDS.contains(&first.as_str()) => drop(constructs.insert("keyword")),
        Some(first) if first.is_empty() => drop(constructs.insert("unreadable")),
        Some(_) => {}
    }
    // Servers that end a text where it has a zero see another command.
    if words.len() > MOST_ARGUMENTS || text.contains('\0') {
        constructs.insert("unreadable");
    }
    match constructs.is_empty() {
        true => Command::Simple(words),
        false => Command::Complex(constructs),
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

#[derive(Default)]
struct Reader {
    words: Vec<String>,
    word: Option<String>,
    constructs: BTreeSet<&'static str>,
    /// What was read last is no ASCII.
    is_wide: bool,
}

impl Reader {
    fn read(&mut self, text: &str) {
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            self.looks_at(c);
            match c {
                ' ' | '\t' => self.end_word(),
                '\'' => self.bare(&mut chars),
                '"' => self.quoted(&mut chars),
                '\\' => match chars.next() {
                    // A line that goes on, or a backslash that is a character of its own to some; to fish the
                    // name of another character.
                    None | Some('\n' | 'a'..='z' | 'A'..='Z' | '0'..='9') => {
                        self.note(Some("unreadable"));
                    }
                    Some(c) => {
                        self.looks_at(c);
                        self.push(c);
                    }
                },
                '|' => {
                    let or = chars.next_if_eq(&'|').is_some();
                    self.note(Some(if or { "sequence" } else { "pipeline" }));
                    self.end_word();
                }
                _ => {
                    let construct = self.special(c);
                    self.note(construct);
                    self.push(c);
                }
            }
        }
        self.end_word();
    }

    /// What a character outside of quotes makes of a command.
    fn special(&self, c: char) -> Option<&'static str> {
        let begins = self.word.is_none();
        match c {
            '&' | ';' | '(' | ')' | '\n' | '\r' => Some("sequence"),
            '<' | '>' => Some("redirection"),
            '$' | '`' => Some("substitution"),
            '*' | '?' | '[' | '{' | '}' | '^' => Some("pattern"),
            '~' | '=' if begins => Some("pattern"),
            '#' | '%' if begins => Some("comment"),
            // Something that a shell may look up in its history.
            '!' => Some("pattern"),
            '=' if self.words.is_empty() => Some("assignment"),
            c if c.is_control() => Some("unreadable"),
            _ => None,
        }
    }

    /// A backslash behind a character that is no ASCII is a part of it where the login's encoding has
    /// characters of two bytes; which encoding that is, the client says (`LC_ALL`).
    fn looks_at(&mut self, c: char) {
        self.note((c == '\\' && self.is_wide).then_some("unreadable"));
        self.is_wide = !c.is_ascii();
    }

    /// Between single quotes.
    fn bare(&mut self, chars: &mut Chars<'_>) {
        self.word.get_or_insert_default();
        let mut escapes = false;
        for c in chars.by_ref() {
            match c {
                '\'' => {
                    // To fish the quote does not end here.
                    self.note(escapes.then_some("unreadable"));
                    self.is_wide = false;
                    return;
                }
                // csh looks it up in its history here, too.
                '!' => self.note(Some("pattern")),
                _ => {}
            }
            escapes = c == '\\';
            self.push(c);
        }
        self.note(Some("unreadable"));
    }

    /// Between double quotes.
    fn quoted(&mut self, chars: &mut Chars<'_>) {
        self.word.get_or_insert_default();
        loop {
            let next = chars.next();
            self.looks_at(next.unwrap_or_default());
            match next {
                None => return self.note(Some("unreadable")),
                Some('"') => return,
                Some('$' | '`') => self.note(Some("substitution")),
                Some('!') => self.note(Some("pattern")),
                Some('\\') => match chars.next() {
                    Some('\\') => self.push('\\'),
                    // csh has no such thing as a backslash here: what it would guard ends the quotes, or is
                    // substituted.
                    Some('$' | '`') => self.note(Some("substitution")),
                    None | Some('"' | '\n') => self.note(Some("unreadable")),
                    Some(c) => {
                        self.looks_at(c);
                        self.push('\\');
                        self.push(c);
                    }
                },
                Some(c) => self.push(c),
            }
        }
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn note(&mut self, construct: Option<&'static str>) {
        self.constructs.extend(construct);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }
}

/// What a command asks, beside its facts.
pub(in crate::protocol::ssh) fn accesses(command: &Command) -> Option<Vec<Access>> {
    let Command::Simple(words) = command else {
        return None;
    };
    let (program, arguments) = words.split_first()?;
    match program.as_str() {
        "scp" => scp(arguments),
        "rsync" => rsync(arguments),
        _ => None,
    }
}

/// Whether it is the server's side of a copy, whatever else it says; then, whether it brings what files hold. A program
/// with a path is any program.
pub(in crate::protocol::ssh) fn copies(command: &Command) -> Option<bool> {
    let Command::Simple(words) = command else {
        return None;
    };
    let (program, arguments) = words.split_first()?;
    let mut options = arguments.iter().filter_map(|word| word.strip_prefix('-'));
    match (program.as_str(), arguments.first().map(String::as_str)) {
        ("rsync", Some("--server")) => Some(options.any(|option| option == "-sender")),
        ("scp", _) => {
            let has = |flag: char| move |option: &str| option.contains(flag);
            let brings = options.clone().any(has('f'));
            (brings || options.any(has('t'))).then_some(brings)
        }
        _ => None,
    }
}

/// Notes what is known of a command.
pub(in crate::protocol::ssh) fn describe(command: &Command, facts: &mut SshFacts) {
    match command {
        Command::Complex(constructs) => {
            facts.constructs = constructs.iter().map(|&one| one.to_owned()).collect();
        }
        Command::Simple(words) => {
            facts.is_simple = true;
            if let Some((program, arguments)) = words.split_first() {
                facts.program.clone_from(program);
                facts.arguments = arguments.iter().cloned().collect();
                if let Some((verb, repository)) = git(program, arguments) {
                    facts.git_verb = verb.to_owned();
                    facts.git_repository = repository.to_owned();
                }
            }
        }
    }
}

/// What git's own transport does, and on what.
fn git<'a>(program: &str, arguments: &'a [String]) -> Option<(&'static str, &'a str)> {
    let (verb, arguments) = match (program, arguments) {
        ("git-upload-pack", rest) => ("fetch", rest),
        ("git-receive-pack", rest) => ("push", rest),
        ("git-upload-archive", rest) => ("archive", rest),
        ("git", [verb, rest @ ..]) => match verb.as_str() {
            "upload-pack" => ("fetch", rest),
            "receive-pack" => ("push", rest),
            "upload-archive" => ("archive", rest),
            _ => return None,
        },
        _ => return None,
    };
    match arguments {
        [repository] if !repository.starts_with('-') => Some((verb, repository)),
        _ => None,
    }
}

fn file(action: Action, path: &str) -> Option<Access> {
    let path = path::steps(path, None)?;
    let resource = Resource::File { path };
    Some(Access { action, resource })
}

/// The server's side of `scp`: what it sends or takes, and nothing else.
fn scp(arguments: &[String]) -> Option<Vec<Access>> {
    let mut action = None;
    let mut path = None;
    let mut options = true;
    for argument in arguments {
        match argument.strip_prefix('-') {
            Some("-") if options => options = false,
            Some(flags) if options && !flags.is_empty() && path.is_none() => {
                for flag in flags.chars() {
                    let said = match flag {
                        't' => Action::WriteFile,
                        'f' => Action::ReadFile,
                        'p' | 'r' | 'd' | 'v' | 'q' => continue,
                        _ => return None,
                    };
                    // Of two that differ the server takes the one that it looks at first.
                    if action.replace(said).is_some_and(|before| before != said) {
                        return None;
                    }
                }
            }
            _ if path.is_none() => path = Some(argument),
            _ => return None,
        }
    }
    Some(vec![file(action?, path?)?])
}

/// The server's side of `rsync`, where all that it says is known to lead nowhere else.
fn rsync(arguments: &[String]) -> Option<Vec<Access>> {
    let [server, rest @ ..] = arguments else {
        return None;
    };
    if server != "--server" {
        return None;
    }
    let (mut sender, mut removes) = (false, false);
    let mut rest = rest.iter();
    loop {
        match rest.next()?.as_str() {
            "--sender" => sender = true,
            "--remove-source-files" => removes = true,
            "--numeric-ids" | "--inplace" | "--partial" | "--size-only" | "--ignore-times"
            | "--existing" | "--ignore-existing" | "--no-implied-dirs" | "--force-change" => {}
            option if option == "--delete" || option.starts_with("--delete-") => removes = true,
            "." => break,
            option if is_short(option) => {}
            _ => return None,
        }
    }
    let mut accesses = Vec::new();
    for path in rest {
        // It takes options in any place, behind the paths too.
        if path.starts_with('-') {
            return None;
        }
        let action = match sender {
            true => Action::ReadFile,
            false => Action::WriteFile,
        };
        accesses.push(file(action, path)?);
        if removes {
            accesses.push(file(Action::RemoveFile, path)?);
        }
    }
    (!accesses.is_empty()).then_some(accesses)
}

/// Short flags as rsync's client sends them; `s` would hide the paths from here.
fn is_short(option: &str) -> bool {
    let Some(flags) = option.strip_prefix('-') else {
        return false;
    };
    let (flags, is_some) = match flags.split_once("e.") {
        Some((flags, _)) => (flags, true),
        None => (flags, !flags.is_empty()),
    };
    let is_known = |flag| "vlogDtprRzcnuaHAXEOJSWxhibdkLIyP".contains(flag);
    is_some && flags.chars().all(is_known)
}

#[cfg(test)]
mod tests;
