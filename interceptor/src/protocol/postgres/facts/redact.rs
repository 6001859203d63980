//! The text without its literals, as it may be kept.
//!
//! Works on the lexer's tokens, so that nothing depends on where in the grammar a literal stands:
//! passwords, comments, `DO` bodies and `COPY` options go the same way as the numbers of a `WHERE`.
//! Comments go too: what they hold is nobody's statement.

use pg_query::protobuf::{KeywordKind, ScanToken, Token};

/// What stands for a literal.
const HIDDEN: &str = "?";

/// The text of `tokens`, each literal replaced, white space and comments shrunk to one space.
/// Never longer than `text`.
pub(super) fn redact(text: &str, tokens: &[ScanToken]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut statement = Statement::default();
    let mut end = 0;
    for scanned in tokens {
        let Ok(token) = Token::try_from(scanned.token) else {
            continue;
        };
        if matches!(token, Token::CComment | Token::SqlComment) {
            continue;
        }
        let (Some(from), Some(to)) = (
            usize::try_from(scanned.start).ok(),
            usize::try_from(scanned.end).ok(),
        ) else {
            continue;
        };
        if from > end && !out.is_empty() {
            out.push(' ');
        }
        end = to;
        let hides = statement.hides(
            token,
            scanned.keyword_kind != i32::from(KeywordKind::NoKeyword),
        );
        let word = text.get(from..to).filter(|_| !hides);
        out.push_str(word.unwrap_or(HIDDEN));
    }
    out
}

/// Whether some name is written so that only the server's own encoding says what it is.
pub(super) fn has_foreign_names(text: &str, tokens: &[ScanToken]) -> bool {
    tokens
        .iter()
        .any(|scanned| match Token::try_from(scanned.token) {
            Ok(Token::Uident) => true,
            Ok(Token::Ident) => {
                let from = usize::try_from(scanned.start).unwrap_or_default();
                let to = usize::try_from(scanned.end).unwrap_or_default();
                text.get(from..to).is_none_or(|word| !word.is_ascii())
            }
            Ok(_) | Err(_) => false,
        })
}

/// How far into one statement the tokens are. `SET x = word` has a literal without quotes.
#[derive(Default)]
struct Statement {
    first: Option<Token>,
    is_set: bool,
    is_value: bool,
}

impl Statement {
    fn hides(&mut self, token: Token, is_keyword: bool) -> bool {
        let first = *self.first.get_or_insert(token);
        if token == Token::Ascii59 {
            *self = Self::default();
        } else if token == Token::Set {
            self.is_set = matches!(first, Token::Set | Token::Alter | Token::Create);
        } else if matches!(token, Token::To | Token::Ascii61) && self.is_set && !self.is_value {
            self.is_value = true;
            return false;
        }
        let is_literal = matches!(
            token,
            Token::Sconst
                | Token::Usconst
                | Token::Iconst
                | Token::Fconst
                | Token::Bconst
                | Token::Xconst
        );
        let is_switch = matches!(
            token,
            Token::On | Token::TrueP | Token::FalseP | Token::Default | Token::NullP
        );
        let is_word = is_keyword || matches!(token, Token::Ident | Token::Uident);
        is_literal || (self.is_value && is_word && !is_switch)
    }
}

#[cfg(test)]
mod tests;
