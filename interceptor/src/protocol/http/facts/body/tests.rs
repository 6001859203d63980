//! Bodies say what they say to every server, or nothing.

use super::*;

fn document(text: &str) -> Option<(String, String)> {
    let read = graphql::read(text)?;
    let joined = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
    Some((joined(read.operations), joined(read.fields)))
}

#[test]
fn a_document_names_what_it_does() {
    let rows = [
        ("{ me { id } }", "query", "id me"),
        (
            "query Q($a: Int = 1) @d(x: 2) { a: b(c: {d: \"}\"}) { e } }",
            "query",
            "b e",
        ),
        (
            "mutation { pay(id: 1) { ok } } query { me }",
            "mutation query",
            "me ok pay",
        ),
        (
            "subscription S { on ... on T { x } ...F } fragment F on T { y @skip(if: true) }",
            "subscription",
            "on x y",
        ),
        (
            "# mutation { a }\n{ b(c: \"\"\"x\\\"\"\" }\"\"\") }",
            "query",
            "b",
        ),
        ("{ ... @include(if: true) { z } }", "query", "z"),
    ];
    for (text, operations, fields) in rows {
        let expected = Some((operations.to_owned(), fields.to_owned()));
        assert_eq!(document(text), expected, "{text}");
    }
    for text in [
        "",
        "{",
        "{ a",
        "fragment F on T { x }",
        "{ a } }",
        "{ \"x }",
        "type T { a: Int }",
        "{ a ; }",
    ] {
        assert_eq!(document(text), None, "{text}");
    }
}

