//! The server's own rights as the wall behind policy: what the login role can do too much, and a role that
//! can do no more than policy ever permits.

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, Daemon, Finished, Process};

use crate::lab::{Lab, has, lacks};

/// A verb that reads the daemon's own configuration, run as root outside of every scope.
pub(crate) fn verb(daemon: &Daemon, words: &[&str]) -> Result<Finished> {
    let mut command = std::process::Command::new(support::place::interceptor()?);
    let (verb, rest) = words.split_at(1);
    command
        .args(verb)
        .arg("--config")
        .arg(daemon.config())
        .args(rest);
    command.env_clear();
    Process::run(command, DEADLINE)
}

/// What doctor says of the target.
fn said(lab: &Lab) -> Result<String> {
    let stdout = verb(&lab.daemon, &["doctor"])?.stdout;
    let lines = stdout.lines().filter(|line| line.contains("target shop"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// What a role can do too much: how it comes to it, what is said of it, and how it is taken back.
const TOO_MUCH: [(&str, &[&str], &str); 12] = [
    (
        "alter table salaries owner to postgres; grant select on salaries to shop_app",
        &["public.salaries (SELECT)"],
        "alter table salaries owner to shop_app",
    ),
    (
        "alter role shop_app createrole",
        &["has CREATEROLE"],
        "alter role shop_app nocreaterole",
    ),
    (
        "alter role shop_app createdb",
        &["has CREATEDB"],
        "alter role shop_app nocreatedb",
    ),
    (
        "alter role shop_app replication",
        &["has REPLICATION"],
        "alter role shop_app noreplication",
    ),
    (
        "alter role shop_app bypassrls",
        &["row-level security does not bind it"],
        "alter role shop_app nobypassrls",
    ),
    (
        "grant pg_read_all_data to shop_app",
        &["is a member of pg_read_all_data"],
        "revoke pg_read_all_data from shop_app",
    ),
    (
        "grant pg_execute_server_program to shop_app",
        &["pg_execute_server_program"],
        "revoke pg_execute_server_program from shop_app",
    ),
    (
        "create role boss createrole; grant boss to shop_app",
        &["is a member of boss"],
        "drop role boss",
    ),
    (
        "create table kept (a int); grant insert (a), truncate on kept to shop_app",
        &["policy never permits: public.kept (TRUNCATE)"],
        "drop table kept",
    ),
    (
        "create schema pantry; grant create on schema pantry to shop_app",
        &["schema pantry"],
        "drop schema pantry",
    ),
    (
        "grant execute on function pg_read_file(text) to shop_app",
        &["pg_catalog.pg_read_file"],
        "revoke execute on function pg_read_file(text) from shop_app",
    ),
    (
        "create function peek() returns text security definer language sql as 'select 1::text'",
        &["only few may", "public.peek"],
        "drop function peek()",
    ),
];

#[test]
fn doctor_names_each_right_of_the_role_that_policy_never_permits() -> Result<()> {
    let lab = Lab::new()?;
    has(&said(&lab)?, &["owns in shop", "public.customers"])?;
    for (too_much, wanted, back) in TOO_MUCH {
        let before = said(&lab)?;
        lacks(&before, &wanted[..1]).map_err(|error| error.context(too_much))?;
        lab.server.admin(too_much)?;
        let after = said(&lab)?;
        has(&after, wanted).map_err(|error| error.context(too_much))?;
        lab.server.admin(back)?;
    }
    lab.server.admin("alter role shop_app superuser")?;
    let superuser = said(&lab)?;
    has(&superuser, &["is a superuser"])?;
    ensure!(
        superuser.lines().count() == 1,
        "it includes the others: {superuser}"
    );
    let json = verb(&lab.daemon, &["doctor", "--json"])?.stdout;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    has(
        &json.to_string(),
        &["discover shop --grants", "\"result\":\"warning\""],
    )
}

#[test]
fn doctor_names_what_masks_do_not_need_and_what_does_not_fit() -> Result<()> {
    let lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.more = [
                "sensitive:",
                "  public.customers.ssn: hide",
                "  public.customers.email: email",
                "  public.customers.id: last4",
                "  public.customers.gone: hide",
                "  public.nowhere.x: hide",
            ]
            .map(str::to_owned)
            .to_vec();
        }
    })?;
    let said = said(&lab)?;
    has(
        &said,
        &[
            "may read in shop what is masked for everybody and no mask needs:",
            "public.customers.ssn",
            "BAD",
            "sensitive.public.customers.id: last4 cannot stand in for id of type integer: use null, hide, constant, hash; public.customers is closed meanwhile",
            "sensitive.public.customers.gone: it has no column gone",
            "warning  target shop: database shop: sensitive.public.nowhere.x: there is no such relation",
        ],
    )?;
    lacks(&said, &["public.customers.email"])
}

