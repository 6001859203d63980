//! What is masked is masked however an answer is cut, and what comes out is JSON still.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Host;
use crate::masking::Joinable;
use crate::masking::detect::Kind;

const CANARY: &str = "canary-4111";

fn masks(fields: &[(&str, Mask)], detect: &[(Kind, Action)]) -> Masks {
    let fields: Vec<_> = fields
        .iter()
        .map(|(field, mask)| ((*field).to_owned(), mask.clone()))
        .collect();
    Masks::new(
        &fields,
        &detect.iter().copied().collect(),
        &Secret::from("key"),
    )
    .unwrap()
}

fn through(masks: &Masks, media: &str, text: &str, cut: usize) -> Result<String, Broken> {
    let mut masker = masks.masker(media).unwrap().unwrap();
    let mut out = Vec::new();
    for piece in text.as_bytes().chunks(cut.max(1)) {
        masker.feed(piece, &mut out)?;
    }
    masker.end(&mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn json_through(masks: &Masks, text: &str) -> String {
    let whole = through(masks, "application/json", text, text.len()).unwrap();
    for cut in [1, 2, 3, 7] {
        assert_eq!(
            through(masks, "application/json", text, cut).as_ref(),
            Ok(&whole),
            "{cut}: {text}"
        );
    }
    whole
}

#[test]
fn secrets_of_a_cluster_are_masked_wherever_they_stand() {
    use crate::protocol::kubernetes::facts::Class;
    use crate::protocol::kubernetes::mask;

    let masks = masks(&[], &[]).and(&mask::fields(Class::Secrets));
    let secret = r#"{"metadata":{"name":"s","annotations":{"a":"b","kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"k\":\"Y2FuYXJ5\"}}"}},"data":{"k":"Y2FuYXJ5","l":"Y2FuYXJ5"},"stringData":{"m":"canary"},"type":"Opaque"}"#;
    let wrapped = [
        secret.to_owned(),
        format!(r#"{{"kind":"SecretList","items":[{secret},{secret}]}}"#),
        format!(
            "{{\"type\":\"ADDED\",\"object\":{secret}}}\n{{\"type\":\"MODIFIED\",\"object\":{secret}}}\n"
        ),
        format!(r#"{{"kind":"Table","rows":[{{"cells":["s","Opaque",2],"object":{secret}}}]}}"#),
    ];
    for text in wrapped {
        let mut masker = masks.masker("application/json").unwrap().unwrap();
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(7) {
            masker.feed(piece, &mut out).unwrap();
        }
        masker.end(&mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            !out.contains("Y2FuYXJ5") && !out.contains("canary"),
            "{out}"
        );
        assert!(
            !out.contains("last-applied") && out.contains(r#""a":"b""#),
            "{out}"
        );
        assert!(
            out.contains(r#""k":"bWFza2VkLWJ5LWludGVyY2VwdG9y""#),
            "{out}"
        );
        assert!(mask::is_in(out.as_bytes()));
    }
    assert!(masks.masker("application/vnd.kubernetes.protobuf").is_err());
    assert!(masks.masker("application/yaml").is_err());
}

#[test]
fn equal_values_have_equal_hashes_on_one_target_and_on_no_other() {
    let text = "version: 1\ntargets:\n  \
        a: { addresses: [\"a.example:443\", \"192.0.2.1:443\", \"*.apps.example:443\"], http: {} }\n  \
        b: { addresses: [\"b.example:443\"], http: {} }\n";
    let config = crate::config::parse(text, std::path::Path::new("/c.yaml")).unwrap();
    let hashed = |target: &str, host: &str, connection: u8| {
        let host = match host.parse() {
            Ok(ip) => Host::Ip(ip),
            Err(_) => Host::Name(host.to_owned()),
        };
        let key = Secret::from("key");
        let key = key_of(&key, &config.targets[target], &host, &[connection; 16]);
        let fields = [("n".to_owned(), Mask::Hash(Joinable::Target))];
        let masks = Masks::new(&fields, &Actions::new(), &key).unwrap();
        through(&masks, "application/json", "{\"n\":7}", 9).unwrap()
    };
    let known = hashed("a", "a.example", 1);
    assert_eq!(hashed("a", "a.example", 2), known);
    assert_eq!(hashed("a", "192.0.2.1", 3), known);
    assert_ne!(hashed("b", "b.example", 1), known);
    // Whoever answers there may have the agent's guesses hashed.
    let anybodys = hashed("a", "evil.apps.example", 1);
    assert_ne!(anybodys, known);
    assert_ne!(hashed("a", "evil.apps.example", 2), anybodys);
}

#[test]
fn fields_are_masked_wherever_their_keys_lead() {
    let all = masks(
        &[
            ("customers.email", Mask::Email),
            ("**.ssn", Mask::Last4),
            ("*.token", Mask::Hide),
            ("card", Mask::Null),
            ("born", Mask::Year),
            ("name", Mask::Partial(1)),
            ("note", Mask::Constant("not shown".into())),
        ],
        &[],
    );
    let rows = [
        (
            r#"{"customers":[{"email":"ann@example.com","id":1}]}"#,
            r#"{"customers":[{"email":"a***@example.com","id":1}]}"#,
        ),
        (
            r#"{"a":{"b":[{"ssn":"123-45-6789"}]},"ssn":12345}"#,
            r#"{"a":{"b":[{"ssn":"*******6789"}]},"ssn":"*2345"}"#,
        ),
        (
            r#"{"x":{"token":"t","a":1},"y":{"a":1 , "token":{"b":[1]} , "c":2},"z":{"token":1}}"#,
            r#"{"x":{"a":1},"y":{"a":1  , "c":2},"z":{}}"#,
        ),
        (
            r#"{"card":{"number":"4111"},"ok":true}"#,
            r#"{"card":null,"ok":true}"#,
        ),
        (
            r#"{"card":[1,{"a":2},[3]],"born":"1980-02-03"}"#,
            r#"{"card":[null,null,[null]],"born":"1980-01-01"}"#,
        ),
        (
            r#"{"\u006eame":"Ann","NOTE":"x","born":1980}"#,
            r#"{"\u006eame":"A**","NOTE":"not shown","born":null}"#,
        ),
        (
            "{\"name\":\"Ann\"}\n{\"name\":\"Bob\"}\n",
            "{\"name\":\"A**\"}\n{\"name\":\"B**\"}\n",
        ),
        (
            r#"{ "a" : [ ] , "b" : { } , "c":"\"\\\u00e9\ud83d\ude00" }"#,
            r#"{ "a" : [ ] , "b" : { } , "c":"\"\\\u00e9\ud83d\ude00" }"#,
        ),
        ("12 true \"x\"", "12 true \"x\""),
    ];
    for (text, expected) in rows {
        assert_eq!(json_through(&all, text), expected);
    }
}

#[test]
fn what_is_left_out_is_read_to_its_end() {
    let all = masks(&[("card", Mask::Null)], &[]);
    for note in [
        r"a\nb",
        r"\/",
        r#"\u003c\""#,
        r"\\",
        r"a\\\nb",
        r#"\"\"\\\""#,
    ] {
        for inner in [
            format!(r#"{{"note":"{note}"}}"#),
            format!(r#"{{"{note}":[{{"a":"{note}"}}]}}"#),
        ] {
            let text = format!(r#"{{"card":{inner},"ok":"{note}"}}"#);
            let expected = format!(r#"{{"card":null,"ok":"{note}"}}"#);
            assert_eq!(json_through(&all, &text), expected, "{text}");
        }
    }
}

#[test]
fn what_is_left_out_takes_no_room() {
    let all = masks(&[("card", Mask::Null)], &[]);
    let mut json = Json::new(&all);
    let mut out = Vec::new();
    json.feed(br#"{"card":{"":0"#, &mut out).unwrap();
    for _ in 0..10_000 {
        json.feed(br#" , "" : 0"#, &mut out).unwrap();
    }
    assert!(json.kept() < 1_024, "{} bytes", json.kept());
    json.feed(b"}}", &mut out).unwrap();
    assert_eq!(out, br#"{"card":null}"#);
}

#[test]
fn equal_values_have_equal_hashes() {
    let all = masks(
        &[
            ("a", Mask::Hash(Joinable::Target)),
            ("b", Mask::Hash(Joinable::Target)),
        ],
        &[],
    );
    let text = json_through(&all, r#"{"a":"x","b":"x"}"#);
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read["a"], read["b"]);
    assert_eq!(read["a"].as_str().unwrap().len(), 32);
}

#[test]
fn what_is_no_json_goes_no_farther() {
    let all = masks(&[("a", Mask::Null)], &[]);
    for text in [
        "{",
        "[1",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "[1,]",
        "{\"a\":1,}",
        "[1}",
        "]",
        "tru",
        "01",
        "1.",
        "\"a",
        "\"\u{1}\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "{\"a\":1 \"b\":2}",
        "<html>",
        "{\"b\":\"\\uZZZZ\"}",
        ")]}',[]",
        "[1 2]",
    ] {
        for cut in [1, 4, 100] {
            let given = through(&all, "application/json", text, cut);
            assert!(given.is_err(), "{text} gave {given:?}");
        }
    }
    let deep = "[".repeat(300);
    assert!(through(&all, "application/json", &deep, 100).is_err());
}

#[test]
fn values_are_found_in_strings_keys_and_numbers() {
    let all = masks(
        &[],
        &[(Kind::Card, Action::Mask), (Kind::Email, Action::Mask)],
    );
    let card = "4111111111111111";
    let text = format!(
        r#"{{"a":"card {card}","b":{card},"ann@example.com":1,"c":"ann\u0040example.com","d":"4111\u00311111\u0031111111"}}"#
    );
    let given = json_through(&all, &text);
    assert!(
        !given.contains(card) && !given.contains("example"),
        "{given}"
    );
    let read: Value = serde_json::from_str(&given).unwrap();
    assert_eq!(read["b"], Value::Null);
    let refusing = masks(&[], &[(Kind::Card, Action::Refuse)]);
    assert!(through(&refusing, "application/json", &text, 5).is_err());
    let text = through(&all, "text/html", &format!("<p>{card}</p>"), 3).unwrap();
    assert_eq!(text, "<p>****************</p>");
}

#[test]
fn events_are_masked_each_by_itself() {
    let all = masks(&[("**.name", Mask::Null)], &[]);
    let text = "event: a\nid: 1\ndata: {\"name\":\"x\",\ndata: \"b\":1}\n\n: quiet\ndata: 5\r\n\r\ndata: [DONE]\n\n";
    let expected = "event: a\nid: 1\ndata: {\"name\":null\ndata:,  \"b\":1}\n\n: quiet\ndata: 5\r\n\r\ndata: [DONE]\n\n";
    for cut in [1, 3, 1000] {
        assert_eq!(
            through(&all, "text/event-stream", text, cut).unwrap(),
            expected
        );
    }
    for text in [
        "data: {\"name\":\n\n",
        "data: hello\n\n",
        "name: x\n\n",
        "data: 1\rdata: \"name\"\n\n",
    ] {
        assert!(
            through(&all, "text/event-stream", text, 3).is_err(),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_said_to_be_so() {
    let fields = masks(&[("a", Mask::Null)], &[]);
    let values = masks(&[], &[(Kind::Card, Action::Mask)]);
    let reports = masks(&[], &[(Kind::Card, Action::Report)]);
    for media in ["text/html", "application/octet-stream", "", "image/png"] {
        assert!(fields.masker(media).is_err(), "{media}");
    }
    assert!(
        values
            .masker("text/html")
            .is_ok_and(|masker| masker.is_some())
    );
    assert!(values.masker("image/png").is_err());
    assert!(
        reports
            .masker("image/png")
            .is_ok_and(|masker| masker.is_none())
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| json!(f64::from(number) / 4.0)),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::from(CANARY)),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let key = prop_oneof![
            Just("secret".to_owned()),
            Just("hidden".to_owned()),
            "[a-c\"\\\\é]{0,3}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What is expected, by another way: on the value as a whole.
fn expected(value: &Value) -> Value {
    fn nulls(value: &Value) -> Value {
        match value {
            Value::Array(each) => each.iter().map(nulls).collect(),
            _ => Value::Null,
        }
    }
    match value {
        Value::Array(each) => each.iter().map(expected).collect(),
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| *key != "hidden");
            let kept = kept.map(|(key, value)| match key.as_str() {
                "secret" => (key.clone(), nulls(value)),
                _ => (key.clone(), expected(value)),
            });
            Value::Object(kept.collect())
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn masking_in_pieces_is_masking_the_whole(value in any_json(), cut in 1..40_usize, pretty: bool) {
        let all = masks(&[("**.secret", Mask::Null), ("**.hidden", Mask::Hide)], &[]);
        let text = match pretty {
            true => serde_json::to_string_pretty(&value).unwrap(),
            false => value.to_string(),
        };
        let given = through(&all, "application/json", &text, cut).unwrap();
        let read: Value = serde_json::from_str(&given).unwrap();
        prop_assert_eq!(read, expected(&value), "{}", given);
    }

    #[test]
    fn what_detectors_mask_is_json_still(value in any_json(), cut in 1..40_usize) {
        let all = masks(&[], &[(Kind::Card, Action::Mask), (Kind::Email, Action::Mask), (Kind::Secret, Action::Mask), (Kind::Phone, Action::Mask)]);
        let given = through(&all, "application/json", &value.to_string(), cut).unwrap();
        prop_assert!(serde_json::from_str::<Value>(&given).is_ok(), "{}", given);
    }

    #[test]
    fn bytes_that_are_anything_never_panic_and_never_show_a_masked_value(
        bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(&b"{}[]\",:\\ \nu0d8e1"[..]).prop_map(|byte| vec![byte]),
            Just(br#"{"secret":"canary-4111"#.to_vec()),
            Just(br#""canary-4111""#.to_vec()),
            Just(br#","secret":"#.to_vec()),
        ], 0..40),
        cut in 1..9_usize,
    ) {
        let all = masks(&[("**", Mask::Null)], &[]);
        let bytes = bytes.concat();
        let mut masker = all.masker("application/json").unwrap().unwrap();
        let mut out = Vec::new();
        for piece in bytes.chunks(cut) {
            if masker.feed(piece, &mut out).is_err() {
                break;
            }
        }
        // Everything below a key is masked: only what no key leads to may be shown.
        let text = String::from_utf8_lossy(&out).into_owned();
        prop_assert!(!text.contains(r#":"canary"#), "{}", text);
    }
}

#[test]
fn parameters_of_a_form_are_looked_at_as_what_they_say() {
    let masks = masks(
        &[],
        &[
            (Kind::Email, Action::Mask),
            (Kind::AwsKey, Action::Mask),
            (Kind::Card, Action::Refuse),
        ],
    );
    let form = |text: &str| {
        through(
            &masks,
            "application/x-www-form-urlencoded",
            text,
            text.len(),
        )
    };
    let rows = [
        ("a=1&b=x%20y&&c=%zz+d&e", "a=1&b=x%20y&&c=%zz+d&e"),
        (
            "to=ann%40example.com&x=%61",
            "to=%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A&x=%61",
        ),
        (
            "%61nn@example.com",
            "%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A",
        ),
        (
            "a&b=%zz+ann@example%2Ecom",
            "a&b=%25zz%20%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A",
        ),
    ];
    for (text, masked) in rows {
        for cut in [1, 2, 3, 7] {
            let cut = through(&masks, "application/x-www-form-urlencoded", text, cut);
            assert_eq!(cut, form(text), "{text}");
        }
        assert_eq!(form(text).as_deref(), Ok(masked));
    }
    assert_eq!(
        form("n=4111+1111+1111+1111"),
        Err(Broken("a value was found in it that goes no farther"))
    );
    let long = format!("a={}", "x".repeat(1 << 20));
    assert!(form(&long).is_err());
    let fields = self::masks(&[("a", Mask::Null)], &[]);
    assert!(fields.masker("application/x-www-form-urlencoded").is_err());
}

#[test]
fn a_key_is_looked_at_where_it_stands_however_often_it_came() {
    let masks = masks(&[("a.email", Mask::Null)], &[]);
    let row = format!(r#"{{"email":"x","b":{{"email":"x"}},"a":{{"email":"{CANARY}"}}}}"#);
    let out = json_through(&masks, &format!("[{row},{row}]"));
    assert_eq!(
        out,
        format!("[{row},{row}]").replace(&format!("\"{CANARY}\""), "null")
    );
    // More keys than are remembered, before and behind.
    let many: Vec<String> = (0..600).map(|number| format!(r#""k{number}":1"#)).collect();
    let many = many.join(",");
    let text = format!(r#"[{{{many}}},{{{many},"a":{{"email":"{CANARY}"}}}}]"#);
    let out = json_through(&masks, &text);
    assert!(
        !out.contains(CANARY) && out.contains(r#""k599":1"#),
        "{out}"
    );
}

#[test]
fn what_is_found_in_a_key_is_counted_each_time() {
    let masks = masks(&[], &[(Kind::Email, Action::Report)]);
    let mut masker = masks.masker("application/json").unwrap().unwrap();
    let mut out = Vec::new();
    let text = br#"[{"ada@example.org":1},{"ada@example.org":2}]"#;
    masker.feed(text, &mut out).unwrap();
    masker.end(&mut out).unwrap();
    assert_eq!(out, text);
    assert_eq!(masker.found().values().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn what_may_not_stand_in_a_string_ends_the_answer_wherever_it_stands() {
    let masks = masks(&[("secret", Mask::Null)], &[]);
    for before in 0..12 {
        let before = "a".repeat(before);
        for bad in ['\u{0}', '\n', '\u{1f}'] {
            for text in [
                format!(r#"{{"{before}{bad}":1}}"#),
                format!(r#"{{"k":"{before}{bad}"}}"#),
                format!(r#"{{"secret":"{before}{bad}"}}"#),
            ] {
                for cut in [1, 5, text.len()] {
                    let out = through(&masks, "application/json", &text, cut);
                    assert!(out.is_err(), "{text:?} in pieces of {cut}: {out:?}");
                }
            }
        }
        let good = format!("{{\"{before}\u{7f}\u{fc} !#[]\":\"{before}\u{7f}\u{fc} !#[]\"}}");
        assert_eq!(json_through(&masks, &good), good);
    }
}

#[test]
fn what_services_of_aws_call_json_is_json() {
    let masks = masks(&[("ssn", Mask::Last4)], &[]);
    for version in ["1.0", "1.1"] {
        let media = format!("application/x-amz-json-{version}");
        let said = through(&masks, &media, r#"{"ssn":"123-45-6789"}"#, 3).unwrap();
        assert_eq!(said, r#"{"ssn":"*******6789"}"#);
    }
    assert!(masks.masker("application/x-amz-cbor-1.1").is_err());
}
