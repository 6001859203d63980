//! The `options` parameter: a command line, read as the server reads it.
//!
//! Any difference to the server's reading would let a setting through that nobody judged, so this
//! follows `pg_split_opts` (`utils/init/postinit.c`), glibc's `getopt`, `process_postgres_switches`
//! (`tcop/postgres.c`) and `ParseLongOption` (`utils/misc/guc.c`) step by step.

/// Why an `options` parameter cannot be taken: the server would not take it either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid command-line argument in options: {argument}")]
pub struct Error {
    /// As sent.
    pub argument: String,
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

/// Switches that do nothing where a client sends them.
const IGNORED: &str = "bEjnT";
/// The same, of those that take an argument.
const IGNORED_WITH: &str = "CDrv";

/// `-d n`: what is set from which level on, besides how much is logged (`set_debug_options`).
const LEVELS: &[(i32, &str, &str)] = &[
    (2, "log_statement", "all"),
    (3, "debug_print_parse", "true"),
    (4, "debug_print_plan", "true"),
    (5, "debug_print_rewritten", "true"),
];

/// `-t x`: what is timed (`get_stats_option_name`).
const STATISTICS: &[(&str, &str)] = &[
    ("pa", "log_parser_stats"),
    ("pl", "log_planner_stats"),
    ("e", "log_executor_stats"),
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
/// [`Error`] where the server would refuse the text.
pub(super) fn read(text: &str) -> Result<Vec<(String, String)>, Error> {
    let mut settings = Vec::new();
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        let argument = || Error {
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
            if IGNORED.contains(letter) {
                continue;
            }
            let switch = SWITCHES.iter().find(|(known, ..)| *known == letter);
            if let Some((_, name, Some(value))) = switch {
                settings.push(((*name).to_owned(), (*value).to_owned()));
                continue;
            }
            let takes = |letter| matches!(letter, 'c' | 'd' | 'f' | 't' | '-');
            if switch.is_none() && !takes(letter) && !IGNORED_WITH.contains(letter) {
                return Err(argument());
            }
            // The argument is the rest of the word, or else the next word, whatever it is.
            let value = match cluster.as_str() {
                "" => words.next().ok_or_else(argument)?,
                rest => rest.to_owned(),
            };
            settings.extend(with_argument(letter, &value).ok_or_else(argument)?);
            break;
        }
    }
    Ok(settings)
}

fn with_argument(letter: char, value: &str) -> Option<Vec<(String, String)>> {
    if let Some((_, name, None)) = SWITCHES.iter().find(|(known, ..)| *known == letter) {
        return Some(vec![((*name).to_owned(), value.to_owned())]);
    }
    // The beginning of the argument says all, and what follows it is not looked at.
    let named = |names: &[(&str, &str)], to: &str| {
        let (_, name) = names.iter().find(|(known, _)| value.starts_with(*known))?;
        Some(vec![((*name).to_owned(), to.to_owned())])
    };
    match letter {
        'd' => Some(debug(atoi(value))),
        'f' => named(PLANS, "false"),
        't' => named(STATISTICS, "true"),
        ignored if IGNORED_WITH.contains(ignored) => Some(Vec::new()),
        _ => assignment(value).map(|setting| vec![setting]),
    }
}

fn debug(level: i32) -> Vec<(String, String)> {
    let logged = match level {
        ..=0 => "notice".to_owned(),
        level => format!("debug{level}"),
    };
    let more = LEVELS.iter().filter(|(from, ..)| level >= *from);
    let more = more.map(|(_, name, value)| ((*name).to_owned(), (*value).to_owned()));
    [("log_min_messages".to_owned(), logged)]
        .into_iter()
        .chain(more)
        .collect()
}

// C's `atoi`, where a level below nothing is none, and one that no number holds is none that a server knows.
fn atoi(text: &str) -> i32 {
    let text = text.trim_start_matches(is_space);
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.split(|c: char| !c.is_ascii_digit()).next();
    match digits.unwrap_or_default() {
        "" => 0,
        digits => digits.parse().unwrap_or(i32::MAX),
    }
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
