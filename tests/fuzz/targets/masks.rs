//! Masks of fields over bodies that say anything, in pieces of any size: no byte of what is hidden comes out, whether the
//! body comes to its end or not, and what comes out does not depend on where it was cut.
#![no_main]

#[path = "masks/bodies.rs"]
mod bodies;

use std::sync::LazyLock;

use interceptor::masking::Mask;
use interceptor::masking::detect::{Action, Actions, Kind};
use interceptor::protocol::http::mask::{Broken, Masker, Masks};
use interceptor::secrets::Secret;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

use self::bodies::{CANARY, HIDDEN, Play};

/// Masks of fields, with detectors and without.
struct Ways {
    fields: Masks,
    both: Masks,
}

static WAYS: LazyLock<Ways> = LazyLock::new(|| {
    let key = Secret::from("0123456789abcdef0123456789abcdef");
    let fields = [(format!("**.{HIDDEN}"), Mask::Hide)];
    let detect: Actions = [(Kind::Email, Action::Mask), (Kind::Card, Action::Mask)].into();
    Ways {
        fields: Masks::new(&fields, &Actions::new(), &key).expect("masks"),
        both: Masks::new(&fields, &detect, &key).expect("masks"),
    }
});

fn through(mut masker: Masker, body: &[u8], size: usize) -> (Vec<u8>, Result<(), Broken>) {
    let mut out = Vec::new();
    let mut fed = Ok(());
    for piece in body.chunks(size.max(1)) {
        fed = fed.and_then(|()| masker.feed(piece, &mut out));
    }
    let ended = fed.and_then(|()| masker.end(&mut out));
    (out, ended)
}

/// The value without what is hidden, whatever its keys are called.
fn without(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter();
            let kept = fields.filter(|(key, _)| key.to_lowercase() != HIDDEN);
            kept.map(|(key, value)| (key, without(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(without).collect(),
        other => other,
    }
}

fn values(text: &[u8]) -> Option<Vec<Value>> {
    let read = serde_json::Deserializer::from_slice(text).into_iter();
    read.collect::<Result<_, _>>().ok()
}

/// JSON that says anything stays what it was, but for what is hidden.
fn stays(body: &[u8], out: &[u8]) {
    if let Some(before) = values(body) {
        let after = values(out).expect("JSON stays JSON");
        let wanted: Vec<_> = before.into_iter().map(without).collect();
        assert_eq!(after, wanted, "{}", String::from_utf8_lossy(body));
    }
}

/// Whether something of what is hidden is in it. In messages one byte may be a length.
fn shows(out: &[u8], kind: usize) -> bool {
    let mut canary = CANARY.iter();
    match kind {
        3 => canary.any(|byte| out.windows(2).any(|two| two == [*byte, *byte])),
        _ => canary.any(|byte| out.contains(byte)),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [how, size, cut, play @ ..] = bytes else {
        return;
    };
    let ways = &*WAYS;
    let masks = if how & 1 == 0 {
        &ways.fields
    } else {
        &ways.both
    };
    let kinds = [
        "application/json",
        "text/event-stream",
        "text/csv; header=present",
    ];
    let kind = usize::from(how >> 1) % 4;
    let is_played = how & 0x80 == 0;
    let mut play = Play(play);
    let body = match (is_played, kind) {
        (false, _) => play.0.to_vec(),
        (true, 0) => play.json(),
        (true, 1) => play.events(),
        (true, 2) => play.table(),
        (true, _) => play.messages(),
    };
    // It may break off anywhere.
    let whole = cut & 1 == 0 || !is_played;
    let end = body
        .len()
        .saturating_sub(if whole { 0 } else { usize::from(*cut) });
    let body = &body[..end];
    let masker = || match kinds.get(kind) {
        Some(kind) => masks.masker(kind).expect("it is read"),
        None => bodies::messages(masks),
    };
    let masker = || masker().expect("there is something to mask");
    let (out, ended) = through(masker(), body, body.len());
    let (pieces, also) = through(masker(), body, usize::from(*size));
    assert_eq!(ended.is_ok(), also.is_ok());
    if ended.is_ok() {
        assert_eq!(out, pieces);
    }
    if is_played {
        let text = String::from_utf8_lossy(body);
        assert!(!shows(&out, kind) && !shows(&pieces, kind), "{text}");
    } else if kind == 0 && ended.is_ok() && how & 1 == 0 {
        stays(body, &out);
    }
});
