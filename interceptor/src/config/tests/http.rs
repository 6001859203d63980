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
