//! What agents may ask resolvers, and how they are told that they may not.

/// What agents may ask resolvers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Domains whose names may have addresses of private networks, beside the targets' own.
    pub private: Vec<String>,
    /// Types of records that may be asked for, upper case.
    pub types: Vec<String>,
    /// Questions a second of one scope, as a token bucket of four seconds' size. Default 50.
    pub queries_per_second: u32,
    /// How a question is refused. Default `Refused`.
    pub refusal: NameRefusal,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            private: Vec::new(),
            types: Self::TYPES.map(str::to_owned).to_vec(),
            queries_per_second: 50,
            refusal: NameRefusal::Refused,
        }
    }
}

impl Names {
    /// The types that may be asked for where nothing is said. TXT is not one: it carries data.
    pub const TYPES: [&str; 10] = [
        "A", "AAAA", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "SVCB",
    ];

    /// Whether a name may have addresses of private networks.
    #[must_use]
    pub fn is_private(&self, name: &str) -> bool {
        self.private.iter().any(|domain| is_below(name, domain))
    }
}

/// Whether `name` is `domain` or lies in it; both lower case, without the root's dot.
#[must_use]
pub fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The answer to a question that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRefusal {
    /// `REFUSED`: clients ask the next resolver, and tell of a failure.
    Refused,
    /// `NXDOMAIN`: clients tell of no such name.
    Nxdomain,
}
