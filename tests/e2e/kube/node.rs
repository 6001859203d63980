//! Streams to a real node: kubelet and containerd run the pod, `kubectl` of two versions does what people do with it.

use std::fs;
use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use support::kubernetes::node::{Node, POD};
use support::{DEADLINE, place, port};

use super::Lab;
use crate::lab::{has, lacks, text};

const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;

/// Fields are dropped in order: what runs on the node before its cluster.
struct WithNode {
    node: Node,
    lab: Lab,
}

fn lab(more: &[&str]) -> Result<WithNode> {
    let lab = Lab::with(vec![("all.cedar".to_owned(), ALL.to_owned())], more)?;
    let node = Node::start(&lab.cluster)?;
    Ok(WithNode { node, lab })
}

#[test]
fn kubectl_does_at_a_real_node_what_it_does_without_the_daemon() -> Result<()> {
    let WithNode { node, lab } = lab(&[])?;
    let own = place::temporary("copied")?;
    fs::set_permissions(
        own.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )?;
    for client in lab.clients()? {
        let run = |words: &[&str]| lab.agent().run(&client, words);
        let script = "echo out; echo err >&2; exit 7";
        let ran = run(&["exec", POD, "--", "sh", "-c", script])?;
        ensure!(ran.status.code() == Some(7), "{ran:?}");
        ensure!(ran.stdout == "out\n", "{ran:?}");
        has(&ran.stderr, &["err\n", "exit code 7"])?;
        // Much, both ways, and the end of the input.
        let script = format!(
            "head -c 3000000 /dev/zero | {client} exec -i {POD} -- sh -c 'cat | wc -c; cat /bin/busybox' | tail -c +9 | cmp - /bin/busybox && echo same"
        );
        has(&lab.agent().run("sh", &["-c", &script])?.ok()?, &["same"])?;
        let (there, back) = (own.path().join("there"), own.path().join("back"));
        fs::write(&there, "told\n")?;
        let remote = format!("{POD}:/tmp/told");
        run(&["cp", &there.display().to_string(), &remote])?.ok()?;
        run(&["cp", &remote, &back.display().to_string()])?.ok()?;
        ensure!(fs::read_to_string(&back)? == "told\n");
        fs::remove_file(&back)?;
        let logs = lab.agent().start(&client, &["logs", "-f", POD])?;
        logs.await_text("started", DEADLINE)?;
        drop(logs);
        let local = port::free()?;
        let ports = format!("{}:{}", local.port(), node.served());
        let words = ["port-forward", "--address=127.0.0.1", POD, &ports];
        let forward = lab.agent().start(&client, &words)?;
        forward.await_text("Forwarding from", DEADLINE)?;
        let mut stream = port::dial(local)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"hello")?;
        let mut said = [0; 5];
        stream.read_exact(&mut said)?;
        ensure!(&said == b"hello", "{said:?}");
        drop(stream);
        // What the main process says while somebody is there.
        let attached = lab.agent().start(&client, &["attach", POD])?;
        let says = ["exec", POD, "--", "sh", "-c", "echo called > /proc/1/fd/1"];
        support::wait::for_fact("what the pod says", DEADLINE, || {
            run(&says)?.ok()?;
            Ok(attached.log().contains("called").then_some(()))
        })?;
    }
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let is_exec = |line: &&serde_json::Value| {
        text(line, "/summary").is_ok_and(|said| said.starts_with("exec"))
    };
    let exec = permitted.iter().find(is_exec).context("no exec")?;
    let play = ["sessions", "play", text(exec, "/session")?, "--instant"];
    has(&lab.daemon.cli(&play)?.ok()?, &["out", "err"])
}

#[test]
fn what_a_real_node_shows_is_masked() -> Result<()> {
    // Of the target, behind what is its cluster's.
    let WithNode { node, lab } = lab(&["recorded: 64KiB\n    detect: { email: mask }"])?;
    for client in lab.clients()? {
        let script =
            "printf 'to alice@exam'; sleep 0.2; echo 'ple.com now'; echo bob@example.com >&2";
        let ran = lab
            .agent()
            .run(&client, &["exec", POD, "--", "sh", "-c", script])?;
        ensure!(ran.stdout == "to ***************** now\n", "{ran:?}");
        ensure!(ran.stderr.contains("***************"), "{ran:?}");
        lacks(&ran.stderr, &["bob"])?;
    }
    drop(node);
    Ok(())
}
