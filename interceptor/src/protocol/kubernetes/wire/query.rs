//! The query of a request to a cluster, in order: what a command is made of must stay in it. What the server would
//! drop without a word is refused instead.

/// Parameters of one query: each part of a command is one.
const PARAMETERS_MAX: usize = 1024;

/// Parameters whose second value one reader would take and another not.
const ONCE: [&str; 10] = [
    "watch",
    "fieldSelector",
    "labelSelector",
    "container",
    "tty",
    "stdin",
    "stdout",
    "stderr",
    "force",
    "path",
];

/// The parameters of a query, escapes resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(raw: &str) -> Result<Self, &'static str> {
        let mut pairs = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() >= PARAMETERS_MAX {
                return Err("the query has more than 1024 parameters");
            }
            if part.contains(';') {
                return Err("the query has a semicolon, which servers read in two ways");
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let pair = (unescape(name)?, unescape(value)?);
            pairs.push(pair);
        }
        let query = Self(pairs);
        match ONCE.iter().any(|name| query.all(name).count() > 1) {
            true => Err("the query has a parameter twice that may be there once"),
            false => Ok(query),
        }
    }

    /// The first value of a name.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        let mut own = self.0.iter().filter(|(own, _)| own == name);
        own.next().map(|(_, value)| value.as_str())
    }

    /// Every value of a name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let own = self.0.iter().filter(move |(own, _)| own == name);
        own.map(|(_, value)| value.as_str())
    }

    /// Every parameter with its value, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn unescape(raw: &str) -> Result<String, &'static str> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                    return Err("the query has an escape that is none");
                };
                out.push(u8::try_from((high << 4) | low).unwrap_or_default());
                rest = after;
            }
            (b'%', _) => return Err("the query has an escape that is none"),
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8(out).map_err(|_not_text| "the query is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_order_and_their_values() {
        let query = Query::read("command=sh&command=-c&command=a+b%26c&tty").unwrap();
        let command: Vec<_> = query.all("command").collect();
        assert_eq!(command, ["sh", "-c", "a b&c"]);
        assert_eq!((query.first("tty"), query.first("stdin")), (Some(""), None));
        assert_eq!(query.pairs().count(), 4);
    }

    #[test]
    fn what_a_server_would_drop_or_read_otherwise_is_refused() {
        for raw in [
            "a=%",
            "a=%2",
            "a=%zz",
            "%ff=1",
            "a=1;b=2",
            "watch=0&watch=1",
            "fieldSelector=a&field%53elector=b",
            &"a&".repeat(1025),
        ] {
            assert!(Query::read(raw).is_err(), "{raw}");
        }
        assert!(Query::read(&"command=a&".repeat(1024)).is_ok());
    }
}
