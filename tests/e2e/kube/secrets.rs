//! Secrets are masked in every form in which a server gives them out, and masks are not written back.

use anyhow::{Context as _, Result, ensure};
use support::DEADLINE;

use super::{Lab, SITE};
use crate::lab::{has, lacks, refused};

/// Stands nowhere else; and as `data` holds it.
const CANARY: &str = "canary-5c1d0f";
const CODED: &str = "Y2FuYXJ5LTVjMWQwZg==";
const MASK: &str = "bWFza2VkLWJ5LWludGVyY2VwdG9y";

const REVEAL: &str = r#"
@id("token") permit (principal is Agent, action == Action::"Reveal", resource)
when { resource is KubeObject && resource.resource == "secrets" && resource.name like "sh.helm.release.v1.*" };
"#;

fn secret(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"{name}"}},"data":{{"password":"{CODED}","other":"{CODED}"}}}}"#
    )
}

fn lab() -> Result<Lab> {
    let lab = Lab::new(&format!("{SITE}{REVEAL}"), &[])?;
    // Applied: the whole of it stands once more in an annotation.
    lab.cluster.apply(&secret("db"))?;
    lab.cluster.apply(&secret("sh.helm.release.v1.shop.v1"))?;
    Ok(lab)
}

#[test]
fn a_secret_is_masked_in_every_form_that_kubectl_asks_for() -> Result<()> {
    let lab = lab()?;
    let one = "/api/v1/namespaces/default/secrets/db";
    let clients = lab.clients()?;
    let asked: [&[&str]; 6] = [
        &["get", "secret", "db", "-o", "json"],
        &["get", "secret", "db", "-o", "yaml"],
        &[
            "get",
            "secrets",
            "--field-selector=metadata.name=db",
            "-o",
            "yaml",
        ],
        &["get", "secret", "db", "-o", "jsonpath={.data.password}"],
        &["get", "--raw", one],
        &[
            "get",
            "secret,configmap",
            "db",
            "--ignore-not-found",
            "-o",
            "json",
        ],
    ];
    for client in &clients {
        for arguments in asked {
            let said = lab.agent().run(client, arguments)?.ok()?;
            has(&said, &[MASK])?;
            lacks(&said, &[CANARY, CODED])?;
        }
        let said = lab
            .agent()
            .run(client, &["describe", "secret", "db"])?
            .ok()?;
        has(&said, &["password:", "bytes"])?;
        lacks(&said, &[CANARY, CODED])?;
        let mut watch = lab
            .agent()
            .start(client, &["get", "secret", "db", "-w", "-o", "yaml"])?;
        watch.await_text(MASK, DEADLINE)?;
        lab.cluster
            .kubectl(&[
                "label",
                "--overwrite",
                "secret",
                "db",
                &format!("seen-by={}", client.len()),
            ])?
            .ok()?;
        watch.await_text(&format!("seen-by: \"{}\"", client.len()), DEADLINE)?;
        watch.signal(nix::sys::signal::Signal::SIGTERM);
        let said = watch.finish(DEADLINE)?;
        lacks(&said.stdout, &[CANARY, CODED])?;
    }
    Ok(())
}

