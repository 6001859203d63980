//! A client that asks for a part of something, where what it gets is looked through.
//!
//! A server may give the whole to whoever asks for a part, and most clients look. Those of stores do not: they write
//! what comes to where the part was to be.

use hyper::Method;
use hyper::header;
use hyper::http::request::Parts;

use super::Wrong;
use crate::config::{Http, Ranges};
use crate::protocol::http::mask::Masks;

/// Whether parts go by, each looked through by itself.
pub(in crate::protocol::http) fn pass(settings: &Http, masks: &Masks) -> bool {
    masks.is_empty() && (settings.inject.is_none() || settings.ranges == Ranges::Pass)
}

/// Why a request for a part goes nowhere, where the whole would be taken for it.
pub(super) fn refused(parts: &Parts, settings: &Http, masks: &Masks) -> Option<Wrong> {
    let asks = parts.method == Method::GET && parts.headers.contains_key(header::RANGE);
    // Whoever says of which version it wants a part has others of it already.
    let goes_on = parts.headers.contains_key(header::IF_MATCH);
    let is_whole = settings.ranges == Ranges::Whole && !goes_on;
    (asks && !is_whole && !pass(settings, masks)).then_some(Wrong::NotOffered(
        "a part of something cannot be looked through here, and the whole would be taken for the part",
        "ask for the whole of it, in one request without Range",
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hyper::Request;

    use super::*;
    use crate::secrets::Secret;

    /// What becomes of a request with these headers, where a target says this.
    fn said(http: &str, headers: &[&str]) -> &'static str {
        let text = format!(
            "version: 1\ntargets:\n  api:\n    addresses: ['api.internal:443']\n    http: {{ {http} }}\n"
        );
        let config = crate::config::parse(&text, Path::new("/c.yaml")).unwrap();
        let settings = config.targets["api"].http().unwrap();
        let key = Secret::from("key");
        let masks = Masks::new(&settings.mask, &Default::default(), &key).unwrap();
        let mut request = Request::get("/x");
        for name in headers {
            request = request.header(*name, "bytes=1-2");
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match refused(&parts, settings, &masks) {
            Some(_) => "refused",
            None if pass(settings, &masks) => "part",
            None => "whole",
        }
    }

    #[test]
    fn a_part_is_never_answered_with_the_whole_where_that_would_be_taken_for_it() {
        const BEARER: &str = "inject: { secret: { env: TOKEN } }";
        const SIGNED: &str = "inject: { secret: { env: KEY }, as: sigv4, sigv4: { id: AKID, region: us-east-1, service: s3 } }";
        const MASK: &str = "mask: { ssn: last4 }";
        let (range, both) = (&["range"][..], &["range", "if-match"][..]);
        let rows = [
            (String::new(), range, "part"),
            (BEARER.to_owned(), &[][..], "whole"),
            (BEARER.to_owned(), range, "whole"),
            (BEARER.to_owned(), both, "refused"),
            (format!("{BEARER}, ranges: refuse"), range, "refused"),
            (format!("{BEARER}, ranges: refuse"), &["if-match"], "whole"),
            (format!("{BEARER}, ranges: pass"), both, "part"),
            (SIGNED.to_owned(), both, "part"),
            (format!("{SIGNED}, ranges: whole"), range, "whole"),
            (format!("{SIGNED}, {MASK}"), range, "refused"),
            (format!("{SIGNED}, {MASK}"), &[], "whole"),
            (MASK.to_owned(), range, "whole"),
            (MASK.to_owned(), both, "refused"),
        ];
        for (http, headers, expected) in rows {
            assert_eq!(said(&http, headers), expected, "{http} {headers:?}");
        }
    }
}
