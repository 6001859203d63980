//! Actions, classes and texts of requests.

use super::*;

fn facts(method: &str, target: &str) -> Facts {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    read(method, path, query, ("", "")).unwrap()
}

fn words(facts: &Facts) -> String {
    let words: Vec<_> = facts.actions.iter().map(|one| one.name()).collect();
    words.join(" ")
}

#[test]
fn what_is_dangerous_has_an_action_of_its_own() {
    let pod = "/api/v1/namespaces/a/pods/p";
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rows = [
        ("GET", format!("{pod}/exec?command=ls"), "KubeExec"),
        ("POST", format!("{pod}/exec?command=ls"), "KubeExec"),
        ("GET", format!("{pod}/attach"), "KubeAttach"),
        ("POST", format!("{pod}/portforward"), "KubePortForward"),
        ("GET", format!("{pod}/proxy/x"), "KubeProxy"),
        ("DELETE", format!("{pod}/proxy/x"), "KubeProxy"),
        ("GET", "/api/v1/nodes/n/proxy/run".to_owned(), "KubeProxy"),
        ("GET", "/api/v1/proxy/nodes/n/run".to_owned(), "KubeProxy"),
        ("PATCH", format!("{pod}/ephemeralcontainers"), "KubeDebug"),
        ("GET", format!("{pod}/ephemeralcontainers"), "KubeGet"),
        ("POST", format!("{pod}/eviction"), "KubeEvict"),
        ("GET", format!("{pod}/log"), "KubeGet"),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/s/token".to_owned(),
            "KubeToken",
        ),
        (
            "POST",
            format!("{rbac}/clusterrolebindings"),
            "KubeCreate KubeBind",
        ),
        (
            "PATCH",
            format!("{rbac}/namespaces/a/rolebindings/r"),
            "KubePatch KubeBind",
        ),
        (
            "DELETE",
            format!("{rbac}/clusterrolebindings/r"),
            "KubeDelete",
        ),
        (
            "PUT",
            format!("{rbac}/clusterroles/r"),
            "KubeCreate KubeUpdate KubeEscalate",
        ),
        ("GET", format!("{rbac}/clusterroles/r"), "KubeGet"),
        (
            "PUT",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval".to_owned(),
            "KubeUpdate KubeToken",
        ),
        (
            "POST",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned(),
            "KubeCreate",
        ),
        ("DELETE", "/api/v1/pods".to_owned(), "KubeDeleteCollection"),
        ("GET", "/version".to_owned(), "KubeVisit"),
        ("POST", "/version".to_owned(), "KubeOther"),
        ("TRACK", pod.to_owned(), "KubeOther"),
    ];
    for (method, target, expected) in rows {
        assert_eq!(
            words(&facts(method, &target)),
            expected,
            "{method} {target}"
        );
    }
}

#[test]
fn what_may_make_something_is_that_as_well() {
    let all = "/api/v1/namespaces/a";
    let apply = "application/apply-patch+yaml";
    let rows = [
        (
            "PATCH",
            format!("{all}/configmaps/c"),
            apply,
            "KubeCreate KubePatch",
        ),
        ("PATCH", format!("{all}/pods/p/status"), apply, "KubePatch"),
        (
            "PATCH",
            format!("{all}/pods/p/ephemeralcontainers"),
            apply,
            "KubeDebug",
        ),
        (
            "PATCH",
            format!("{all}/configmaps/c"),
            "application/merge-patch+json",
            "KubePatch",
        ),
        (
            "PUT",
            format!("{all}/services/s"),
            "",
            "KubeCreate KubeUpdate",
        ),
        ("PUT", format!("{all}/services/s/status"), "", "KubeUpdate"),
        ("PUT", format!("{all}/configmaps/c"), "", "KubeUpdate"),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/a/leases/l".to_owned(),
            "",
            "KubeCreate KubeUpdate",
        ),
        ("DELETE", format!("{all}/services/s"), "", "KubeDelete"),
    ];
    for (method, path, kind, expected) in rows {
        let facts = read(method, &path, "", ("", kind)).unwrap();
        assert_eq!(words(&facts), expected, "{method} {path} {kind}");
    }
}

