//! How long the client itself lets a statement run (`statement_timeout`), as it has said so: a server counts
//! only what is there, and a statement that waits for people is not.
//!
//! What a role or a database sets is not known, and what is set in a transaction is taken as if it lasted:
//! at worst a wait ends early, and its question stays.

use std::time::Duration;

use crate::protocol::postgres::facts;
use crate::session::Reading;

const NAME: &str = "statement_timeout";

/// What was said, last and at the login.
#[derive(Debug, Default)]
pub(in crate::protocol::postgres::session) struct OwnTimeout {
    login: Option<Duration>,
    now: Option<Duration>,
}

impl OwnTimeout {
    /// What the client asked to set when it logged in: `name = value`.
    pub(in crate::protocol::postgres::session) fn new(asked: &[String]) -> Self {
        let said = asked.iter().filter_map(|one| one.split_once(" = "));
        let mut said = said.filter(|(name, _)| name.eq_ignore_ascii_case(NAME));
        let login = said.next_back().and_then(|(_, value)| read(value));
        let login = login.unwrap_or_default();
        Self { login, now: login }
    }

    /// How long, where there is an end.
    pub(in crate::protocol::postgres::session) fn now(&self) -> Option<Duration> {
        self.now
    }

    /// A statement is permitted: perhaps it sets this.
    pub(in crate::protocol::postgres::session) fn note(&mut self, text: &str, reading: &Reading) {
        let [ask] = reading.asks.as_slice() else {
            return;
        };
        let settings = &ask.context.settings;
        if settings.contains("all") {
            self.now = self.login;
        }
        if settings.len() != 1 || !settings.contains(NAME) {
            return;
        }
        let mut words = text.split_whitespace().map(str::to_ascii_lowercase);
        let (verb, second) = (words.next(), words.next());
        let literals = facts::literals(text).unwrap_or_default();
        let mut literals = literals.split_terminator('\0');
        match (verb.as_deref(), second.as_deref()) {
            // It ends with its transaction, in which nothing waits.
            (Some("set"), Some("local")) => {}
            (Some("set"), _) => match literals.next().map(read) {
                Some(Some(said)) => self.now = said,
                Some(None) => {}
                // `TO DEFAULT`.
                None => self.now = self.login,
            },
            (Some("reset"), _) => self.now = self.login,
            _ => {}
        }
    }
}

/// What a value means: `None` where it is none, and inside of it where it is for ever (PostgreSQL documentation,
/// "Parameter Interaction via the Configuration File", units of time).
fn read(value: &str) -> Option<Option<Duration>> {
    let value = value.trim_matches('\'').trim();
    let digits = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "us" => number / 1_000,
        "" | "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "min" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    Some((millis > 0).then(|| Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::postgres::facts::Names;

    fn after(asked: &[&str], texts: &[&str]) -> Option<Duration> {
        let asked: Vec<_> = asked.iter().map(|one| (*one).to_owned()).collect();
        let mut own = OwnTimeout::new(&asked);
        for text in texts {
            let names = Names {
                search_path: Some(vec!["public".to_owned()]),
                utf8: true,
                ..Names::default()
            };
            let reading: Arc<Reading> = Arc::clone(&facts::read(text, &names).reading);
            own.note(text, &reading);
        }
        own.now()
    }

    #[test]
    fn the_last_that_the_client_has_said_counts() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let login = ["application_name = x", "statement_timeout = 5s"];
        let rows: &[(&[&str], &[&str], Option<Duration>)] = &[
            (&[], &[], None),
            (&login, &[], seconds(5)),
            (&["statement_timeout = 0"], &[], None),
            (&[], &["set statement_timeout = 2000"], seconds(2)),
            (
                &[],
                &["SET SESSION statement_timeout TO '1min'"],
                seconds(60),
            ),
            (&[], &["set statement_timeout to '1 h'"], seconds(3_600)),
            (&login, &["set statement_timeout = 0"], None),
            (
                &login,
                &["set statement_timeout = 9000", "reset statement_timeout"],
                seconds(5),
            ),
            (
                &login,
                &[
                    "set statement_timeout = 9000",
                    "set statement_timeout to default",
                ],
                seconds(5),
            ),
            (
                &login,
                &["set statement_timeout = 9000", "reset all"],
                seconds(5),
            ),
            (
                &login,
                &["set statement_timeout = 9000", "discard all"],
                seconds(5),
            ),
            // Nothing of these is one, or lasts.
            (&login, &["set local statement_timeout = 1"], seconds(5)),
            (&login, &["set lock_timeout = 1"], seconds(5)),
            (&login, &["set statement_timeout = 'soon'"], seconds(5)),
            (&login, &["show statement_timeout"], seconds(5)),
            (&login, &["select 1"], seconds(5)),
        ];
        for (asked, texts, expected) in rows {
            assert_eq!(after(asked, texts), *expected, "{asked:?} {texts:?}");
        }
    }
}
