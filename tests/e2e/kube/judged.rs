//! What the daemon judges is what the server computes: held against the server's own audit.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, wait};

use super::Lab;
use crate::lab::text;

const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;

/// Method and path, each with a query or without.
const REQUESTS: [(&str, &str); 34] = [
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces?watch=1&timeoutSeconds=1"),
    ("GET", "/api/v1/namespaces/default"),
    ("GET", "/api/v1/namespaces/default/status"),
    ("PUT", "/api/v1/namespaces/default/finalize"),
    ("GET", "/api/v1/namespaces/status"),
    ("GET", "/api/v1/namespaces/default/status/p"),
    ("GET", "/api/v1/namespaces/default/configmaps/"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/pods?watch=&timeoutSeconds=1"),
    ("GET", "/api/v1/pods?watch=FALSE"),
    ("GET", "/api/v1/pods?watch=no&timeoutSeconds=1"),
    ("GET", "/api/v1/pods?Watch=true"),
    ("GET", "/api/v1/namespaces/default/pods/p?watch=true"),
    ("GET", "/api/v1/watch/pods?timeoutSeconds=1"),
    (
        "GET",
        "/api/v1/watch/namespaces/default/pods/p?timeoutSeconds=1",
    ),
    (
        "GET",
        "/api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Dp",
    ),
    (
        "GET",
        "/api/v1/namespaces/default/pods?fieldSelector=metadata.name==p&watch=1&timeoutSeconds=1",
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=spec.nodeName=n,metadata.name=p",
    ),
    ("GET", "/api/v1/pods?fieldSelector=metadata.name!=p"),
    ("GET", "/api/v1/namespaces/default/p%6Fds/%70"),
    ("GET", "/api/v1/namespaces/default/pods/p/log"),
    ("POST", "/api/v1/namespaces/default/pods/p/eviction"),
    ("DELETE", "/api/v1/namespaces/default/pods/p"),
    ("DELETE", "/api/v1/namespaces/default/pods"),
    (
        "DELETE",
        "/api/v1/namespaces/default/pods?fieldSelector=metadata.name=p",
    ),
    (
        "PATCH",
        "/api/v1/namespaces/default/pods/p/ephemeralcontainers",
    ),
    ("HEAD", "/api/v1/namespaces/default/pods"),
    ("GET", "/apis/apps/v1/deployments"),
    (
        "GET",
        "/apis/apps/v1/namespaces/default/deployments/d/scale",
    ),
    (
        "GET",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin",
    ),
    ("GET", "/apis/apps/v1"),
    ("GET", "/healthz/ping"),
    ("POST", "/version"),
];

#[test]
fn a_request_is_judged_as_the_server_computes_it() -> Result<()> {
    let lab = Lab::with(vec![("all.cedar".to_owned(), ALL.to_owned())], &[])?;
    for (index, (method, target)) in REQUESTS.iter().enumerate() {
        let sign = if target.contains('?') { '&' } else { '?' };
        let marked = format!("{target}{sign}mark=m{index}m");
        let method = match *method {
            "HEAD" => vec!["--head"],
            method => vec!["-X", method],
        };
        lab.curl(&method, &marked)?;
    }
    for (index, (method, target)) in REQUESTS.iter().enumerate() {
        let mark = format!("mark=m{index}m");
        let line = wait::for_fact(target, DEADLINE, || {
            let lines = lab.asked()?;
            let is_it =
                |line: &Value| text(line, "/requestURI").is_ok_and(|uri| uri.contains(&mark));
            Ok(lines.into_iter().find(is_it))
        })?;
        let ours = lab.daemon.audit().events("request.permitted")?;
        let ours = ours
            .iter()
            .find(|line| text(line, "/statement").is_ok_and(|said| said.contains(&mark)))
            .with_context(|| format!("nothing was judged of {target}"))?;
        let context = ours
            .pointer("/asks/0/context/kubernetes")
            .with_context(|| format!("no facts in {ours}"))?;
        let of = |from: &Value, pointer: &str| {
            let text = from.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        for (theirs, own) in [
            ("/verb", "/verb"),
            ("/objectRef/apiGroup", "/group"),
            ("/objectRef/apiVersion", "/version"),
            ("/objectRef/namespace", "/namespace"),
            ("/objectRef/resource", "/resource"),
            ("/objectRef/subresource", "/subresource"),
            ("/objectRef/name", "/name"),
        ] {
            ensure!(
                of(&line, theirs) == of(context, own),
                "{method} {target}: {own} is {:?} to us and {:?} to the server",
                of(context, own),
                of(&line, theirs)
            );
        }
    }
    Ok(())
}
