//! The server's own rights as the wall behind policy: what the login role can do too much, and a role that
//! can do no more than policy ever permits.

use anyhow::{Result, ensure};
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

#[test]
fn doctor_names_each_right_of_the_role_that_policy_never_permits() -> Result<()> {
    let lab = Lab::new()?;
    has(&said(&lab)?, &["owns in shop", "public.customers"])?;
    let rows: [(&str, &[&str], &str); 11] = [
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
    for (too_much, wanted, back) in rows {
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