#[test]
fn doctor_names_what_is_closed_for_the_order_of_its_rows() -> Result<()> {
    let lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.more = ["sensitive:", "  public.customers.ssn: hide"]
                .map(str::to_owned)
                .to_vec();
        }
    })?;
    let closed = "database shop: closed while columns are masked";
    lacks(&said(&lab)?, &[closed])?;
    lab.server.admin(
        "set role shop_app; create index on customers (name, ssn); \
         create view latest as select distinct on (name) name, id from customers order by name; \
         create view above as select id from latest; \
         create view listed as select name, id from customers order by name",
    )?;
    let said = said(&lab)?;
    let line = said.lines().find(|line| line.contains(closed));
    let line = line.context("nothing is said to be closed")?;
    has(line, &["public.above, public.latest"])?;
    lacks(line, &["public.listed"])
}

const ACCOUNTS: &str = r#"
set role shop_app;
create table accounts (id serial primary key, owner text not null, iban text, pin text, note text, born date,
    low text generated always as (lower(note)) stored);
insert into accounts (owner, iban, pin, note, born) values ('Ada', 'DE89370400440532013000', '4711', 'rich', '1815-12-10');
create schema kinds;
create type kinds.mood as enum ('fine');
alter table accounts add column mood kinds.mood default 'fine';
create view seen as select id, iban from accounts;
create table "odd""; drop table orders; -- \connect x :y" (id int);
create table U&"line\000a\001b[31mfeed" (id int);
create table strict (id int, secret text unique);
insert into strict values (1, 'alpha');
"#;

