//! psql's own commands, as an analyst types them, under the packs as they are shipped.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use support::{DEADLINE, place};

use crate::lab::{Lab, has, lacks};

/// Things of every kind that psql lists.
const EXTRA: &str = "
set role shop_app;
create type mood as enum ('sad', 'ok', 'happy');
create domain email as text check (value like '%@%');
create view happy as select name from customers;
create materialized view counted as select count(*) from orders;
create function add(a int, b int) returns int language sql immutable as 'select a + b';
create sequence tickets;
create index by_item on orders (item);
create schema sales;
create table sales.leads (id int primary key generated always as identity, who email);
create table parts (id int) partition by range (id);
create table part_one partition of parts for values from (0) to (10);
create table public.child () inherits (customers);
create statistics spread on customer_id, item from orders;
comment on table orders is 'what was ordered';
grant select on orders to public;
";

fn lab(pack: &str) -> Result<Lab> {
    let rules = place::pack(pack)?;
    let lab = Lab::with(|settings| settings.policies = rules)?;
    lab.server.admin(EXTRA)?;
    Ok(lab)
}

/// What psql prints, on both outputs, when it is told `script` on its standard input.
fn told(lab: &Lab, script: &str) -> Result<(String, String)> {
    let program = place::postgres_programs()?.join("psql");
    let conninfo = lab.dsn().conninfo();
    let words = ["-X", "-A", "-w", "-n", "-d", &conninfo];
    let mut psql = lab.agent().start(&program.to_string_lossy(), &words)?;
    psql.send(script)?;
    psql.send("\n")?;
    psql.close_input();
    let finished = psql.finish(DEADLINE)?;
    Ok((finished.stdout, finished.stderr))
}

/// A command and a word of its answer.
const ANSWERED: &[(&str, &str)] = &[
    (r"\d", "orders"),
    (r"\d+", "what was ordered"),
    (r"\d orders", "orders_pkey"),
    (r"\d+ orders", "spread"),
    (r"\d+ happy", "customers"),
    (r"\d orders_pkey", "btree"),
    (r"\d tickets", "bigint"),
    (r"\d+ parts", "part_one"),
    (r"\d+ child", "Inherits"),
    (r"\d sales.*", "leads"),
    (r"\dt", "customers"),
    (r"\dt+", "what was ordered"),
    (r"\dtS", "pg_class"),
    (r"\dt *.*", "information_schema"),
    (r"\dv+", "happy"),
    (r"\dm+", "counted"),
    (r"\di+", "by_item"),
    (r"\ds+", "tickets"),
    (r"\dP+", "parts"),
    (r"\dX", "spread"),
    (r"\df", "add"),
    (r"\df+", "select a + b"),
    (r"\df pg_catalog.now", "timestamp with time zone"),
    (r"\da", "List of aggregate"),
    (r"\da sum", "sum"),
    (r"\do", "List of operators"),
    (r"\dn", "sales"),
    (r"\dn+", "sales"),
    (r"\du", "shop_app"),
    (r"\du+", "shop_app"),
    (r"\dg", "shop_app"),
    (r"\l", "shop"),
    (r"\l+", "shop"),
    (r"\dT", "mood"),
    (r"\dT+", "happy"),
    (r"\dD", "email"),
    (r"\dC", "bigint"),
    (r"\dc", "List of conversions"),
    (r"\dO", "List of collations"),
    (r"\dp", "shop_app=arwdDxt"),
    (r"\z orders", "shop_app=arwdDxt"),
    (r"\ddp", "Default access privileges"),
    (r"\dd", "Object descriptions"),
    (r"\dL", "plpgsql"),
    (r"\dx", "plpgsql"),
    (r"\dx+ plpgsql", "plpgsql_call_handler"),
    (r"\dy", "List of event triggers"),
    (r"\db", "pg_default"),
    (r"\dA", "btree"),
    (r"\dAc", "btree"),
    (r"\dAf", "btree"),
    (r"\dAo btree text_ops", "text_ops"),
    (r"\dAp btree text_ops", "text_ops"),
    (r"\dF", "english"),
    (r"\dFd", "simple"),
    (r"\dFp", "default"),
    (r"\dFt", "simple"),
    (r"\dRp", "List of publications"),
    (r"\dew", "List of foreign-data wrappers"),
    (r"\dconfig work_mem", "work_mem"),
    (r"\sf add", "select a + b"),
    (r"\sv happy", "customers"),
    (r"\lo_list", "Large objects"),
    (r"\encoding", "UTF8"),
    (r"\conninfo", "shop"),
    (
        r"\x \\ select name from customers where id = 1; \x",
        "name|Ada Lovelace",
    ),
    (r"\x auto \x off", "used automatically"),
    (r"\timing \\ select 'timed'; \timing", "Time:"),
    (r"\copy customers to stdout", "Ada Lovelace"),
    (
        r"\copy (select name from customers order by id) to stdout with csv header",
        "name\nAda Lovelace",
    ),
    (
        r"select id, name from customers \gdesc",
        "id|integer\nname|text",
    ),
    (
        r"select name from customers where id = 1 \gx",
        "name|Ada Lovelace",
    ),
    (
        r"select name as who from customers where id = 1 \gset \\ \echo is :who",
        "is Ada Lovelace",
    ),
    (r"select 'select ' || quote_literal('run') \gexec", "run"),
    (
        r"select customer_id, item, amount from orders \crosstabview",
        "moth tweezers",
    ),
    (
        r"select name from customers order by id \g | head -2",
        "Ada Lovelace",
    ),
    (r"\c shop anybody \\ select 'again';", "again"),
    (
        r"\set FETCH_COUNT 2 \\ select name from customers order by id; \unset FETCH_COUNT",
        "Alan Turing",
    ),
    (
        r"\set AUTOCOMMIT off \\ select name from customers where id = 1; rollback; \set AUTOCOMMIT on",
        "ROLLBACK",
    ),
    (
        r"\set ON_ERROR_ROLLBACK on \\ begin; select name from customers where id = 1; commit;",
        "COMMIT",
    ),
];

