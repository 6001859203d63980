//! Two tables of one name in two schemas, one of them closed: whatever is done to the search path, in
//! whatever order, by whichever messages, the closed one's rows never come.

use anyhow::{Result, ensure};

use crate::lab::{Lab, has};

/// Walks at random, the same way for the same seed, through what moves the search path, and looks.
const WALK: &str = r#"
import random, select, socket, struct, sys, time
port, seed, rounds = map(int, sys.argv[1:4])
random.seed(seed)
LOOKS = ["select * from salaries", "table salaries", "select (select max(secret) from salaries)",
    "prepare q as select * from salaries", "execute q", "declare c cursor for select * from salaries",
    "declare h cursor with hold for table salaries", "fetch all from c", "fetch all from h",
    "explain analyze select * from salaries", "copy salaries to stdout", "with s as (table salaries) table s"]
MOVES = ["set search_path = other", "set search_path = public", "set search_path = other, public",
    "set local search_path = other", "set local search_path = public", "reset search_path", "reset all",
    "set search_path to default", "discard all", "discard plans", "discard temp",
    "select set_config('search_path', 'other', false)", "select set_config('search_path', 'other', true)",
    "select pg_catalog.set_config('search_path', 'public', false)", "set schema 'other'"]
BLOCKS = ["begin", "begin", "commit", "rollback", "commit and chain", "rollback and chain", "savepoint a",
    "savepoint a", "rollback to a", "rollback to a", "release a", "abort", "end", "start transaction read only",
    "select 1/0", "insert into twice values (1), (1)", "syntax error", "select 1", "", "deallocate q",
    "deallocate all", "close c", "close all", "prepare transaction 'x'", "set constraints all deferred",
    "vacuum twice", "set client_encoding = 'LATIN1'", "set standard_conforming_strings = off",
    "prepare m as set search_path = other", "prepare q as select 1", "explain execute q",
    "create temp table t as execute q", "execute q; select 1/0"]
def text():
    kind = random.random()
    one = random.choice(LOOKS if kind < 0.4 else MOVES if kind < 0.7 else BLOCKS)
    return one + "; " + text() if random.random() < 0.15 else one
def message(tag, body):
    return tag + struct.pack("!i", len(body) + 4) + body
def parse(name, sql):
    return message(b"P", name + b"\0" + sql.encode() + b"\0\0\0")
def bind(portal, name):
    return message(b"B", portal + b"\0" + name + b"\0" + b"\0\0" * 3)
def execute(portal, rows=0):
    return message(b"E", portal + b"\0" + struct.pack("!i", rows))
SYNC, FLUSH = message(b"S", b""), message(b"H", b"")
NAMES, PORTALS = [b"", b"s", b"q", b"m"], [b"", b"p", b"c", b"h"]
def step():
    if random.random() < 0.5:
        return [("Q", message(b"Q", text().encode() + b"\0"))]
    batch = []
    for _ in range(random.randint(1, 4)):
        kind = random.random()
        name, portal = random.choice(NAMES), random.choice(PORTALS)
        if kind < 0.5:
            batch += [parse(b"", text()), bind(b"", b""), execute(b"")]
        elif kind < 0.65:
            batch.append(parse(name, text()))
        elif kind < 0.8:
            batch += [bind(portal, name), execute(portal, random.choice([0, 1]))]
        elif kind < 0.86:
            batch.append(execute(portal))
        elif kind < 0.9:
            batch.append(message(b"D", random.choice([b"S", b"P"]) + name + b"\0"))
        elif kind < 0.94:
            batch.append(message(b"C", random.choice([b"S", b"P"]) + name + b"\0"))
        elif kind < 0.97:
            batch.append(FLUSH)
        else:
            batch.append(message(b"Q", text().encode() + b"\0"))
    if random.random() < 0.9:
        batch.append(SYNC)
    return [("batch", b"".join(batch))]
fine = 0
for round in range(rounds):
    body = struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0"
    s = socket.create_connection(("127.0.0.1", port)); s.settimeout(20)
    s.sendall(struct.pack("!i", len(body) + 4) + body)
    sent, heard = [], b""
    def hear(quiet):
        global heard
        while select.select([s], [], [], quiet)[0]:
            chunk = s.recv(65536)
            if not chunk:
                return False
            heard += chunk
        return True
    def ready():
        return heard.count(b"Z\0\0\0\x05")
    while ready() < 1:
        if not hear(0.01) and ready() < 1:
            break
    wanted = 1
    for _ in range(random.randint(3, 12)):
        for _, bytes in step():
            wanted += bytes.count(SYNC) + (bytes[:1] == b"Q")
            sent.append(bytes)
            try:
                s.sendall(bytes)
            except OSError:
                break
        if random.random() < 0.6:
            until = time.monotonic() + 0.05
            while ready() < wanted and time.monotonic() < until and hear(0.002):
                pass
    try:
        s.sendall(SYNC)
        wanted += 1
        until = time.monotonic() + 2
        while ready() < wanted and time.monotonic() < until and hear(0.01):
            pass
        hear(0.01)
    except OSError:
        pass
    s.close()
    fine += heard.count(b"-fine-")
    if b"-closed-" in heard:
        print("LEAK in round", round, *sent, sep="\n    ")
        break
print("fine", fine)
"#;

const TABLES: &str = "
    create schema other;
    create table public.twice (n int unique deferrable initially deferred);
    drop table public.salaries;
    create table public.salaries (secret text);
    create table other.salaries (secret text);
    grant usage on schema other to public;
    grant all on all tables in schema other to public;
    grant all on all tables in schema public to public;
";

/// Everything but what makes the question moot: code, definitions, and what cannot be read.
fn policy(closed: &str) -> String {
    format!(
        r#"
@id("all") permit (principal is Agent, action, resource);
@id("closed") forbid (principal, action, resource in Table::"shop/shop/{closed}.salaries");
@id("unread") forbid (principal, action == Action::"Unreadable", resource);
@id("code") forbid (principal, action in [Action::"Do", Action::"FastPath", Action::"Grant"], resource);
@id("definitions") forbid (principal, action == Action::"Ddl", resource)
    unless {{ resource is Table && resource.schema == "pg_temp" }};
@id("calls") forbid (principal, action == Action::"Call", resource is Function)
    unless {{ resource.name == "set_config" }};
"#
    )
}

fn walk(closed: &str, open: &str, seed: u32, rounds: u32) -> Result<()> {
    let lab = Lab::with(|settings| {
        settings.policies = vec![("paths.cedar".to_owned(), policy(closed))];
    })?;
    lab.server.admin(TABLES)?;
    lab.server.admin(&format!(
        "insert into {closed}.salaries values ('-closed-'); insert into {open}.salaries values ('-fine-')"
    ))?;
    let port = lab.server.address().port();
    let numbers = [port.to_string(), seed.to_string(), rounds.to_string()];
    let words = ["-c", WALK, &numbers[0], &numbers[1], &numbers[2]];
    let output = lab.agent().run("/usr/bin/python3", &words)?.ok()?;
    ensure!(!output.contains("LEAK"), "{output}");
    has(&output, &["fine "])?;
    ensure!(
        !output.contains("fine 0"),
        "the walk has seen nothing: {output}"
    );
    Ok(())
}

#[test]
fn no_walk_leads_to_the_closed_table_on_the_path() -> Result<()> {
    walk("public", "other", 1, 100)
}

#[test]
fn no_walk_leads_to_the_closed_table_off_the_path() -> Result<()> {
    walk("other", "public", 2, 100)
}