#[test]
fn a_connection_that_becomes_something_else_is_a_watch_or_a_stream_or_more_than_it_says() {
    let upgraded = |target: &str| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        words(&read("GET", path, query, ("websocket", "")).unwrap())
    };
    let pod = "/api/v1/namespaces/a/pods/p";
    assert_eq!(upgraded("/api/v1/pods?watch=1"), "KubeWatch");
    assert_eq!(upgraded(&format!("{pod}/exec")), "KubeExec");
    assert_eq!(upgraded(pod), "KubeGet KubeOther");
    assert_eq!(upgraded("/vnc"), "KubeVisit KubeOther");
}

#[test]
fn a_stream_is_the_same_however_it_is_carried() {
    let target =
        "/api/v1/namespaces/a/pods/p/exec?command=ls&command=-l&container=c&stdin=true&stdout=true";
    let (path, query) = target.split_once('?').unwrap();
    let one = read("GET", path, query, ("websocket", "")).unwrap();
    let two = read("POST", path, query, ("spdy/3.1", "")).unwrap();
    let said = Some("exec pods/p in a container=c stdin command=ls -l".to_owned());
    assert_eq!((one.said(), two.said()), (said.clone(), said));
    let (one, two) = (one.reading("x", None), two.reading("x", None));
    assert_eq!(one.asks, two.asks);
    assert_eq!(&*one.redacted, "exec pods/p in a command=ls ?");
    assert_eq!(one.fingerprint, two.fingerprint);
    let context = one.asks[0].context.kubernetes.as_ref().unwrap();
    assert_eq!(
        (context.verb.as_str(), context.program.as_str()),
        ("exec", "ls")
    );
    assert!(context.arguments.contains("-l") && context.stdin && !context.tty);
}

#[test]
fn masks_look_at_what_holds_secrets() {
    let rows = [
        (
            "GET",
            "/api/v1/namespaces/a/secrets/s",
            Class::Secrets,
            None,
        ),
        ("GET", "/api/v1/watch/secrets", Class::Secrets, None),
        (
            "PUT",
            "/api/v1/namespaces/a/secrets/s",
            Class::Secrets,
            Some(Wanted::Secret),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/a/secrets",
            Class::Secrets,
            None,
        ),
        ("GET", "/apis/x.example/v1/secrets", Class::Objects, None),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/s/token",
            Class::Token,
            None,
        ),
        ("GET", "/api/v1/namespaces/a/pods/p/log", Class::Plain, None),
        (
            "GET",
            "/api/v1/namespaces/a/pods/p/exec",
            Class::Plain,
            None,
        ),
        (
            "GET",
            "/api/v1/namespaces/a/secrets/s/proxy",
            Class::Plain,
            None,
        ),
        ("GET", "/api", Class::Plain, None),
        ("GET", "/api/v1/pods", Class::Objects, None),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            Class::Objects,
            Some(Wanted::Review),
        ),
    ];
    for (method, target, class, wanted) in rows {
        let facts = facts(method, target);
        assert_eq!(
            (facts.class(), facts.wanted()),
            (class, wanted),
            "{method} {target}"
        );
    }
}

#[test]
fn a_request_is_told_in_the_words_of_the_cluster() {
    let rows = [
        (
            "GET",
            "/api/v1/namespaces/a/pods?watch=1",
            "watch pods in a",
        ),
        (
            "GET",
            "/api/v1/namespaces/a/pods/p/log",
            "get pods/p/log in a",
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d",
            "patch deployments.apps/d in a",
        ),
        ("GET", "/api/v1/nodes", "list nodes"),
        ("GET", "/version", "get /version"),
    ];
    for (method, target, expected) in rows {
        let reading = facts(method, target).reading("GET /x?y=?", None);
        assert_eq!(&*reading.summary, expected);
        assert_eq!(&*reading.redacted, "GET /x?y=?");
    }
    for path in ["/api/v1/deployments.apps", "/api/v1/watch"] {
        assert!(read("GET", path, "", ("", "")).is_err(), "{path}");
    }
}