/// What policy permits, and what is seen of the answer.
const ANSWERED: [(&str, &str); 14] = [
    (
        "select id, owner, iban, note, born, low, mood from accounts",
        "1|Ada|****3000||||",
    ),
    ("select * from accounts", "1|Ada|****3000|||"),
    ("select * from seen", "1|****3000"),
    ("select count(*) from accounts", "1"),
    ("select id from strict", "1"),
    ("select count(distinct ssn) from customers", "3"),
    ("copy accounts to stdout", "****3000"),
    (
        "insert into accounts (owner) values ('Bob') returning id",
        "2",
    ),
    (
        "update accounts set owner = 'Eve' where id = 2 returning owner",
        "Eve",
    ),
    ("delete from accounts where id = 2 returning id", "2"),
    (
        "insert into orders values (104, 1, 'card', 1) returning id",
        "104",
    ),
    ("select count(*) from orders", "5"),
    (
        r#"select count(*) from "odd""; drop table orders; -- \connect x :y""#,
        "0",
    ),
    (r#"select count(*) from U&"line\000a\001b[31mfeed""#, "0"),
];

/// What policy never permits, or masking never lets through.
const REFUSED: [&str; 21] = [
    "select pin from accounts",
    "select note from accounts",
    "select * from accounts",
    "select secret from strict",
    "insert into strict (id) values (2)",
    "update accounts set iban = 'x'",
    "insert into accounts (pin) values ('x')",
    "select * from salaries",
    "update salaries set amount = 1",
    "truncate orders",
    "create table mine (a int)",
    "create temp table mine (a int)",
    "create schema mine",
    "create role mine",
    "drop table orders",
    "alter table orders add column a int",
    "grant select on salaries to public",
    "set role shop_app",
    "copy orders to '/tmp/orders'",
    "copy orders to program 'true'",
    "select pg_read_file('/etc/hostname')",
];

/// A daemon whose target has masks of every sort.
fn masked() -> Result<Lab> {
    let server = support::Postgres::start()?;
    server.admin(ACCOUNTS)?;
    Lab::over(server, |settings| {
        for target in &mut settings.targets {
            target.more.push(
                "sensitive: { public.accounts.iban: last4, public.accounts.pin: hide, public.accounts.mood: \"null\", public.accounts.note: \"null\", \
                 public.accounts.born: \"null\", public.strict.secret: hide, public.customers.ssn: hash }"
                    .to_owned(),
            );
        }
    })
}

/// Makes the role that is printed, and lets the target log in as it.
fn least(lab: &mut Lab) -> Result<String> {
    let script = verb(
        &lab.daemon,
        &["discover", "shop", "--grants", "--role", "least"],
    )?
    .ok()?;
    lab.server
        .script(&script)
        .map_err(|error| error.context(script.clone()))?;
    lab.server.admin("alter role least password 'least'")?;
    lab.daemon.change(|settings| {
        for target in &mut settings.targets {
            "least".clone_into(&mut target.user);
            target.password = Some("least".to_owned());
        }
    })?;
    lab.daemon.reload()?.ok()?;
    Ok(script)
}

#[test]
fn the_role_that_is_printed_answers_what_policy_permits_and_the_server_refuses_it_the_rest()
-> Result<()> {
    let mut lab = masked()?;
    let script = least(&mut lab)?;
    has(
        &script,
        &[
            "nothing on public.salaries: policy never permits it",
            r#"GRANT SELECT ("id", "owner", "iban") ON TABLE "public"."accounts" TO "least";"#,
            r#"GRANT USAGE ON SEQUENCE "public"."accounts_id_seq" TO "least";"#,
            r#"REVOKE TEMPORARY ON DATABASE "shop" FROM PUBLIC;"#,
            r#"-- REVOKE CONNECT ON DATABASE "postgres" FROM PUBLIC;"#,
        ],
    )?;
    lacks(&script, &["\u{1b}", "line\n"])?;
    // Through the daemon, as the role that can do no more.
    for (statement, wanted) in ANSWERED {
        let answer = lab.psql(&[statement])?.ok();
        let answer = answer.map_err(|error| error.context(statement))?;
        has(&answer, &[wanted]).map_err(|error| error.context(statement))?;
    }
    // Directly, as the same role: the server's own wall.
    let mut dsn = lab.dsn();
    "least".clone_into(&mut dsn.user);
    dsn.password = Some("least".to_owned());
    for statement in REFUSED {
        let direct = support::Agent::outside().psql(&dsn, &[statement])?;
        ensure!(!direct.status.success(), "the server let it: {statement}");
        let refused = ["permission denied", "must be owner", "must be superuser"];
        ensure!(
            refused.iter().any(|words| direct.stderr.contains(words)),
            "{statement}: {}",
            direct.stderr
        );
    }
    let said = said(&lab)?;
    has(&said, &["logged in to shop as least, an ordinary role"])
}

#[test]
fn a_column_that_may_be_revealed_to_somebody_is_granted_and_what_all_may_do_stays_narrow()
-> Result<()> {
    let mut lab = masked()?;
    lab.daemon.change(|settings| {
        let rule = "@id(\"reveal\") permit (principal == Agent::\"auditor\", action == Action::\"Reveal\", \
                    resource == Column::\"shop/shop/public.accounts.pin\");";
        settings.policies.push(("reveal.cedar".to_owned(), rule.to_owned()));
        settings.policies.retain(|(name, _)| name != "write.cedar");
    })?;
    std::fs::remove_file(lab.daemon.policies().join("write.cedar"))?;
    let script = verb(&lab.daemon, &["discover", "shop", "--grants"])?.ok()?;
    has(
        &script,
        &[
            "CREATE ROLE \"interceptor_shop\" LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE",
            r#"GRANT SELECT ("id", "owner", "iban", "pin") ON TABLE "public"."accounts""#,
        ],
    )?;
    lacks(
        &script,
        &[
            "GRANT INSERT",
            "GRANT UPDATE",
            "GRANT DELETE",
            "GRANT TRUNCATE",
            "SEQUENCE",
        ],
    )?;
    let json = verb(&lab.daemon, &["discover", "shop", "--grants", "--json"])?.ok()?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(json["role"] == "interceptor_shop", "{json}");
    ensure!(
        json["databases"][0]["statements"]
            .as_array()
            .is_some_and(|all| all.len() > 5),
        "{json}"
    );
    Ok(())
}
