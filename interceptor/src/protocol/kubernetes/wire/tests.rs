//! Paths as the API server's own documentation and its discovery name them.

use proptest::prelude::*;

use super::*;

fn asked(method: &str, target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = Query::read(query).unwrap();
    let Ok(asked) = read(method, path, &query) else {
        return "error".to_owned();
    };
    if !asked.is_resource {
        return asked.verb;
    }
    let or = |text: &str| match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    [
        asked.verb,
        or(&asked.group),
        asked.version,
        or(&asked.namespace),
        or(&asked.resource),
        or(&asked.subresource),
        or(&asked.name),
    ]
    .join(" ")
}

/// Method, target, and what the server computes of them.
const ROWS: &[(&str, &str, &str)] = &[
    // Verb, group, version, namespace, resource, subresource, name.
    ("GET", "/api/v1/namespaces", "list - v1 - namespaces - -"),
    ("POST", "/api/v1/namespaces", "create - v1 - namespaces - -"),
    ("GET", "/api/v1/namespaces/a", "get - v1 a namespaces - a"),
    (
        "PUT",
        "/api/v1/namespaces/a/status",
        "update - v1 a namespaces status a",
    ),
    (
        "PUT",
        "/api/v1/namespaces/a/finalize",
        "update - v1 a namespaces finalize a",
    ),
    (
        "DELETE",
        "/api/v1/namespaces/a",
        "delete - v1 a namespaces - a",
    ),
    (
        "DELETE",
        "/api/v1/namespaces",
        "deletecollection - v1 - namespaces - -",
    ),
    ("GET", "/api/v1/pods", "list - v1 - pods - -"),
    ("GET", "/api/v1/namespaces/a/pods", "list - v1 a pods - -"),
    ("GET", "/api/v1/namespaces/a/pods/", "list - v1 a pods - -"),
    ("HEAD", "/api/v1/namespaces/a/pods/p", "get - v1 a pods - p"),
    ("GET", "/api/v1/namespaces/a/pods/p", "get - v1 a pods - p"),
    (
        "PATCH",
        "/api/v1/namespaces/a/pods/p",
        "patch - v1 a pods - p",
    ),
    (
        "DELETE",
        "/api/v1/namespaces/a/pods/p",
        "delete - v1 a pods - p",
    ),
    (
        "DELETE",
        "/api/v1/namespaces/a/pods",
        "deletecollection - v1 a pods - -",
    ),
    ("OPTIONS", "/api/v1/namespaces/a/pods", " - v1 a pods - -"),
    (
        "GET",
        "/api/v1/namespaces/a/pods/p/log",
        "get - v1 a pods log p",
    ),
    (
        "POST",
        "/api/v1/namespaces/a/pods/p/exec",
        "create - v1 a pods exec p",
    ),
    (
        "GET",
        "/api/v1/namespaces/a/pods/p/exec",
        "get - v1 a pods exec p",
    ),
    (
        "POST",
        "/api/v1/namespaces/a/pods/p/eviction",
        "create - v1 a pods eviction p",
    ),
    (
        "POST",
        "/api/v1/namespaces/a/serviceaccounts/s/token",
        "create - v1 a serviceaccounts token s",
    ),
    (
        "GET",
        "/api/v1/namespaces/a/services/s/proxy/x/y",
        "get - v1 a services proxy s",
    ),
    (
        "GET",
        "/api/v1/nodes/n/proxy/metrics",
        "get - v1 - nodes proxy n",
    ),
    // A namespace, or an object, that has the name of something else.
    (
        "GET",
        "/api/v1/namespaces/status",
        "get - v1 status namespaces - status",
    ),
    (
        "GET",
        "/api/v1/namespaces/a/status/p",
        "get - v1 a namespaces status a",
    ),
    (
        "GET",
        "/api/v1/namespaces/watch/pods",
        "list - v1 watch pods - -",
    ),
    (
        "GET",
        "/api/v1/pods/namespaces/a",
        "get - v1 - pods a namespaces",
    ),
    // Verbs in the path.
    ("GET", "/api/v1/watch/pods", "watch - v1 - pods - -"),
    (
        "GET",
        "/api/v1/watch/namespaces/a/pods/p",
        "watch - v1 a pods - p",
    ),
    (
        "POST",
        "/api/v1/watch/namespaces/a/pods",
        "watch - v1 a pods - -",
    ),
    ("GET", "/api/v1/watch", "error"),
    (
        "GET",
        "/api/v1/proxy/namespaces/a/pods/p/exec/x",
        "proxy - v1 a pods - p",
    ),
    ("DELETE", "/apis/apps/v1/proxy", "error"),
    // Verbs in the query.
    ("GET", "/api/v1/pods?watch=true", "watch - v1 - pods - -"),
    ("GET", "/api/v1/pods?watch=1", "watch - v1 - pods - -"),
    ("GET", "/api/v1/pods?watch", "watch - v1 - pods - -"),
    ("GET", "/api/v1/pods?watch=", "watch - v1 - pods - -"),
    ("GET", "/api/v1/pods?watch=no", "watch - v1 - pods - -"),
    ("GET", "/api/v1/pods?watch=0", "list - v1 - pods - -"),
    ("GET", "/api/v1/pods?watch=FALSE", "list - v1 - pods - -"),
    ("GET", "/api/v1/pods?Watch=true", "list - v1 - pods - -"),
    (
        "GET",
        "/api/v1/namespaces/a/pods/p?watch=true",
        "get - v1 a pods - p",
    ),
    (
        "DELETE",
        "/api/v1/namespaces/a/pods?watch=true",
        "deletecollection - v1 a pods - -",
    ),
    // A selector that leaves one name.
    (
        "GET",
        "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp",
        "list - v1 a pods - p",
    ),
    (
        "GET",
        "/api/v1/namespaces/a/pods?fieldSelector=metadata.name==p&watch=1",
        "watch - v1 a pods - p",
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=spec.nodeName=n,metadata.name=p",
        "list - v1 - pods - p",
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=metadata.name!=p",
        "list - v1 - pods - -",
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=metadata.name=a/b",
        "list - v1 - pods - -",
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=metadata.name=..",
        "list - v1 - pods - -",
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=metadata.name=a,metadata.name=b",
        "list - v1 - pods - -",
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=metadata.name=a%5C,b",
        "list - v1 - pods - -",
    ),
    (
        "DELETE",
        "/api/v1/namespaces/a/pods?fieldSelector=metadata.name=p",
        "deletecollection - v1 a pods - -",
    ),
    // Groups.
    (
        "GET",
        "/apis/apps/v1/deployments",
        "list apps v1 - deployments - -",
    ),
    (
        "GET",
        "/apis/apps/v1/namespaces/a/deployments/d/scale",
        "get apps v1 a deployments scale d",
    ),
    (
        "PATCH",
        "/apis/batch/v1/namespaces/a/jobs/j/status",
        "patch batch v1 a jobs status j",
    ),
    (
        "GET",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin",
        "get rbac.authorization.k8s.io v1 - clusterroles - admin",
    ),
    (
        "GET",
        "/apis/example.com/v1/namespaces/a/namespaces/b",
        "get example.com v1 a namespaces - b",
    ),
    // What is no object.
    ("GET", "/", "get"),
    ("GET", "/api", "get"),
    ("GET", "/api/", "get"),
    ("GET", "/api/v1", "get"),
    ("GET", "/api/v1/", "get"),
    ("GET", "/apis", "get"),
    ("GET", "/apis/apps", "get"),
    ("GET", "/apis/apps/v1", "get"),
    ("POST", "/healthz/etcd", "post"),
    ("PUT", "/apiv1/namespaces/a/pods", "put"),
    ("GET", "/API/v1/pods", "get"),
    ("GET", "/openapi/v2", "get"),
];

#[test]
fn a_request_is_what_the_server_computes() {
    for (method, target, expected) in ROWS {
        assert_eq!(asked(method, target), *expected, "{method} {target}");
    }
}

proptest! {
    #[test]
    fn every_path_has_a_meaning_or_none(
        method in "[A-Z]{0,9}",
        path in "(/?(api|apis|v1|namespaces|watch|proxy|pods|status|[a-z/.%]{0,4})){0,9}",
        raw in "((watch|fieldSelector|a)(=[a-z.=!,%0-9]{0,20})?&?){0,4}",
    ) {
        let query = Query::read(&raw).unwrap_or_default();
        if let Ok(asked) = read(&method, &path, &query) {
            // What is about objects names a kind, and what names a part of an object names the object.
            prop_assert_eq!(asked.is_resource, !asked.resource.is_empty());
            prop_assert!(asked.subresource.is_empty() || !asked.name.is_empty());
        }
    }

    #[test]
    fn anything_is_read_without_a_panic(method in any::<String>(), path in any::<String>(), raw in any::<String>()) {
        if let Ok(query) = Query::read(&raw) {
            drop(read(&method, &path, &query));
        }
    }
}
