//! The settings that a client sends at startup: which of them are harmless, and which are judged.

use std::collections::BTreeSet;

use crate::policy::{Access, Action, Ask, Context, Resource};

/// One setting of a session, as the client gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name as sent; the server does not mind its case.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it stood.
    pub origin: Origin,
}

/// Where a setting stood. The server makes those of `options` first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In `options`.
    Options,
    /// A parameter of its own.
    Parameter,
}

/// Settings that change how results look and when a broken connection is noticed, and nothing that
/// policy stands on. How long a session may work is for policy, as in a `SET`. Of the others, `search_path`, `role`, `session_authorization`, `row_security`,
/// `standard_conforming_strings` and `session_preload_libraries` are why this list exists.
const HARMLESS: &[&str] = &[
    "application_name",
    "bytea_output",
    "datestyle",
    "extra_float_digits",
    "geqo",
    "intervalstyle",
    "jit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "timezone",
];

/// Harmless with these values only. Below `notice` a server sends its own workings.
const HARMLESS_VALUES: &[(&str, &[&str])] = &[
    ("client_min_messages", &["error", "notice", "warning"]),
    ("standard_conforming_strings", &["on"]),
];

impl Setting {
    /// Whether it needs no judgement.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        let value = self.value.to_ascii_lowercase();
        HARMLESS.contains(&name.as_str())
            || HARMLESS_VALUES
                .iter()
                .any(|(known, values)| *known == name && values.contains(&value.as_str()))
            || (name == "client_encoding" && is_utf8(&value))
    }

    /// The setting in words.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{} = {}", self.name, self.value)
    }

    /// What policy is asked about it: the same as for a `SET` of it.
    #[must_use]
    pub fn ask(&self) -> Ask {
        Ask {
            accesses: BTreeSet::from([Access {
                action: Action::Set,
                resource: Resource::Database,
            }]),
            context: Context {
                has_where: true,
                settings: BTreeSet::from([self.name.to_ascii_lowercase()]),
                ..Context::default()
            },
        }
    }
}

// As `clean_encoding_name` (`common/encnames.c`): only letters and digits count.
fn is_utf8(value: &str) -> bool {
    let name: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    value.is_ascii() && matches!(name.as_str(), "utf8" | "unicode")
}

#[cfg(test)]
mod tests;