/// A command, and the rule that keeps its answer: passwords of other servers, other sessions' and roles'
/// settings, the server's files, and what writes.
const REFUSED: &[(&str, &str)] = &[
    (r"\des", "catalog-secrets"),
    (r"\det", "catalog-secrets"),
    (r"\deu", "catalog-secrets"),
    (r"\dRs", "catalog-secrets"),
    (r"\drds", "catalog-secrets"),
    (r"\lo_export 1 /dev/null", "never-statements"),
    (r"\copy customers from /dev/null", "is not permitted"),
    ("\\password\nsecret\nsecret", "no-ddl"),
];

#[test]
fn what_an_analyst_asks_psql_is_answered_under_every_pack() -> Result<()> {
    for pack in ["starter", "read-write"] {
        let lab = lab(pack)?;
        let mut script = String::new();
        for (number, (command, _)) in ANSWERED.iter().enumerate() {
            script += &format!("\\echo @{number}@\n\\warn @{number}@\n{command}\n");
        }
        let (output, errors) = told(&lab, &script)?;
        // From its own number to the next.
        let of = |text: &str, number: usize| {
            let text = text.split(&format!("@{number}@\n")).nth(1);
            let next = format!("@{}@\n", number + 1);
            let text = text.and_then(|text| text.split(&next).next());
            text.unwrap_or("nothing: psql has ended").to_owned()
        };
        let mut others = String::new();
        for (number, (command, word)) in ANSWERED.iter().enumerate() {
            let (output, errors) = (of(&output, number), of(&errors, number));
            if !errors.is_empty() || !output.contains(word) {
                others += &format!("\n== {command}: no {word:?} in\n{output}{errors}");
            }
        }
        ensure!(others.is_empty(), "{pack}:{others}");
    }
    Ok(())
}

#[test]
fn what_psql_is_not_to_show_is_refused_with_its_rule() -> Result<()> {
    let lab = lab("starter")?;
    for (command, rule) in REFUSED {
        let (output, errors) = told(&lab, command)?;
        has(&errors, &["ERROR", rule, "HINT"])
            .with_context(|| format!("{command} said\n{output}"))?;
        let (output, errors) = told(&lab, &format!("{command}\nselect 'on it goes';"))?;
        has(&output, &["on it goes"]).with_context(|| format!("after {command}:\n{errors}"))?;
    }
    Ok(())
}

#[test]
fn a_file_is_copied_out_by_the_client_and_in_where_agents_may_write() -> Result<()> {
    let directory = place::temporary("copy")?;
    let file = directory.path().join("customers.csv");
    std::fs::write(&file, "")?;
    std::os::unix::fs::chown(&file, Some(place::agent_uid()), None)?;
    let lab = lab("read-write")?;
    let out = format!(
        r"\copy (select 900, 1, 'copied', 1.5) to '{}' csv",
        file.display()
    );
    let (output, errors) = told(&lab, &out)?;
    has(&output, &["COPY 1"]).with_context(|| errors)?;
    has(&std::fs::read_to_string(&file)?, &["900,1,copied,1.5"])?;
    let into = format!(r"\copy orders from '{}' csv", file.display());
    let (output, errors) = told(&lab, &into)?;
    has(&output, &["COPY 1"]).with_context(|| errors)?;
    has(
        &lab.server.admin("select item from orders where id = 900")?,
        &["copied"],
    )
}

#[test]
fn watch_asks_again_until_it_is_stopped() -> Result<()> {
    let lab = lab("starter")?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'tick ' || count(*) from customers \\watch 0.1\n")?;
    support::wait::for_fact("three ticks", DEADLINE, || {
        Ok((psql.log().matches("tick 3").count() >= 3).then_some(()))
    })?;
    psql.signal(Signal::SIGINT);
    psql.send("select 'on it ' || 'goes';\n")?;
    psql.close_input();
    let finished = psql.finish(DEADLINE)?;
    has(&finished.stdout, &["on it goes"])?;
    lacks(&finished.stderr, &["ERROR"])
}

#[test]
fn a_refusal_looks_in_psql_as_the_servers_own_errors_do() -> Result<()> {
    let lab = lab("starter")?;
    let script = "\\set VERBOSITY verbose\nselect 1;\ndelete from customers;\n\\errverbose\n\
                  \\echo :SQLSTATE :LAST_ERROR_SQLSTATE\n";
    let (output, errors) = told(&lab, script)?;
    has(
        &errors,
        &[
            "ERROR:  42501",
            "DETAIL:  rule require-where",
            "HINT:  add a WHERE clause",
        ],
    )?;
    has(&output, &["42501 42501"])
}
