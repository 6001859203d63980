//! Finding what is sensitive and not configured: what is proposed can be pasted, and tells no value.

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, Postgres};

use crate::lab::{Lab, has, lacks};
use crate::roles::verb;

/// Values that must be printed nowhere, each in a table below.
const VALUES: [&str; 7] = [
    "078-05-1120",
    "ada@",
    "4111111111111111",
    "DE89370400440532013000",
    "hunter2",
    "ghp_",
    "1815-12-10",
];

const SCHEMA: &str = r#"
set role shop_app;
create schema hr;
create table hr.people (
    id int primary key, geburtsdatum date, "eMail Adresse" text, konto text, passwort text, verified_email boolean,
    notes text, doc jsonb, born timestamptz, steuernummer bigint
);
insert into hr.people select n, '1815-12-10', 'ada@example.com', 'DE89370400440532013000', 'hunter2', true,
    case n % 50 when 0 then 'write to ada@example.com' else 'nothing' end,
    '{"token": "ghp_0123456789abcdefghijklmnopqrstuvwxyzABCD"}', now(), 86095742719
    from generate_series(1, 300) as n;
create view hr.contacts as select id, "eMail Adresse" as contact, id + 1 as next from hr.people;
create materialized view hr.kept as select id, passwort as p from hr.people;
create table hr.log (id int, x text) partition by range (id);
create table hr.log_1 partition of hr.log for values from (0) to (100000);
insert into hr.log select n, '4111111111111111' from generate_series(1, 20000) as n;
create table hr.card (card text);
insert into hr.card select 'ace of spades' from generate_series(1, 100);
create table hr.uses (iban text);
create table hr.U&"x\000a: ""y" (U&"e\000amail" text);
insert into hr.U&"x\000a: ""y" values ('ada@example.com');
create table hr.mails (email text primary key, low_email text generated always as (lower(email)) stored);
create table hr.sent (email text references hr.mails);
reset role;
create table hr.closed (token text);
insert into hr.closed values ('hunter2');
analyze;
"#;

/// What is said of it, whatever else is.
const SAID: &[&str] = &[
    "public.customers.ssn is configured already (last4)",
    "public.customers.email: { mask: email }",
    "its name says email; 3 of 3 values hold email",
    "hr.people.geburtsdatum: { mask: year }",
    "its name says birth; its values were not looked at",
    "hr.people.born: { mask: year }",
    r#""hr.people.\"eMail Adresse\"": { mask: email }"#,
    "hr.people.konto: { mask: last4 }",
    "200 of 200 values hold iban",
    "hr.people.passwort: { mask: hide }",
    "hr.people.doc: { mask: hide }",
    "200 of 200 values hold github_token",
    "hr.people.steuernummer: { mask: hash }",
    "hr.log.x: { mask: last4 }",
    "200 of 200 values hold card",
    "hr.uses.iban: { mask: last4 }",
    "its name says account; it holds no values",
    "hr.mails.email: { mask: email }",
    "hr.mails.low_email of a table inherits its mask (null)",
    "hr.sent.email of a table inherits its mask (email)",
    "hr.contacts.contact of a view inherits its mask (email)",
    "hr.kept.p of a materialized view inherits its mask (hide)",
    "hr.log_1.x of a partition or child inherits its mask (last4)",
    "hr.people.notes is not proposed: 4 of 200 values hold email",
    "hr.card.card is not proposed: its name says card; none of 100 values says so",
    "hr.closed was told by its names alone: the login role cannot read all of it",
    "hr.closed.token: { mask: hide }",
];

fn lab() -> Result<Lab> {
    let server = Postgres::start()?;
    server.admin(&format!("begin; {SCHEMA} commit"))?;
    Lab::over(server, |settings| {
        for target in &mut settings.targets {
            target
                .more
                .push("sensitive: { public.customers.ssn: last4 }".to_owned());
        }
    })
}

/// The lines of a proposal as the settings of a test have them.
fn pasted(fragment: &str) -> Vec<String> {
    let lines = fragment.lines().filter(|line| line.starts_with("      "));
    lines
        .map(|line| line.trim_start_matches("    ").to_owned())
        .collect()
}