#[test]
fn a_key_that_is_said_twice_is_not_read() {
    for body in [
        r#"{"method":"tools/list","method":"tools/call"}"#,
        r#"{"method":"tools/list","Method":"tools/call"}"#,
        r#"{"a":{"b":1,"B":2}}"#,
        "{\"params\":1,\"param\u{17f}\":2}",
        "[1,2",
        "",
    ] {
        assert!(strict(body.as_bytes()).is_err(), "{body}");
    }
    assert!(strict(br#"{"a":{"b":1},"c":{"b":2}}"#).is_ok());
}

/// What is read of a request, or why nothing is.
fn said(wanted: Wanted<'_>, line: (&str, &str), kind: &str, body: &str) -> Result<Facts, Wrong> {
    let request = hyper::Request::builder()
        .method(line.0)
        .uri(line.1)
        .header("host", "api.internal");
    let request = match kind {
        "" => request,
        kind => request.header("content-type", kind),
    };
    let parts = request.body(()).unwrap().into_parts().0;
    let text = "version: 1
targets:
  api:
    addresses: ['api.internal:443']
    http: {}
";
    let config = crate::config::parse(text, std::path::Path::new("/c.yaml")).unwrap();
    let settings = config.targets["api"].http().unwrap();
    let mut facts = super::super::read(&parts, settings, 443);
    assert_eq!(facts.wrong, None);
    read(&mut facts, wanted, &parts, body.as_bytes())?;
    Ok(facts)
}

const JSON: &str = "application/json; charset=utf-8";

#[test]
fn a_body_is_read_as_what_it_is_called() {
    let post = ("POST", "/graphql");
    let form = r#"{"query":"{me{id}}","x":"&query=mutation+M{pay(id:1){ok}}&"}"#;
    for kind in [
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
        "application/graphql",
        "application/x-www-form-urlencoded,x+json",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7; charset=utf-8",
    ] {
        for wanted in [Wanted::Graphql, Wanted::Mcp, Wanted::Model] {
            let read = said(wanted, post, kind, form);
            assert!(
                matches!(read, Err(Wrong::Unreadable(_))),
                "{kind} {wanted:?}"
            );
        }
    }
    for kind in [
        "application/json",
        "Application/JSON; Charset=\"UTF-8\"",
        JSON,
    ] {
        let facts = said(Wanted::Graphql, post, kind, form).unwrap();
        let graphql = facts.http.graphql.unwrap();
        assert_eq!(graphql.operations, BTreeSet::from(["query".to_owned()]));
    }
}

#[test]
fn a_document_is_where_every_server_looks_for_it() {
    let body = r#"{"query":"{me{id}}"}"#;
    for target in [
        "/graphql?a=1;query=mutation{pay(id:1){ok}}",
        "/graphql?query[]=mutation{pay}",
        "/graphql?%20query=mutation{pay}",
        "/graphql?query={a}&query={b}",
    ] {
        let target = target.replace(['{', '['], "%7B").replace(['}', ']'], "%7D");
        let target = target.replace("query%7B%7D", "query%5B%5D");
        let read = said(Wanted::Graphql, ("POST", &target), JSON, body);
        assert!(matches!(read, Err(Wrong::Unreadable(_))), "{target}");
    }
    let both = ("POST", "/graphql?query=mutation%7Bpay%7D");
    let facts = said(Wanted::Graphql, both, JSON, body).unwrap();
    assert!(facts.http.graphql.unwrap().operations.contains("mutation"));
}

#[test]
fn a_request_without_a_document_is_no_query() {
    let persisted = "/graphql?extensions=%7B%22persistedQuery%22%3A%7B%7D%7D";
    for line in [
        ("POST", "/graphql"),
        ("POST", persisted),
        ("GET", persisted),
        ("GET", "/graphql?id=7"),
    ] {
        let read = said(Wanted::Graphql, line, "", "");
        assert!(matches!(read, Err(Wrong::Unreadable(_))), "{line:?}");
    }
    for body in [r#"{"extensions":{}}"#, "[]", r#"{"query":null}"#] {
        let read = said(Wanted::Graphql, ("POST", "/graphql"), JSON, body);
        assert!(matches!(read, Err(Wrong::Unreadable(_))), "{body}");
    }
    let page = said(Wanted::Graphql, ("GET", "/graphql"), "", "").unwrap();
    assert_eq!(page.http.graphql, None);
    for wanted in [Wanted::Mcp, Wanted::Model] {
        assert!(said(wanted, ("POST", "/x"), "", "").is_err());
        assert!(said(wanted, ("GET", "/x"), "", "").is_ok());
    }
    let query = said(
        Wanted::Model,
        ("POST", "/x?model=b"),
        JSON,
        r#"{"model":"a"}"#,
    );
    assert!(query.is_err());
}

#[test]
fn a_document_that_gives_fields_other_names_goes_around_masks() {
    let around = |document: &str| {
        let body = serde_json::json!({ "query": document }).to_string();
        let facts = said(Wanted::Graphql, ("POST", "/graphql"), JSON, &body).unwrap();
        facts.around.is_some()
    };
    assert!(around("{ customers { x: email } }"));
    assert!(around("{ c: customers { email } }"));
    assert!(around("query { ...F } fragment F on T { a: b }"));
    assert!(!around("{ customers(first: 3) { email: email } }"));
    assert!(!around(
        "query Q($a: Int) { customers(first: $a) { email } }"
    ));
}

#[test]
fn a_message_names_one_thing_to_every_reader() {
    let named = |body: &str| {
        let read = said(Wanted::Mcp, ("POST", "/mcp"), JSON, body);
        read.ok()
            .and_then(|facts| facts.http.mcp)
            .map(|mcp| mcp.name)
    };
    let rows = [
        (
            r#"{"method":"tools/call","params":{"name":"a"}}"#,
            Some("a"),
        ),
        (
            r#"{"method":"resources/read","params":{"uri":"file:///x"}}"#,
            Some("file:///x"),
        ),
        (
            r#"{"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}"#,
            Some("p"),
        ),
        (
            r#"{"method":"tools/call","params":{"name":"a","arguments":{"Name":"b","é":1}}}"#,
            Some("a"),
        ),
        (r#"{"method":"tools/list"}"#, Some("")),
        (r#"{"id":1,"result":{}}"#, Some("")),
        (
            r#"{"method":"resources/read","params":{"name":"public","uri":"file:///srv/secret"}}"#,
            None,
        ),
        (
            "{\"method\":\"tools/call\",\"params\":{\"name\":\"a\"},\"param\u{17f}\":{\"name\":\"b\"}}",
            None,
        ),
        (
            "{\"method\":\"tools/call\",\"param\u{17f}\":{\"name\":\"b\"}}",
            None,
        ),
        (r#"{"Method":"tools/call","params":{"name":"a"}}"#, None),
        (r#"{"method":"tools/call","Params":{"name":"a"}}"#, None),
        (r#"{"method":"tools/call","params":{"Name":"a"}}"#, None),
        (r#"{"method":"tools/call","params":["a"]}"#, None),
        (r#"{"method":"tools/call","params":{"name":["a"]}}"#, None),
        (r#"{"method":["tools/call"],"params":{"name":"a"}}"#, None),
    ];
    for (body, expected) in rows {
        assert_eq!(named(body).as_deref(), expected, "{body}");
    }
}

#[test]
fn fields_are_read_with_all_that_servers_may_read_in_them() {
    let read = ["currency", "customer.country", "items.sku", "dryRun"].map(str::to_owned);
    let fields = |target: &str, body: &str| {
        let facts = said(Wanted::Fields(&read), ("POST", target), JSON, body);
        facts.map(|facts| facts.http.fields.into_iter().collect::<Vec<_>>())
    };
    let plain = |body: &str| fields("/v1/payments?x=1", body).map(|said| said.join(" "));
    for (body, expected) in [
        (
            r#"{"currency":"EUR","customer":{"country":"DE","name":"x"},"amount":7,"dryRun":false}"#,
            "currency=EUR customer.country=DE dryRun=false",
        ),
        (
            r#"{"items":[{"sku":1},{"sku":"a b"},{"n":1},{"sku":[1.0,1e2,-0.5]}]}"#,
            "items.sku=-0.5 items.sku=1 items.sku=100 items.sku=a b",
        ),
        (r#"{"currency":null,"customer":null}"#, "currency=null"),
        (
            r#"[{"currency":"EUR"},{"currency":"USD"}]"#,
            "currency=EUR currency=USD",
        ),
        ("{}", ""),
    ] {
        assert_eq!(plain(body).as_deref(), Ok(expected), "{body}");
    }
    for odd in [
        r#"{"Currency":"EUR"}"#,
        r#"{"currency":"EUR","CURRENCY":"USD"}"#,
        r#"{"dryrun":true}"#,
        r#"{"customer":{"country":"DE","Country":"KP"}}"#,
        r#"{"customer":"DE"}"#,
        r#"{"currency":{"code":"EUR"}}"#,
        r#""EUR""#,
        "",
    ] {
        assert!(matches!(plain(odd), Err(Wrong::Unreadable(_))), "{odd}");
    }
    for target in ["/v1/payments?currency=USD", "/v1/payments?customer=DE"] {
        let said = fields(target, "{}");
        assert!(matches!(said, Err(Wrong::Unreadable(_))), "{target}");
    }
    let many: Vec<String> = (0..=VALUES_MAX).map(|n| n.to_string()).collect();
    let many = format!(r#"{{"currency":[{}]}}"#, many.join(","));
    assert!(plain(&many).is_err());
}
