//! What a target that speaks HTTP may say of the credential that requests are given.

use super::*;

fn target(inject: &str) -> String {
    format!(
        "version: 1\ntargets:\n  api:\n    addresses: ['api.internal:443']\n    http:\n      inject: {inject}\n"
    )
}

fn inject(text: &str) -> Inject {
    let config = good(&target(text));
    let inject = config.targets["api"].http().unwrap().inject.clone();
    inject.unwrap()
}

#[test]
fn a_credential_that_signs_says_what() {
    let sigv4 = "{ secret: { file: s }, as: sigv4, sigv4: { region: eu, service: s3, token: { file: t } } }";
    let read = inject(sigv4);
    assert_eq!((read.secrets().count(), read.user()), (2, "sigv4"));
    let Inject::Sigv4(sigv4) = read else {
        panic!("{read:?}");
    };
    assert_eq!(
        (sigv4.id, sigv4.region.as_str(), sigv4.service.as_str()),
        (None, "eu", "s3")
    );
    let said = "{ secret: { file: s }, as: hmac, hmac: { sign: \"{method}\\n{body}\", time: http, key: base64, \
                headers: ['X-Sign: v1={signature}', 'date: {time}'], query: ['sig={signature}'] } }";
    let Inject::Hmac(hmac) = inject(said) else {
        panic!("{said}");
    };
    assert!(hmac.signs_body());
    assert_eq!(hmac.time, hmac::Time::Http);
    assert_eq!(hmac.key, hmac::Written::In(hmac::Coding::Base64));
    let names: Vec<_> = hmac.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-sign", "date"]);
}

#[test]
fn a_client_asks_in_its_own_name_or_in_somebodys() {
    let client = |more: &str| {
        format!(
            "{{ secret: {{ file: s }}, as: client, client: {{ url: 'https://a.b/t', id: i{more} }} }}"
        )
    };
    for (more, secrets) in [
        ("", 1),
        (", grant: client_credentials", 1),
        (", grant: refresh_token", 1),
        (", grant: refresh_token, secret: { file: own }", 2),
    ] {
        assert_eq!(inject(&client(more)).secrets().count(), secrets, "{more}");
    }
}

#[test]
fn what_goes_by_undecrypted_is_neither_given_a_credential_nor_masked() {
    let text = |more: &str, of_target: &str| {
        format!(
            "version: 1\ntargets:\n  api:\n    addresses: ['api.internal:443']\n{of_target}    http: {{ {more} }}\n"
        )
    };
    let said = |more: &str| {
        good(&text(more, "")).targets["api"]
            .http()
            .unwrap()
            .undecrypted
    };
    assert_eq!(said(""), Undecrypted::Never);
    assert_eq!(said("on_untrusted: refuse"), Undecrypted::Never);
    let models = "on_untrusted: passthrough, models: [/v1/chat]";
    assert_eq!(said(models), Undecrypted::Untrusted);
    assert_eq!(said("passthrough: true"), Undecrypted::Always);
    let secret = "inject: { secret: { file: s } }";
    let masks = ["mask: { a: hide }", "detect_sent: { email: report }"];
    for key in ["on_untrusted: passthrough", "passthrough: true"] {
        let mut cases = vec![
            (secret, "", "no `inject`"),
            ("", "    tls: { mode: disable }\n", "a server with TLS"),
            ("", "    tls: { key: { file: k } }\n", "no `tls.key`"),
            ("", "    detect: { email: mask }\n", "no `mask`, `detect`"),
        ];
        cases.extend(masks.map(|more| (more, "", "no `mask`, `detect`")));
        for (more, of_target, expected) in cases {
            let text = text(&format!("{key}, {more}"), of_target);
            let told = parsed(&text).expect_err(&text).to_string();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
    for more in ["models: [/v1]", "on_untrusted: passthrough"] {
        let text = text(&format!("passthrough: true, {more}"), "");
        assert!(parsed(&text).is_err(), "{text}");
    }
}

#[test]
fn what_cannot_be_put_in_is_refused() {
    let hmac = |more: &str| format!("{{ secret: {{ file: s }}, as: hmac, hmac: {{ {more} }} }}");
    let cases = [
        ("{ secret: { file: s }, as: sigv4 }".to_owned(), "`sigv4` with `as: sigv4`"),
        ("{ secret: { file: s }, sigv4: { region: r, service: s } }".to_owned(), "`sigv4` with `as: sigv4`"),
        ("{ secret: { file: s }, as: sigv4, sigv4: { region: r } }".to_owned(), "sigv4.service"),
        ("{ secret: { file: s }, as: hmac }".to_owned(), "`hmac` with `as: hmac`"),
        (
            "{ secret: { file: s }, as: client, client: { url: 'https://a.b/t', id: i, secret: { file: t } } }".to_owned(),
            "with `grant: refresh_token` only",
        ),
        (hmac("sign: '{path}'"), "expected {signature} in one of"),
        (hmac("sign: '{paths}', headers: ['a: {signature}']"), "hmac.sign: expected text with"),
        (hmac("sign: '{signature}', headers: ['a: {signature}']"), "no {signature} in what is signed"),
        (hmac("sign: '{path}', headers: ['a {signature}']"), "expected a name and a text"),
        (hmac("sign: '{path}', headers: ['a b: {signature}']"), "the name of a header or a parameter"),
        (hmac("sign: '{path}', headers: ['a: {sig}']"), "words that are known"),
        (hmac("sign: '{path}', headers: ['Host: {signature}']"), "says nothing of the connection"),
    ];
    for (text, expected) in cases {
        let mistakes = parsed(&target(&text)).expect_err(&text);
        let told = mistakes.to_string();
        assert!(told.contains(expected), "{text}: {told}");
    }
}

#[test]
fn tables_say_whether_they_name_their_columns_unless_the_target_does() {
    let said = |more: &str| {
        let text = format!(
            "version: 1\ntargets:\n  api:\n    addresses: ['api.internal:443']\n    http: {{ {more} }}\n"
        );
        good(&text).targets["api"].http().unwrap().tables
    };
    assert_eq!(said(""), Tables::Said);
    assert_eq!(said("tables: said"), Tables::Said);
    assert_eq!(said("tables: named"), Tables::Named);
}