#[test]
fn what_looks_sensitive_is_proposed_with_its_reason_and_no_value_is_told() -> Result<()> {
    let lab = lab()?;
    let finished = verb(&lab.daemon, &["discover", "shop"])?;
    let said = finished.ok()?;
    has(&said, SAID).map_err(|error| error.context(said.clone()))?;
    lacks(&said, &VALUES)?;
    lacks(
        &said,
        &[
            "verified_email",
            "hr.contacts.next",
            "hr.log_1.x:",
            "hr.kept.p:",
            "hr.sent.email:",
            "hr.mails.low_email:",
        ],
    )?;
    let json = verb(
        &lab.daemon,
        &[
            "discover",
            "shop",
            "--json",
            "--database",
            "shop",
            "--rows",
            "10",
        ],
    )?
    .ok()?;
    lacks(&json, &VALUES)?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    let proposals = json
        .pointer("/0/proposals")
        .and_then(serde_json::Value::as_array);
    let konto = proposals
        .context("proposals")?
        .iter()
        .find(|one| one["key"] == "hr.people.konto");
    let konto = konto.context("hr.people.konto")?;
    ensure!(
        konto["evidence"]["values"] == 10 && konto["evidence"]["found"]["iban"] == 10,
        "{konto}"
    );
    let read = lab.daemon.audit().wait_for("control", DEADLINE, |line| {
        line.pointer("/detail/what")
            .is_some_and(|what| what == "samples")
    })?;
    has(&read.to_string(), &[r#""verb":"read""#, "shop: shop"])
}

#[test]
fn what_is_proposed_can_be_pasted_and_masks_and_is_proposed_once() -> Result<()> {
    let mut lab = lab()?;
    let said = verb(&lab.daemon, &["discover", "shop"])?.ok()?;
    let lines = pasted(&said);
    ensure!(
        lines
            .iter()
            .filter(|line| !line.trim().starts_with('#'))
            .count()
            == 13,
        "{said}"
    );
    lab.daemon.change(|settings| {
        for target in &mut settings.targets {
            target.more = vec![
                "sensitive:".to_owned(),
                "  public.customers.ssn: last4".to_owned(),
            ];
            target.more.extend(lines.clone());
        }
    })?;
    lab.daemon.reload()?.ok()?;
    let row = lab
        .psql(&["select email, ssn from customers where id = 1"])?
        .ok()?;
    has(&row, &["a***@example.com|****1120"])?;
    let row = lab
        .psql(&[r#"select "eMail Adresse", konto, geburtsdatum from hr.people where id = 1"#])?
        .ok()?;
    has(&row, &["a***@example.com|****3000|1815-01-01"])?;
    let row = lab.psql(&["select * from hr.\"x\n: \"\"y\""])?.ok()?;
    has(&row, &["a***@example.com"])?;
    let again = verb(&lab.daemon, &["discover", "shop"])?.ok()?;
    has(
        &again,
        &[
            "0 columns proposed",
            "hr.people.konto is configured already (last4)",
        ],
    )
}

#[test]
fn what_cannot_be_done_says_what_where_and_what_to_do() -> Result<()> {
    let lab = Lab::new()?;
    let rows: [(&[&str], &[&str]); 4] = [
        (
            &["discover", "shp"],
            &["no target is named shp", "it has shop"],
        ),
        (
            &["discover", "shop", "--database", "postgres"],
            &[
                "database postgres is not offered by target shop",
                "it has shop",
            ],
        ),
        (&["discover", "shop", "--role", "x"], &["--grants"]),
        (&["discover", "shop", "--rows", "0"], &["--rows"]),
    ];
    for (words, wanted) in rows {
        let finished = verb(&lab.daemon, words)?;
        ensure!(
            finished.status.code() == Some(2),
            "{words:?}: {}",
            finished.status
        );
        has(&finished.stderr, wanted)?;
    }
    lab.server.admin("alter role shop_app nologin")?;
    let finished = verb(&lab.daemon, &["discover", "shop"])?;
    ensure!(finished.status.code() == Some(2), "{}", finished.status);
    has(
        &finished.stderr,
        &[
            "target shop, database shop",
            "cannot log in",
            "interceptor doctor",
        ],
    )
}

#[test]
fn of_several_databases_each_column_is_named_with_its_own() -> Result<()> {
    let server = Postgres::start()?;
    server.admin("create database archive owner shop_app")?;
    server.script(
        "\\connect archive\nset role shop_app; create table public.old (id int, iban text);",
    )?;
    let mut lab = Lab::over(server, |settings| {
        for target in &mut settings.targets {
            target.databases.push("archive".to_owned());
        }
    })?;
    let said = verb(&lab.daemon, &["discover", "shop"])?.ok()?;
    has(
        &said,
        &[
            "shop/public.customers.email: { mask: email }",
            "archive/public.old.iban: { mask: last4 }",
            "\n    sensitive:\n",
        ],
    )?;
    let lines = said.lines().filter(|line| line.starts_with("    "));
    let lines: Vec<_> = lines.map(|line| line.replacen("    ", "", 1)).collect();
    lab.daemon.change(|settings| {
        for target in &mut settings.targets {
            target.more.clone_from(&lines);
        }
    })?;
    lab.daemon.reload()?.ok()?;
    let one = verb(&lab.daemon, &["discover", "shop", "--database", "archive"])?.ok()?;
    has(
        &one,
        &["0 columns proposed, 1 configured already, in archive"],
    )?;
    let script = verb(&lab.daemon, &["discover", "shop", "--grants"])?.ok()?;
    has(
        &script,
        &[
            "\\connect \"shop\"",
            "\\connect \"archive\"",
            "GRANT CONNECT ON DATABASE \"archive\"",
        ],
    )?;
    lab.server.script(&script).map(drop)
}

#[test]
fn nobody_inside_a_scope_looks_at_values_and_who_tried_is_written() -> Result<()> {
    let lab = Lab::new()?;
    let program = support::place::interceptor()?;
    let config = lab.daemon.config();
    let words = ["discover", "shop", "--config", &*config.to_string_lossy()];
    let tried = lab
        .agent()
        .as_uid(0)
        .run(&program.to_string_lossy(), &words)?;
    ensure!(tried.status.code() == Some(2), "{}", tried.status);
    has(
        &tried.stderr,
        &["the control socket does not answer agents"],
    )?;
    lacks(&tried.stdout, &["public."])?;
    lab.daemon
        .audit()
        .wait_for("kernel.denied", DEADLINE, |line| {
            let door = line["denied"]["door"].as_str().unwrap_or_default();
            door.ends_with("control.sock")
        })
        .map(drop)
}
