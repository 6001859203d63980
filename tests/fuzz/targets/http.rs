//! What decides of a request of HTTP before it is judged: the first bytes of a connection, paths and queries, and what a
//! path means to a cluster. Whatever they say, two readers of what they let through read the same.
#![no_main]

use interceptor::protocol::http::wire::{PREFACE, Sniffed, path, query, sniff};
use interceptor::protocol::kubernetes::wire as cluster;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    first(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (raw, asked) = text.split_once('?').unwrap_or((text, ""));
    let parameters = query::read(asked);
    if let Ok(parameters) = &parameters {
        assert!(parameters.names.len() <= parameters.pairs.len());
        let (kept, _taken) = query::without(asked, "key");
        let again = query::read(&kept).expect("what is left of a query is one");
        assert!(!again.names.contains("key"), "{asked:?} leaves {kept:?}");
    }
    for with_parameters in [false, true] {
        let Ok(read) = path::read(raw, with_parameters) else {
            continue;
        };
        assert!(read.starts_with('/') && !read.contains("//") && !read.contains('\0'));
        assert!(read.split('/').all(|part| part != "." && part != ".."));
        assert!(with_parameters || !read.contains(';'));
        let again = path::read(&path::escaped_once(raw), with_parameters);
        assert_eq!(again.as_ref(), Ok(&read), "however it is escaped");
        let Ok(query) = cluster::query::Query::read(asked) else {
            continue;
        };
        for method in ["GET", "POST", "PATCH", "DELETE", "HEAD", "OTHER"] {
            let Ok(asked) = cluster::read(method, &read, &query) else {
                continue;
            };
            assert!(asked.is_resource || asked.resource.is_empty() && asked.name.is_empty());
            assert!(!asked.is_resource || !asked.resource.is_empty());
        }
    }
});

/// What a connection speaks follows from its beginning, and does not change with what comes behind it.
fn first(bytes: &[u8]) {
    let mut known: Option<Sniffed> = None;
    for end in 0..=bytes.len().min(64) {
        let sniffed = sniff(bytes.get(..end).unwrap_or_default());
        assert!(known.is_none() || sniffed == known, "{bytes:?} at {end}");
        assert!(sniffed.is_some() || end < 64);
        known = sniffed;
    }
    assert!(known != Some(Sniffed::Two) || bytes.starts_with(PREFACE));
}
