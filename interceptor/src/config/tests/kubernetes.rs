//! What a target that is a cluster may say.

use super::*;

fn target(lines: &str, more: &str) -> String {
    format!(
        "version: 1\ntargets:\n  prod:\n    addresses: ['api.internal:6443']\n    kubernetes: {lines}\n{more}"
    )
}

#[test]
fn a_cluster_is_a_target_of_http_with_words_of_its_own() {
    let config = good(&target(
        "{ token: { file: t }, impersonate: { as: identity, prefix: 'oidc:', groups: [agents], own_groups: true } }",
        "",
    ));
    let cluster = config.targets["prod"].kubernetes().unwrap();
    assert_eq!(cluster.http.hosts, [Host::Name("api.internal".to_owned())]);
    assert!(matches!(cluster.http.inject, Some(Inject::Bearer(_))));
    assert_eq!(
        (cluster.http.unread, cluster.http.judged_bytes),
        (Unread::Refuse, 4 << 20)
    );
    let whom = cluster.impersonate.as_ref().unwrap();
    assert_eq!(
        (whom.whom, whom.prefix.as_str(), whom.own_groups),
        (Whom::Identity, "oidc:", true)
    );
    assert_eq!(config.targets["prod"].protocol.word(), "kubernetes");
    good(&target(
        "{}",
        "    tls: { certificate: c, key: { file: k } }\n",
    ));
}

#[test]
fn a_cluster_that_nobody_could_use_or_anybody_could_be_is_refused() {
    let cases = [
        ("{}", "", "expected a token, or a client certificate"),
        (
            "{ token: { file: t } }",
            "    tls: { mode: require }\n",
            "to whoever answers",
        ),
        (
            "{ token: { file: t }, impersonate: { as: identity, prefix: 'system:' } }",
            "",
            "not the cluster's own",
        ),
        (
            "{ token: { file: t }, impersonate: { as: agent, own_groups: true } }",
            "",
            "with `as: identity` only",
        ),
        (
            "{ token: { file: t } }",
            "    http: {}\n",
            "expected one of",
        ),
        (
            "{ token: { file: t }, mask: { 'a.b': blur } }",
            "",
            "kubernetes.mask.a.b",
        ),
    ];
    for (lines, more, expected) in cases {
        let mistakes = parsed(&target(lines, more)).expect_err(lines);
        let told = mistakes.to_string();
        assert!(told.contains(expected), "{lines}: {told}");
    }
}
