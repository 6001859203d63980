//! What the protocol has besides: keys that are changed on the way, compression, variables, signs of life.

use std::fs;

use anyhow::{Result, ensure};
use support::Sshd;

use super::{ALL_BUT_RM, Lab};
use crate::lab::has;

/// Sends 12 MB to `cat` and back, and compares.
fn echoes(lab: &Lab, more: &[&str]) -> Result<()> {
    let own = lab.own()?;
    let source = own.path().join("source").display().to_string();
    let port = lab.server.address().port().to_string();
    let script = format!(
        "head -c 12000000 /dev/urandom > {source}; ssh \"$@\" < {source} | cmp - {source} && echo same"
    );
    let mut words = vec!["-c".to_owned(), script, "sh".to_owned()];
    words.extend(lab.options());
    words.extend(more.iter().map(|&word| word.to_owned()));
    words.extend(["-p", &port, "x@127.0.0.1", "cat"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = lab.agent().run("sh", &words)?;
    ensure!(run.stdout == "same\n", "{more:?}: {run:?}");
    Ok(())
}

#[test]
fn keys_are_changed_on_the_way_by_either_side() -> Result<()> {
    let lab = Lab::permitting()?;
    echoes(&lab, &["-oRekeyLimit=1M"])?;
    let server = Sshd::start_with(&["RekeyLimit 1M"])?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &[])?;
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    echoes(&Lab::over(server, &target, all)?, &[])
}

#[test]
fn ciphers_and_compression_are_the_clients_choice() -> Result<()> {
    let lab = Lab::permitting()?;
    for more in [
        "-C",
        "-caes256-gcm@openssh.com",
        "-cchacha20-poly1305@openssh.com",
        "-caes128-ctr",
    ] {
        echoes(&lab, &[more])?;
    }
    Ok(())
}

#[test]
fn variables_pass_where_the_target_says_so_and_no_others() -> Result<()> {
    let server = Sshd::start_with(&["AcceptEnv *"])?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &["env: [TOLD, LC_*]"])?;
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    let lab = Lab::over(server, &target, all)?;
    let set = "-oSetEnv=TOLD=yes LC_X=too LD_PRELOAD=/tmp/x.so BASH_ENV=/tmp/x TOLDER=no";
    let run = lab.ssh(&[set, "env"])?.ok()?;
    has(&run, &["TOLD=yes\n", "LC_X=too\n"])?;
    crate::lab::lacks(&run, &["LD_PRELOAD", "BASH_ENV", "TOLDER"])
}

#[test]
fn a_client_that_asks_whether_the_other_side_lives_hears_that_it_does() -> Result<()> {
    let lab = Lab::permitting()?;
    let alive = ["-oServerAliveInterval=1", "-oServerAliveCountMax=1", "-v"];
    let mut words = alive.to_vec();
    // As long as it takes the client to ask twice.
    words.push("sleep 3; echo alive");
    let run = lab.ssh(&words)?;
    ensure!(run.stdout == "alive\n", "{run:?}");
    Ok(())
}

#[test]
fn a_client_that_does_not_read_for_a_while_stays_with_a_server_that_looks_for_life() -> Result<()> {
    // It ends whoever has said nothing in answer to two questions, a second apart.
    let server = Sshd::start_with(&["ClientAliveInterval 1", "ClientAliveCountMax 2"])?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &[])?;
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    let lab = Lab::over(server, &target, all)?;
    let port = lab.server.address().port().to_string();
    // As a pager does whose reader looks at the first page.
    let script = r#"ssh "$@" | (head -c 1000 > /dev/null; sleep 8; tail -c 5)"#;
    let mut words = vec!["-c".to_owned(), script.to_owned(), "sh".to_owned()];
    words.extend(lab.options());
    let command = "head -c 50000000 /dev/zero; echo done";
    words.extend(["-p", &port, "x@127.0.0.1", command].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = lab.agent().run("sh", &words)?;
    ensure!(run.stdout == "done\n", "{run:?} {}", lab.server.log());
    Ok(())
}

#[test]
fn a_command_hears_the_end_of_its_input_and_is_heard_after_it() -> Result<()> {
    let lab = Lab::permitting()?;
    let own = lab.own()?;
    let port = lab.server.address().port().to_string();
    let mut words: Vec<String> = ["-c", "printf 'b\\na\\n' | ssh \"$@\"", "sh"]
        .map(str::to_owned)
        .into();
    words.extend(lab.options());
    words.extend(["-p", &port, "x@127.0.0.1", "sort; echo; echo late"].map(str::to_owned));
    let line: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = lab.agent().run("sh", &line)?;
    ensure!(run.stdout == "a\nb\n\nlate\n", "{run:?}");
    // The other way: what has closed its output goes on reading.
    let file = lab.at("read");
    let command = format!("exec 1>&- 2>&-; cat > {file}");
    let at = words.len() - 1;
    words[at] = command;
    let line: Vec<&str> = words.iter().map(String::as_str).collect();
    lab.agent().run("sh", &line)?.ok()?;
    ensure!(fs::read_to_string(&file)? == "b\na\n");
    drop(own);
    Ok(())
}
