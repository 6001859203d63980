//! The `options` parameter: a command line, read as the server reads it.
//!
//! Any difference to the server's reading would let a setting through that nobody judged, so this
//! follows `pg_split_opts` (`utils/init/postinit.c`), glibc's `getopt`, `process_postgres_switches`
//! (`tcop/postgres.c`) and `ParseLongOption` (`utils/misc/guc.c`) step by step.

/// Why an `options` parameter cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server would not take it either.
    #[error("invalid command-line argument in options: {argument}")]
    Argument {
        /// As sent.
        argument: String,
    },
    /// A switch that is no setting; only settings can be judged.
    #[error("switch -{switch} in options is not supported: write -c name=value")]
    Switch {
        /// Its letter.
        switch: char,
    },
}

/// Switches that stand for one setting: letter, setting, value (`None`: the switch's argument).
const SWITCHES: &[(char, &str, Option<&str>)] = &[
    ('B', "shared_buffers", None),
    ('e', "datestyle", Some("euro")),
    ('F', "fsync", Some("false")),
    ('h', "listen_addresses", None),
    ('i', "listen_addresses", Some("*")),
    ('k', "unix_socket_directories", None),
    ('l', "ssl", Some("true")),
    ('N', "max_connections", None),
    ('O', "allow_system_table_mods", Some("true")),
    ('P', "ignore_system_indexes", Some("true")),
    ('p', "port", None),
    ('S', "work_mem", None),
    ('s', "log_statement_stats", Some("true")),
    ('W', "post_auth_delay", None),
];

/// `-f x`: methods of the planner that are switched off (`set_plan_disabling_options`).
const PLANS: &[(&str, &str)] = &[
    ("s", "enable_seqscan"),
    ("i", "enable_indexscan"),
    ("o", "enable_indexonlyscan"),
    ("b", "enable_bitmapscan"),
    ("t", "enable_tidscan"),
    ("n", "enable_nestloop"),
    ("m", "enable_mergejoin"),
    ("h", "enable_hashjoin"),
];

/// Splits at white space that no backslash stands before; a backslash is dropped and keeps what
/// follows it, another backslash too.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| is_space(*c)).is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        let mut escaped = false;
        while let Some(next) = rest.next_if(|c| escaped || !is_space(*c)) {
            if !escaped && next == '\\' {
                escaped = true;
            } else {
                escaped = false;
                word.push(next);
            }
        }
        words.push(word);
    }
}

// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// The settings that `text` makes, in the order in which the server makes them.
///
/// # Errors
/// [`Error`] where the server would refuse the text, or a switch is no setting.
pub(super) fn read(text: &str) -> Result<Vec<(String, String)>, Error> {
    let mut settings = Vec::new();
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        let argument = || Error::Argument {
            argument: word.clone(),
        };
        if let Some(long) = word.strip_prefix("--") {
            settings.push(assignment(long).ok_or_else(argument)?);
            continue;
        }
        // Switches without an argument may stand together: `-eFc name=value`.
        let mut cluster = word.strip_prefix('-').ok_or_else(argument)?.chars();
        if cluster.as_str().is_empty() {
            return Err(argument());
        }
        while let Some(letter) = cluster.next() {
            let switch = SWITCHES.iter().find(|(known, ..)| *known == letter);
            if let Some((_, name, Some(value))) = switch {
                settings.push(((*name).to_owned(), (*value).to_owned()));
                continue;
            }
            if switch.is_none() && !matches!(letter, 'c' | 'f' | '-') {
                return Err(Error::Switch { switch: letter });
            }
            // The argument is the rest of the word, or else the next word, whatever it is.
            let value = match cluster.as_str() {
                "" => words.next().ok_or_else(argument)?,
                rest => rest.to_owned(),
            };
            settings.push(with_argument(letter, &value).ok_or_else(argument)?);
            break;
        }
    }
    Ok(settings)
}

fn with_argument(letter: char, value: &str) -> Option<(String, String)> {
    if let Some((_, name, None)) = SWITCHES.iter().find(|(known, ..)| *known == letter) {
        return Some(((*name).to_owned(), value.to_owned()));
    }
    if letter == 'f' {
        let (_, name) = PLANS.iter().find(|(known, _)| *known == value)?;
        return Some(((*name).to_owned(), "false".to_owned()));
    }
    assignment(value)
}

fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    if name.is_empty() {
        return None;
    }
    Some((name.replace('-', "_"), value.to_owned()))
}

/// Writes settings as an `options` parameter that the server reads back as the same settings.
#[must_use]
pub fn write<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in settings {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str("-c ");
        for c in name.chars().chain(['=']).chain(value.chars()) {
            if is_space(c) || c == '\\' {
                text.push('\\');
            }
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests;