#[test]
fn what_a_patch_is_stands_in_its_media_type() {
    let path = "/api/v1/namespaces/a/pods/p";
    for (kind, expected) in [
        ("application/json-patch+json", "json"),
        ("application/merge-patch+json", "merge"),
        ("application/strategic-merge-patch+json", "strategic"),
        ("application/apply-patch+yaml", "apply"),
        ("application/json", ""),
    ] {
        let facts = read("PATCH", path, "dryRun=All&fieldManager=k", ("", kind)).unwrap();
        assert_eq!(facts.kube.patch, expected);
        assert!(facts.kube.dry_run);
    }
}

#[test]
fn a_dry_run_is_one_where_the_server_looks_for_it() {
    let pods = "/api/v1/namespaces/a/pods";
    let rows = [
        ("POST", pods.to_owned(), true),
        ("PUT", format!("{pods}/p"), true),
        ("PATCH", format!("{pods}/p"), true),
        ("DELETE", format!("{pods}/p"), true),
        ("DELETE", pods.to_owned(), true),
        ("POST", format!("{pods}/p/eviction"), true),
        ("GET", format!("{pods}/p"), false),
        ("GET", format!("{pods}/p/exec"), false),
        ("POST", format!("{pods}/p/exec"), false),
        ("POST", format!("{pods}/p/attach"), false),
        ("POST", format!("{pods}/p/portforward"), false),
        ("POST", format!("{pods}/p/proxy/x"), false),
        ("DELETE", format!("{pods}/p/proxy/x"), false),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/s/token".to_owned(),
            false,
        ),
        ("POST", "/reload".to_owned(), false),
    ];
    for (method, path, expected) in rows {
        let mut facts = read(method, &path, "dryRun=All", ("", "")).unwrap();
        assert_eq!(facts.kube.dry_run, expected, "{method} {path}");
        // What a deletion is to be is said in its body, where it has one.
        facts.has_body();
        let counts = expected && method != "DELETE";
        assert_eq!(facts.kube.dry_run, counts, "{method} {path} with a body");
    }
}

#[test]
fn a_patch_that_copies_what_is_masked_is_noticed() {
    let secret = "/api/v1/namespaces/a/secrets/db";
    let map = "/api/v1/namespaces/a/configmaps/m";
    let copy = br#"[{"op":"copy","from":"/data/password","path":"/metadata/annotations/x"}]"#;
    let add = br#"[{"op":"add","path":"/data/password","value":"eA=="}]"#;
    let json = "application/json-patch+json";
    let merge = "application/merge-patch+json";
    let copies = |path: &str, kind: &str, body: &[u8]| {
        let mut facts = read("PATCH", path, "dryRun=All", ("", kind)).unwrap();
        let wanted = facts.wanted()?;
        facts.read_body(wanted, body).ok()?;
        Some(facts.copies)
    };
    assert_eq!(copies(secret, json, copy), Some(true));
    assert_eq!(copies(secret, json, add), Some(false));
    assert_eq!(copies(secret, merge, br#"{"data":{}}"#), Some(false));
    assert_eq!(copies(map, json, copy), Some(true));
    assert_eq!(copies(map, merge, b"{}"), None);
}

#[test]
fn people_tell_two_commands_apart() {
    let said = |query: &str| {
        let path = "/api/v1/namespaces/a/pods/p/exec";
        read("POST", path, query, ("", "")).unwrap().said().unwrap()
    };
    let one = said("command=rm&command=-rf&command=/srv/old%20data");
    assert_eq!(one, "exec pods/p in a command=rm -rf \"/srv/old data\"");
    assert_ne!(
        one,
        said("command=rm&command=-rf&command=/srv/old&command=data")
    );
    assert_ne!(
        said("command=ls&stdin=true"),
        said("command=ls&command=stdin")
    );
    assert_ne!(said("container=c&tty=true"), said("container=c%20tty"));
    let path = "/api/v1/namespaces/a/pods/p/portforward";
    let ports = read("POST", path, "ports=80&ports=443", ("", "")).unwrap();
    assert_eq!(
        ports.said().as_deref(),
        Some("portforward pods/p in a ports=80 443")
    );
}
