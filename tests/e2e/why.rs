//! What `why` says of statements on masked tables is what a session does with them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Finished, Postgres, wait};

use crate::lab::{Lab, has, lacks, text};
use crate::roles::verb;

const REVEAL: &str = r#"
@id("names-are-shown")
permit (principal == Agent::"demo", action == Action::"Reveal", resource == Column::"shop/shop/public.customers.name");
"#;

fn lab() -> Result<Lab> {
    let server = Postgres::start_with(&["log_statement=all"])?;
    server.admin("create view names as select id, name, ssn as number from customers; alter view names owner to shop_app")?;
    Lab::over(server, |settings| {
        settings
            .policies
            .push(("reveal.cedar".to_owned(), REVEAL.to_owned()));
        for target in &mut settings.targets {
            target.statement = "full";
            target.more.push("sensitive: { public.customers.ssn: last4, public.customers.email: hide, public.customers.name: \"null\" }".to_owned());
        }
    })
}

fn why(lab: &Lab, more: &[&str], statement: &str) -> Result<Finished> {
    let uid = lab.agent().uid().to_string();
    let at = [
        "why",
        "--agent",
        "demo",
        "--user",
        &uid,
        "--target",
        "shop",
        "--database",
        "shop",
    ];
    let words = [&at, more, &["--", statement]].concat();
    verb(&lab.daemon, &words)
}

#[test]
fn why_shows_what_is_masked_by_what_what_is_revealed_by_which_rule_and_what_goes_upstream()
-> Result<()> {
    let lab = lab()?;
    let statement = "select id, name, ssn from customers where id = 1";
    let said = why(&lab, &[], statement)?.ok()?;
    has(
        &said,
        &[
            "permit  Select on Table::\"shop/shop/public.customers\"",
            "mask    public.customers.ssn by last4",
            "mask    public.customers.email by hide",
            "reveal  public.customers.name, which is masked for others by null",
            "permit names-are-shown",
            "reveal.cedar:",
            "goes upstream as",
            "\npermitted\n",
        ],
    )?;
    let json: Value = serde_json::from_str(&why(&lab, &["--json"], statement)?.ok()?)?;
    ensure!(json["masking"]["known"] == "whole", "{json}");
    ensure!(json["masking"]["revealed"][0]["column"] == "name", "{json}");
    ensure!(
        json["masking"]["revealed"][0]["access"]["rules"][0]["id"] == "names-are-shown",
        "{json}"
    );
    let rewritten = text(&json, "/masking/rewritten")?;
    ensure!(
        !lab.server.log().contains(rewritten),
        "it was run before it was asked"
    );
    lab.psql(&[statement])?.ok()?;
    // What a server has written is read a moment later.
    wait::for_fact(
        "the rewritten statement in the server's log",
        DEADLINE,
        || Ok(lab.server.log().contains(rewritten).then_some(())),
    )
    .with_context(|| format!("no {rewritten:?} in {}", lab.server.log()))?;
    let view = why(&lab, &[], "select * from names")?.ok()?;
    has(&view, &["mask    public.names.number by last4"])?;
    let plain = why(&lab, &[], "select * from orders")?.ok()?;
    lacks(&plain, &["mask", "upstream"])
}

#[test]
fn why_agrees_with_the_daemon_on_statements_that_masking_refuses() -> Result<()> {
    let lab = lab()?;
    let statements = [
        "select ssn from customers",
        "select email from customers",
        "update customers set ssn = 'x' where id = 1",
        "update customers set name = 'x' where id = 9",
        "insert into customers values (9, 'a', 'b', 'c')",
        "delete from customers where ssn like '0%'",
        "truncate customers",
        "select * from pg_stats",
        "select query_to_xml('select 1', true, true, '')",
        "select pg_catalog.upper(ssn) from customers",
        "select * from salaries",
        "select * from names",
        "copy customers to stdout",
    ];
    lab.psql(&statements)?;
    lab.daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    let (mut judged, mut by_masking) = (0, 0);
    for line in lab.daemon.audit().lines()? {
        let permitted = match text(&line, "/event")? {
            "request.permitted" => true,
            "request.refused" => false,
            _ => continue,
        };
        judged += 1;
        let answer = why(&lab, &["--json"], text(&line, "/statement")?)?;
        ensure!(
            answer.status.code() == Some(i32::from(!permitted)),
            "{}",
            answer.status
        );
        let answer: Value =
            serde_json::from_str(&answer.stdout).with_context(|| answer.stderr.clone())?;
        let rules = line.pointer("/refusal/rules");
        let agrees = answer.pointer("/explanation/permitted") == Some(&permitted.into())
            && answer.pointer("/explanation/refusal/rules") == rules
            && answer
                .pointer("/masking/masked")
                .filter(|all| *all != &Value::Array(Vec::new()))
                == line.pointer("/masked");
        ensure!(agrees, "why says {answer} of {line}");
        by_masking += usize::from(rules.is_some_and(|rules| rules.to_string().contains("mask of")));
    }
    ensure!(
        judged == statements.len() && by_masking >= 3,
        "{judged} judged, {by_masking} by masking"
    );
    // The same of the audit's own lines: what masking refused is not laid to the rules.
    let directory = lab.daemon.state().join("audit");
    let mut files = std::fs::read_dir(&directory)?
        .filter_map(Result::ok)
        .map(|file| file.path());
    let log = files.find(|file| file.extension().is_some_and(|end| end == "jsonl"));
    let log = log.context("an audit log")?;
    let recorded = verb(&lab.daemon, &["why", "--recorded", &log.to_string_lossy()])?.ok()?;
    has(
        &recorded,
        &[
            "mask    public.customers.ssn by last4",
            "not_permitted by mask of",
        ],
    )?;
    lacks(&recorded, &["decide otherwise"])
}

#[test]
fn why_says_when_the_catalog_could_not_be_read() -> Result<()> {
    let mut lab = lab()?;
    lab.server.stop();
    let finished = why(&lab, &[], "select ssn from customers")?;
    let said = finished.ok()?;
    has(
        &said,
        &[
            "the catalog could not be read",
            "not known what is masked",
            "permitted by the rules",
        ],
    )?;
    let json: Value = serde_json::from_str(&why(&lab, &["--json"], "select 1")?.ok()?)?;
    ensure!(
        json["masking"]["known"] == "unread" && json["masking"]["why"].is_string(),
        "{json}"
    );
    Ok(())
}

#[test]
fn an_agent_is_told_what_is_masked_of_the_tables_that_it_names_and_no_more() -> Result<()> {
    let lab = lab()?;
    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let (program, socket) = (program.to_string_lossy(), socket.to_string_lossy());
    let ask = |statement: &str| {
        let at = [
            "why",
            "--target",
            "shop",
            "--database",
            "shop",
            "--own",
            "--socket",
            &*socket,
            statement,
        ];
        lab.agent().as_uid(0).run(&program, &at)
    };
    let said = ask("select * from customers")?.ok()?;
    has(
        &said,
        &["mask    public.customers.ssn by last4", "permitted"],
    )?;
    lacks(&said, &["customers.name"])?;
    lacks(&ask("select 1 from orders")?.ok()?, &["mask"])?;
    lacks(&ask("drop table customers")?.stdout, &["ssn"])
}
