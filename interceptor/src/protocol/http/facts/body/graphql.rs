//! A GraphQL document, as far as rules look at it: kinds of operations, and every field that is named in it.
//! Lexed as the specification says (October 2021, §2); what is no document is none.

use std::collections::BTreeSet;

/// Levels of nesting.
const DEPTH_MAX: usize = 64;

/// What a document does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    /// `query`, `mutation`, `subscription`.
    pub(super) operations: BTreeSet<String>,
    /// Names of fields.
    pub(super) fields: BTreeSet<String>,
    /// Whether the answer has a field under another name.
    pub(super) renames: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Mark(char),
    Spread,
    /// A string or a number: it names nothing.
    Value,
}

/// Reads a document; `None` where it is none.
pub(super) fn read(text: &str) -> Option<Document> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let mut document = Document::default();
    while let Some(token) = tokens.next() {
        match token {
            Token::Mark('{') => {
                document.operations.insert("query".to_owned());
                fields(&mut tokens, &mut document)?;
            }
            Token::Name(kind @ ("query" | "mutation" | "subscription")) => {
                document.operations.insert(kind.to_owned());
                head(&mut tokens)?;
                fields(&mut tokens, &mut document)?;
            }
            Token::Name("fragment") => {
                head(&mut tokens)?;
                fields(&mut tokens, &mut document)?;
            }
            Token::Name(_) | Token::Mark(_) | Token::Spread | Token::Value => return None,
        }
    }
    (!document.operations.is_empty()).then_some(document)
}

type Tokens<'a> = std::iter::Peekable<std::vec::IntoIter<Token<'a>>>;

/// All up to the selection of an operation or a fragment: its name, variables, directives.
fn head(tokens: &mut Tokens<'_>) -> Option<()> {
    loop {
        match tokens.next()? {
            Token::Mark('{') => return Some(()),
            Token::Mark('(') => skip(tokens, '(', ')')?,
            Token::Name(_) | Token::Mark('@') => {}
            Token::Mark(_) | Token::Spread | Token::Value => return None,
        }
    }
}

/// Everything up to the mark that ends what was begun.
fn skip(tokens: &mut Tokens<'_>, begins: char, ends: char) -> Option<()> {
    let mut depth = 1_usize;
    while depth > 0 {
        match tokens.next()? {
            Token::Mark(mark) if mark == begins => depth = depth.checked_add(1)?,
            Token::Mark(mark) if mark == ends => depth = depth.checked_sub(1)?,
            Token::Name(_) | Token::Mark(_) | Token::Spread | Token::Value => {}
        }
    }
    Some(())
}

/// A selection whose brace is open.
fn fields(tokens: &mut Tokens<'_>, document: &mut Document) -> Option<()> {
    let mut depth = 1_usize;
    while depth > 0 {
        match tokens.next()? {
            Token::Mark('{') if depth < DEPTH_MAX => depth = depth.checked_add(1)?,
            Token::Mark('}') => depth = depth.checked_sub(1)?,
            Token::Mark('(') => skip(tokens, '(', ')')?,
            Token::Mark('@') => match tokens.next()? {
                Token::Name(_) => {}
                Token::Mark(_) | Token::Spread | Token::Value => return None,
            },
            Token::Spread => match tokens.peek()? {
                Token::Name("on") => {
                    tokens.next()?;
                    tokens.next()?;
                }
                Token::Name(_) => {
                    tokens.next()?;
                }
                Token::Mark('{' | '@') => {}
                Token::Mark(_) | Token::Spread | Token::Value => return None,
            },
            Token::Name(name) => {
                let name = match tokens.next_if_eq(&Token::Mark(':')) {
                    Some(_) => match tokens.next()? {
                        Token::Name(own) => {
                            document.renames |= own != name;
                            own
                        }
                        Token::Mark(_) | Token::Spread | Token::Value => return None,
                    },
                    None => name,
                };
                document.fields.insert(name.to_owned());
            }
            Token::Mark(_) | Token::Value => return None,
        }
    }
    Some(())
}

fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while let Some(first) = rest.chars().next() {
        let length = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
        let end = match first {
            ' ' | '\t' | '\r' | '\n' | ',' => 1,
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '"' => {
                tokens.push(Token::Value);
                string(rest)?
            }
            '_' | 'a'..='z' | 'A'..='Z' => {
                let end = length(|c| c == '_' || c.is_ascii_alphanumeric());
                tokens.push(Token::Name(rest.get(..end)?));
                end
            }
            '-' | '0'..='9' => {
                tokens.push(Token::Value);
                length(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))
            }
            '.' if rest.starts_with("...") => {
                tokens.push(Token::Spread);
                3
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                tokens.push(Token::Mark(first));
                1
            }
            _ => return None,
        };
        rest = rest.get(end..)?;
    }
    Some(tokens)
}

/// Where a string ends that begins here.
fn string(text: &str) -> Option<usize> {
    if let Some(block) = text.strip_prefix("\"\"\"") {
        let mut from = 0;
        loop {
            let at = from + block.get(from..)?.find("\"\"\"")?;
            if !block.get(..at)?.ends_with('\\') {
                return Some(at + 6);
            }
            from = at + 3;
        }
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            '\n' | '\r' => return None,
            _ => {}
        }
    }
    None
}
