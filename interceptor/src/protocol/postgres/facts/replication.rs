//! Commands of a replication connection: what a walsender runs that is not SQL.
//!
//! A text is a command where its first word is one of the server's, and SQL otherwise
//! (`replication_scanner_is_replication_command`, `repl_scanner.l`). No statement of SQL begins with such a
//! word but `SHOW`, which does the same either way; a server that does not know one yet reads it as SQL, and
//! fails. A text is never more than one command.

use std::sync::Arc;

use super::super::mask::unreadable;
use super::{Effect, Facts, Names, digest_of};
use crate::policy::{Access, Action, Ask, Context, Resource};
use crate::session::Reading;

/// What stands for a string.
const HIDDEN: &str = "?";

/// The commands of every supported version together.
const COMMANDS: &[&str] = &[
    "ALTER_REPLICATION_SLOT",
    "BASE_BACKUP",
    "CREATE_REPLICATION_SLOT",
    "DROP_REPLICATION_SLOT",
    "IDENTIFY_SYSTEM",
    "READ_REPLICATION_SLOT",
    "SHOW",
    "START_REPLICATION",
    "TIMELINE_HISTORY",
    "UPLOAD_MANIFEST",
];

/// What `text` asks for on a replication connection: one ask for `Replicate` where it is a command, and
/// what [`super::read`] says of it elsewhere.
#[must_use]
pub fn read(text: &str, names: &Names) -> Facts {
    let tokens = tokens(text);
    let first = tokens.first().copied().unwrap_or_default();
    let command = COMMANDS
        .iter()
        .find(|command| command.eq_ignore_ascii_case(first));
    match command {
        Some(command) => facts(command, &tokens, names),
        None => super::read(text, names),
    }
}

fn facts(command: &'static str, tokens: &[&str], names: &Names) -> Facts {
    let access = Access {
        action: Action::Replicate,
        resource: if is_within_database(command, tokens) {
            Resource::Database
        } else {
            Resource::Target
        },
    };
    let ask = Ask {
        accesses: [access].into(),
        context: Context {
            has_where: true,
            command: command.to_ascii_lowercase(),
            statements: 1,
            in_transaction: names.in_transaction,
            ..Context::default()
        },
    };
    let redacted = redacted(tokens);
    let effects = match command {
        "START_REPLICATION" => vec![Effect::CopyBoth],
        "UPLOAD_MANIFEST" => vec![Effect::CopyIn],
        "BASE_BACKUP" => vec![Effect::CopyOut],
        _ => Vec::new(),
    };
    Facts {
        reading: Arc::new(Reading {
            asks: vec![ask],
            fingerprint: format!("replication:{}", digest_of(&redacted)).into(),
            redacted: redacted.into(),
            summary: command.into(),
            masked: Arc::default(),
            // What is streamed are the rows as they are.
            veto: names.masking.as_ref().map(|_| Arc::new(unreadable())),
        }),
        effects,
        statements: 1,
        readable: true,
        uses_search_path: false,
        of_its_shape: false,
        rewrite: None,
    }
}

/// Whether a command stays within the database of its connection. What is not certain reaches the server.
fn is_within_database(command: &str, tokens: &[&str]) -> bool {
    let word = |at: usize, wanted: &str| {
        let found = tokens.get(at).copied().unwrap_or_default();
        found.eq_ignore_ascii_case(wanted)
    };
    match command {
        "IDENTIFY_SYSTEM" | "SHOW" | "ALTER_REPLICATION_SLOT" => true,
        // START_REPLICATION SLOT name LOGICAL …
        "START_REPLICATION" => word(1, "SLOT") && word(3, "LOGICAL"),
        // CREATE_REPLICATION_SLOT name [TEMPORARY] LOGICAL …
        "CREATE_REPLICATION_SLOT" => {
            word(2, "LOGICAL") || (word(2, "TEMPORARY") && word(3, "LOGICAL"))
        }
        _ => false,
    }
}

/// The text's words, quoted names, strings, and whatever else one by one, as `repl_scanner.l` parts them.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        // `\v` is white space there and not in Rust's ASCII.
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        let Some(first) = rest.chars().next() else {
            return tokens;
        };
        let end = match first {
            '\'' | '"' => quoted(rest, first),
            first if begins_word(first) => rest.find(|c: char| !goes_on(c)).unwrap_or(rest.len()),
            first if first.is_ascii_digit() => rest
                .find(|c: char| !c.is_ascii_hexdigit() && c != '/')
                .unwrap_or(rest.len()),
            first => first.len_utf8(),
        };
        let (token, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        tokens.push(token);
        rest = after;
    }
}

fn begins_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn goes_on(c: char) -> bool {
    begins_word(c) || c.is_ascii_digit() || c == '$'
}

/// Where what `quote` begins ends; a quote that is written twice does not end it.
fn quoted(text: &str, quote: char) -> usize {
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        if c == quote && inside.next_if(|(_, next)| *next == quote).is_none() {
            return at.saturating_add(1);
        }
    }
    text.len()
}

/// The command without its strings: labels, options' values, manifests' sums.
fn redacted(tokens: &[&str]) -> String {
    let shown = tokens.iter().map(|token| match token.strip_prefix('\'') {
        Some(_) => HIDDEN,
        None => token,
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