#[test]
fn a_secret_is_masked_whatever_form_a_client_of_its_own_asks_for() -> Result<()> {
    let lab = lab()?;
    let secrets = "/api/v1/namespaces/default/secrets";
    let one = format!("{secrets}/db");
    let protobuf = ["-H", "Accept: application/vnd.kubernetes.protobuf"];
    let table = ["-H", "Accept: application/json;as=Table;v=v1;g=meta.k8s.io"];
    let gzip = ["--compressed"];
    let raw: [(&[&str], String, &str); 9] = [
        (&protobuf, secrets.to_owned(), MASK),
        (&protobuf, one.clone(), MASK),
        (&["-H", "Accept: application/yaml"], one.clone(), MASK),
        (&gzip, one.clone(), MASK),
        (&["-r", "0-4000"], one.clone(), MASK),
        (&table, format!("{secrets}?includeObject=Object"), MASK),
        (&table, secrets.to_owned(), "creationTimestamp"),
        (
            &[],
            "/api/v1/watch/secrets?timeoutSeconds=1".to_owned(),
            MASK,
        ),
        (
            &[],
            "/api/v1/secrets?watch=1&timeoutSeconds=1".to_owned(),
            MASK,
        ),
    ];
    for (arguments, path, wanted) in raw {
        let only_db = match path.contains('?') {
            true => format!("{path}&fieldSelector=metadata.name%3Ddb"),
            false if path == one => path,
            false => format!("{path}?fieldSelector=metadata.name%3Ddb"),
        };
        let said = lab.curl(arguments, &only_db)?;
        has(&said, &[wanted, "\n200\n"]).with_context(|| format!("{arguments:?} {only_db}"))?;
        lacks(&said, &[CANARY, CODED])?;
    }
    // A watch over a WebSocket cannot be looked at.
    let upgrade = [
        "--http1.1",
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
        "-H",
        "Sec-WebSocket-Version: 13",
        "-H",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "-H",
        "Origin: https://localhost",
    ];
    let said = lab.curl(&upgrade, &format!("{secrets}?watch=1"))?;
    has(&said, &["\n403\n", "it is no answer, but a connection"])?;
    lacks(&said, &[CANARY, CODED])?;
    // Whoever may see one sees it.
    let said = lab
        .kubectl(&["get", "secret", "sh.helm.release.v1.shop.v1", "-o", "yaml"])?
        .ok()?;
    has(&said, &[CODED])?;
    lacks(&said, &[MASK])
}

#[test]
fn a_mask_is_not_written_back_and_what_is_changed_is() -> Result<()> {
    let lab = lab()?;
    let stored = |pointer: &str| -> Result<String> {
        let template = format!("jsonpath={{{pointer}}}");
        lab.cluster
            .kubectl(&["get", "secret", "db", "-o", &template])?
            .ok()
    };
    for client in lab.clients()? {
        let shown = lab
            .agent()
            .run(&client, &["get", "secret", "db", "-o", "json"])?
            .ok()?;
        let file = lab.file("masked", &shown)?;
        let said = refused(lab.agent().run(&client, &["replace", "-f", &file])?)?;
        has(&said, &["(Forbidden)", "would write a mask"])?;
        let patch = r#"{"stringData":{"password":"masked-by-interceptor"}}"#;
        let said = refused(
            lab.agent()
                .run(&client, &["patch", "secret", "db", "-p", patch])?,
        )?;
        has(&said, &["would write a mask"])?;
        let copy =
            r#"[{"op":"copy","from":"/data/password","path":"/metadata/annotations/shown"}]"#;
        let copying = [
            "patch",
            "secret",
            "db",
            "--type=json",
            "--dry-run=server",
            "-o",
            "json",
            "-p",
            copy,
        ];
        let said = lab.agent().run(&client, &copying)?;
        lacks(&said.stdout, &[CODED])?;
        has(&refused(said)?, &["would be copied, or asked for"])?;
        ensure!(stored(".data.password")? == CODED);
    }
    // `apply` sends what its file says, and leaves the rest.
    let changed = secret("db").replacen(CODED, "bmV3", 1);
    let file = lab.file("changed", &changed)?;
    lab.kubectl(&["apply", "-f", &file])?.ok()?;
    ensure!(stored(".data.password")? == "bmV3" && stored(".data.other")? == CODED);
    Ok(())
}

#[test]
fn a_token_that_is_made_is_masked() -> Result<()> {
    let permit = r#"
@id("tokens") permit (principal is Agent, action == Action::"KubeToken", resource);
@id("kube-reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
"#;
    let lab = Lab::with(vec![("site.cedar".to_owned(), permit.to_owned())], &[])?;
    lab.cluster.apply(
        r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"robot","namespace":"default"}}"#,
    )?;
    let body = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let said = lab.curl(&["-H", "Content-Type: application/json", "-d", body], path)?;
    has(
        &said,
        &[
            "\n201\n",
            "\"masked-by-interceptor\"",
            "expirationTimestamp",
        ],
    )?;
    lacks(&said, &["eyJ"])
}
