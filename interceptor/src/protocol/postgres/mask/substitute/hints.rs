//! Hints: comments by which an extension of the server (`pg_hint_plan`) has one index taken rather than another way.
//! They become ordinary comments, as settings of that kind are not made either.

use pg_query::protobuf::{ScanToken, Token};

use super::Splice;

/// What a hint begins with, at whichever depth of a comment.
const BEGIN: &str = "/*+";

/// What makes comments of the hints in a text, but in pieces of it that go anyway.
pub(in super::super) fn splices(
    text: &str,
    tokens: &[ScanToken],
    others: &[Splice],
) -> Vec<Splice> {
    let comment = i32::from(Token::CComment);
    let comments = tokens.iter().filter(|token| token.token == comment);
    let mut splices = Vec::new();
    for token in comments {
        let (Ok(from), Ok(to)) = (usize::try_from(token.start), usize::try_from(token.end)) else {
            continue;
        };
        let found = text.get(from..to).unwrap_or_default().match_indices(BEGIN);
        let signs = found.map(|(at, _)| from.saturating_add(at).saturating_add(2));
        let signs = signs.filter(|at| !others.iter().any(|one| (one.from..one.to).contains(at)));
        splices.extend(signs.map(|at| Splice {
            from: at,
            to: at.saturating_add(1),
            text: " ".into(),
            reads: false,
        }));
    }
    splices
}
