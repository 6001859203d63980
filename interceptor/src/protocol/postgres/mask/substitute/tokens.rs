//! Where in a text the things are that are put into another place: byte spans, by the tokens.

use pg_query::protobuf::{RangeTableSample, RangeVar, ScanToken, Token};

/// A text's tokens, without comments.
pub(in super::super) struct Tokens<'a> {
    text: &'a str,
    tokens: Vec<(usize, usize)>,
}

/// Where a relation is named, with all that belongs to the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Named {
    pub(in super::super) from: usize,
    pub(in super::super) to: usize,
    /// `TABLE x` as a query.
    pub(in super::super) is_query: bool,
    /// The token behind it.
    pub(in super::super) next: usize,
}

impl<'a> Tokens<'a> {
    pub(in super::super) fn new(text: &'a str, all: &[ScanToken]) -> Self {
        let comments = [i32::from(Token::SqlComment), i32::from(Token::CComment)];
        let tokens = all
            .iter()
            .filter(|token| !comments.contains(&token.token))
            .filter_map(|token| {
                let from = usize::try_from(token.start).ok()?;
                Some((from, usize::try_from(token.end).ok()?))
            })
            .collect();
        Self { text, tokens }
    }

    fn at(&self, location: i32) -> Option<usize> {
        let from = usize::try_from(location).ok()?;
        self.tokens
            .binary_search_by_key(&from, |token| token.0)
            .ok()
    }

    fn word(&self, index: usize) -> &'a str {
        let token = self.tokens.get(index);
        token
            .and_then(|(from, to)| self.text.get(*from..*to))
            .unwrap_or_default()
    }

    fn is(&self, index: Option<usize>, word: &str) -> bool {
        index.is_some_and(|index| self.word(index).eq_ignore_ascii_case(word))
    }

    pub(in super::super) fn start(&self, index: usize) -> Option<usize> {
        self.tokens.get(index).map(|token| token.0)
    }

    fn end(&self, index: usize) -> Option<usize> {
        self.tokens.get(index).map(|token| token.1)
    }

    /// The token behind so many names with dots between them; `None` where it is anything else.
    fn past_names(&self, first: usize, names: usize) -> Option<usize> {
        let count = names.checked_mul(2)?.checked_sub(1)?;
        for step in 0..count {
            let word = self.word(first.checked_add(step)?);
            let is_dot = word == ".";
            // The name of `U&"…" UESCAPE '…'` is more than one token.
            let is_escaped = word
                .get(..2)
                .is_some_and(|front| front.eq_ignore_ascii_case("u&"));
            if is_dot != (step % 2 == 1) || is_escaped {
                return None;
            }
        }
        first.checked_add(count)
    }

    /// Where `relation` is named: its words, `ONLY` and `*`, and `TABLE` where that makes a query of it.
    pub(in super::super) fn named(&self, relation: &RangeVar) -> Option<Named> {
        let first = self.at(relation.location)?;
        let parts = [
            &relation.catalogname,
            &relation.schemaname,
            &relation.relname,
        ];
        let names = parts.iter().filter(|part| !part.is_empty()).count();
        let mut next = self.past_names(first, names)?;
        let mut begin = first;
        let before = first.checked_sub(1);
        if self.is(Some(next), "*") {
            next = next.checked_add(1)?;
        }
        let in_parentheses = self.is(before, "(")
            && self.is(first.checked_sub(2), "only")
            && self.is(Some(next), ")");
        let mut is_only = false;
        if self.is(before, "only") {
            begin = before?;
            is_only = true;
        } else if in_parentheses {
            begin = first.checked_sub(2)?;
            next = next.checked_add(1)?;
            is_only = true;
        }
        if is_only == relation.inh {
            return None;
        }
        let before = begin.checked_sub(1);
        let is_query = self.is(before, "table");
        if is_query {
            begin = before?;
        }
        Some(Named {
            from: self.start(begin)?,
            to: self.end(next.checked_sub(1)?)?,
            is_query,
            next,
        })
    }

    /// The end of what is in parentheses, from the token that opens them.
    pub(in super::super) fn closed(&self, open: usize) -> Option<usize> {
        if self.word(open) != "(" {
            return None;
        }
        let mut depth = 0_usize;
        for index in open..self.tokens.len() {
            match self.word(index) {
                "(" => depth = depth.checked_add(1)?,
                ")" => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return Some(index);
            }
        }
        None
    }

    /// Where the `TABLESAMPLE` of a relation is.
    pub(in super::super) fn sample(&self, sample: &RangeTableSample) -> Option<(usize, usize)> {
        let method = self.at(sample.location)?;
        let begin = method.checked_sub(1)?;
        if !self.is(Some(begin), "tablesample") {
            return None;
        }
        let open = self.past_names(method, sample.method.len())?;
        let mut last = self.closed(open)?;
        let after = last.checked_add(1)?;
        if self.is(Some(after), "repeatable") {
            last = self.closed(after.checked_add(1)?)?;
        }
        Some((self.start(begin)?, self.end(last)?))
    }

    /// Where what follows so many names and dots begins, and where those do.
    pub(in super::super) fn past(&self, location: i32, names: usize) -> Option<(usize, usize)> {
        let first = self.at(location)?;
        let next = self.past_names(first, names)?;
        if self.word(next) != "." {
            return None;
        }
        Some((self.start(first)?, self.start(next.checked_add(1)?)?))
    }

    /// Where so many names with dots between them begin and end.
    pub(in super::super) fn names(&self, location: i32, names: usize) -> Option<(usize, usize)> {
        let first = self.at(location)?;
        let next = self.past_names(first, names)?;
        Some((self.start(first)?, self.end(next.checked_sub(1)?)?))
    }

    /// The end of an item of a list that is so many names with dots between them, and stands alone.
    pub(in super::super) fn item(&self, location: i32, names: usize) -> Option<usize> {
        let first = self.at(location)?;
        let next = self.past_names(first, names)?;
        // What follows in parentheses would make a row of it.
        match self.is(first.checked_sub(1), "(") {
            true => None,
            false => self.end(next.checked_sub(1)?),
        }
    }

    /// The end of a token.
    pub(in super::super) fn end_of(&self, index: usize) -> Option<usize> {
        self.end(index)
    }
}
