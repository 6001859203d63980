//! Masked columns, from configuration and policy to what an agent reads and what the audit says.

use anyhow::{Context as _, Result, ensure};
use support::DEADLINE;

use crate::lab::{Lab, has, lacks, refused};

const SENSITIVE: &str = "sensitive: { public.customers.ssn: last4, public.customers.email: pii }";
const TAGS: &str = "tags: { pii: { mask: constant, text: hidden } }";

/// Whoever asks may see every sensitive column.
const REVEAL: &str = r#"
@id("reveal")
permit (principal is Agent, action == Action::"Reveal", resource in Table::"shop/shop/public.customers");
"#;

fn lab() -> Result<Lab> {
    Lab::with(|settings| {
        for target in &mut settings.targets {
            target.more.extend([TAGS.to_owned(), SENSITIVE.to_owned()]);
        }
    })
}

#[test]
fn what_is_sensitive_is_masked_and_the_audit_says_by_what() -> Result<()> {
    let lab = lab()?;
    let finished = lab
        .psql(&["select name, email, ssn from customers order by id"])?
        .ok()?;
    has(&finished, &["Ada Lovelace", "hidden", "1120"])?;
    lacks(&finished, &["078", "ada@example.com"])?;
    let line = lab
        .daemon
        .audit()
        .wait_for("request.permitted", DEADLINE, |line| {
            line.pointer("/masked").is_some()
        })?;
    let masked = line.pointer("/masked").context("masked")?.to_string();
    has(
        &masked,
        &[
            r#""schema":"public""#,
            r#""relation":"customers""#,
            r#""column":"ssn""#,
            r#""by":"last4""#,
            r#""by":"constant""#,
        ],
    )
}

#[test]
fn a_permit_of_reveal_counts_for_the_next_statement_and_so_does_its_end() -> Result<()> {
    let mut lab = lab()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    let show = "select 'is ' || ssn from customers where id = 1;\n";
    psql.send(show)?;
    psql.await_text("1120", DEADLINE)?;
    lab.daemon.change(|settings| {
        let reveal = ("reveal.cedar".to_owned(), REVEAL.to_owned());
        settings.policies.push(reveal);
    })?;
    lab.daemon.reload()?.ok()?;
    psql.send(show)?;
    psql.await_text("is 078-05-1120", DEADLINE)?;
    lab.daemon.change(|settings| {
        let withdrawn = ("reveal.cedar".to_owned(), String::new());
        settings.policies.push(withdrawn);
    })?;
    lab.daemon.reload()?.ok()?;
    psql.send("select 'after';\n")?;
    psql.send(show)?;
    psql.close_input();
    let finished = psql.finish(DEADLINE)?;
    let after = finished.stdout.split("after").nth(1).context("an answer")?;
    has(after, &["1120"])?;
    lacks(after, &["078"])
}

/// What a session reads of the first customer's number.
fn hash(lab: &Lab) -> Result<String> {
    let finished = lab.psql(&["-At", "select ssn from customers where id = 1"])?;
    let hash = finished.ok()?.trim().to_owned();
    lacks(&hash, &["078", "1120"])?;
    ensure!(hash.len() > 8, "no hash: {hash:?}");
    Ok(hash)
}

#[test]
fn a_hash_can_be_joined_within_a_session_or_a_target_as_it_says() -> Result<()> {
    for (joinable, same) in [("session", false), ("target", true)] {
        let lab = Lab::with(|settings| {
            for target in &mut settings.targets {
                let mask = format!("{{ mask: hash, joinable: {joinable} }}");
                target
                    .more
                    .push(format!("sensitive: {{ public.customers.ssn: {mask} }}"));
            }
        })?;
        ensure!((hash(&lab)? == hash(&lab)?) == same, "{joinable}");
    }
    Ok(())
}

#[test]
fn words_of_the_server_about_masked_rows_are_withheld_and_about_others_are_not() -> Result<()> {
    let lab = lab()?;
    let error = refused(lab.psql(&["select ssn::int from customers"])?)?;
    has(&error, &["invalid text representation", "withheld"])?;
    lacks(&error, &["078", "1120"])?;
    let error = refused(lab.psql(&["select item::int from orders"])?)?;
    has(&error, &["invalid input syntax"])?;
    lacks(&error, &["withheld"])
}

#[test]
fn a_mistake_in_sensitive_is_said_at_reload() -> Result<()> {
    let mut lab = lab()?;
    lab.daemon.change(|settings| {
        for target in &mut settings.targets {
            target.more = vec!["sensitive: { customers.ssn: last5 }".to_owned()];
        }
    })?;
    let finished = lab.daemon.reload()?;
    ensure!(!finished.status.success(), "it was taken");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    has(&said, &["schema.table.column", "sensitive"])
}

#[test]
fn a_client_brings_no_setting_by_which_masked_rows_come_in_their_order() -> Result<()> {
    let lab = Lab::with(|settings| {
        settings.policies = support::place::pack("allow-all").unwrap_or_default();
        for target in &mut settings.targets {
            target.more.extend([TAGS.to_owned(), SENSITIVE.to_owned()]);
        }
    })?;
    let brings = |options: &str| {
        let agent = lab.agent().with("PGOPTIONS", options);
        agent.psql(&lab.dsn(), &["select 'in'"])
    };
    has(&brings("-c work_mem=8MB")?.ok()?, &["in"])?;
    for options in ["-c Enable_SeqScan=off", "-c random_page_cost=0"] {
        let error = refused(brings(options)?)?;
        has(&error, &["may have rows come in the order"])?;
    }
    Ok(())
}
