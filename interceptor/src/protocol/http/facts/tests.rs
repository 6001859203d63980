//! What a request asks for, and what is no request.

use hyper::Request;

use super::*;

fn settings() -> Http {
    let text = "version: 1
targets:
  api:
    addresses: ['api.internal:443', '10.0.0.5:443']
    http: {}
";
    let config = crate::config::parse(text, std::path::Path::new("/c.yaml")).unwrap();
    Http::clone(config.targets["api"].http().unwrap())
}

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let builder = Request::builder().method(method).uri(uri);
    let builder = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    builder.body(()).unwrap().into_parts().0
}

fn wrong(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<Wrong> {
    read(&parts(method, uri, headers), &settings(), 443).wrong
}

#[test]
fn a_request_says_what_it_asks_for() {
    let headers = [
        ("host", "API.internal:443"),
        ("content-type", "application/JSON; charset=utf-8"),
    ];
    let facts = read(
        &parts("POST", "/v1/%63ustomers/?state=open&q=a+b", &headers),
        &settings(),
        443,
    );
    assert_eq!(facts.wrong, None);
    assert_eq!(facts.actions, BTreeSet::from([Action::HttpPost]));
    assert_eq!(facts.http.path, "/v1/customers");
    assert_eq!(facts.http.host, "api.internal");
    assert_eq!(facts.http.content_type, "application/json");
    assert!(facts.http.parameters.contains("q=a b"));
    let reading = facts.reading(Some("state=open&q=a+b"));
    assert_eq!(&*reading.redacted, "POST /v1/customers?state=?&q=?");
    let headers = [
        ("host", "10.0.0.5"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
    ];
    let facts = read(&parts("GET", "/", &headers), &settings(), 443);
    assert_eq!(facts.actions, BTreeSet::from([Action::HttpUpgrade]));
    assert_eq!(facts.http.upgrade, "websocket");
    // The server may leave the offer.
    let facts = read(&parts("DELETE", "/", &headers), &settings(), 443);
    assert_eq!(
        facts.actions,
        BTreeSet::from([Action::HttpUpgrade, Action::HttpDelete])
    );
    for name in ["x-http-method-override", "X_HTTP_Method_Override"] {
        let headers = [("host", "api.internal"), (name, "delete")];
        let facts = read(&parts("POST", "/", &headers), &settings(), 443);
        assert_eq!(
            facts.actions,
            BTreeSet::from([Action::HttpPost, Action::HttpDelete]),
            "{name}"
        );
    }
}

#[test]
fn a_call_of_grpc_names_its_procedure() {
    let headers = [
        ("host", "api.internal"),
        ("content-type", "application/grpc+proto"),
    ];
    let facts = read(
        &parts("POST", "/shop.v1.Orders/Cancel", &headers),
        &settings(),
        443,
    );
    let grpc = facts.http.grpc.unwrap();
    assert_eq!(
        (grpc.service.as_str(), grpc.method.as_str()),
        ("shop.v1.Orders", "Cancel")
    );
}

#[test]
fn a_host_that_is_not_the_targets_is_told_so() {
    for host in [
        "other.internal",
        "api.internal.evil.example",
        "api.internal:8443",
        "10.0.0.6",
        "[::1]",
    ] {
        assert_eq!(
            wrong("GET", "/", &[("host", host)]),
            Some(Wrong::Misdirected),
            "{host}"
        );
    }
    assert_eq!(wrong("GET", "/", &[("host", "api.internal.")]), None);
    assert_eq!(wrong("GET", "https://api.internal/", &[]), None);
}

#[test]
fn what_servers_read_differently_is_no_request() {
    let host = ("host", "api.internal");
    type Row<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>);
    let rows: [Row<'_>; 16] = [
        ("GET", "/", vec![]),
        ("GET", "/", vec![host, host]),
        ("GET", "/", vec![("host", "user@api.internal")]),
        ("GET", "/", vec![("host", "api.internal:x")]),
        ("GET", "https://other.internal/", vec![host]),
        ("GET", "/a/../b", vec![host]),
        ("GET", "/a%2fb", vec![host]),
        ("GET", "//a", vec![host]),
        (
            "POST",
            "/",
            vec![host, ("transfer-encoding", "gzip, chunked")],
        ),
        (
            "POST",
            "/",
            vec![
                host,
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
        ),
        (
            "POST",
            "/",
            vec![
                host,
                ("transfer-encoding", "chunked"),
                ("content-length", "3"),
            ],
        ),
        ("GET", "/", vec![host, ("x-original-url", "/admin")]),
        ("GET", "/", vec![host, ("X_Original_URL", "/admin")]),
        (
            "POST",
            "/",
            vec![host, ("content-type", "application/grpc;\u{80}")],
        ),
        (
            "POST",
            "/",
            vec![
                host,
                ("content-type", "application/json"),
                ("content-type", "application/grpc"),
            ],
        ),
        (
            "GET",
            "/",
            vec![
                host,
                ("content-length", "3"),
                ("connection", "upgrade"),
                ("upgrade", "h2c"),
            ],
        ),
    ];
    for (method, uri, headers) in rows {
        let found = wrong(method, uri, &headers);
        assert!(
            matches!(found, Some(Wrong::Malformed(_))),
            "{method} {uri} {headers:?}: {found:?}"
        );
    }
    assert_eq!(wrong("TRACE", "/", &[host]), Some(Wrong::Method));
}

#[test]
fn a_query_is_judged_in_each_way_in_which_servers_read_it() {
    let asks = |uri: &str| {
        let facts = read(
            &parts("GET", uri, &[("host", "10.0.0.5")]),
            &settings(),
            443,
        );
        assert_eq!(facts.wrong, None);
        let (_, query) = uri.split_once('?').unwrap();
        let asks = facts.reading(Some(query)).asks;
        let names = |ask: &Ask| {
            let http = ask.context.http.as_ref().unwrap();
            http.query.iter().cloned().collect::<Vec<_>>().join(" ")
        };
        asks.iter().map(names).collect::<Vec<_>>()
    };
    assert_eq!(asks("/x?state=open&q"), ["q state"]);
    assert_eq!(asks("/x?a=1;select=x"), ["a", "a select"]);
    assert_eq!(asks("/x?Select[]=x"), ["Select[]", "Select[] select"]);
}
