"""What psycopg 3 does, on libpq's extended protocol. Each step that is right is named on a line."""

import datetime
import decimal
import threading
import uuid

import psycopg

connection = psycopg.connect("", autocommit=True)
bystander = psycopg.connect("", autocommit=True)
print("encrypted" if connection.pgconn.ssl_in_use else "clear")


def step(name, good):
    if not good:
        raise SystemExit(f"{name} went wrong")
    print(name)


def fails(state, run):
    try:
        run()
    except psycopg.Error as error:
        if error.sqlstate != state:
            raise SystemExit(f"{error.sqlstate} in place of {state}: {error}")
        return error
    raise SystemExit(f"{state} did not come")


def one(statement, *parameters, **how):
    return connection.execute(statement, parameters or None, **how).fetchone()


def many():
    cursor = connection.execute("select 1; select 2; select 3")
    rows = [cursor.fetchall()]
    while cursor.nextset():
        rows.append(cursor.fetchall())
    return rows


step("simple", one("select 'plain'") == ("plain",) and many() == [[(1,)], [(2,)], [(3,)]])
step("parameter", one("select name from customers where id = %s", 1) == ("Ada Lovelace",))

names = [one("select name from customers where id = %s", number, prepare=True) for number in (1, 2, 1)]
known = one("select count(*) from pg_prepared_statements")[0]
step("prepared", names == [("Ada Lovelace",), ("Grace Hopper",), ("Ada Lovelace",)] and known >= 1)

with connection.transaction(force_rollback=True):
    changed = connection.execute("update orders set item = 'x' where id = %s", (100,)).rowcount
    with connection.transaction(force_rollback=True):
        connection.execute("update orders set item = 'y' where id = 100")
    inside = one("select item from orders where id = 100")
outside = one("select item from orders where id = 100")
step("rollback", (changed, inside, outside) == (1, ("x",), ("analytical engine",)))

fails("22012", lambda: one("select 1 / %s::int", 0))
step("error", one("select 1") == (1,))


def aborted():
    with connection.transaction():
        fails("42703", lambda: one("select no_such_column from customers"))
        one("select 1")


fails("25P02", aborted)
step("aborted", one("select 2") == (2,))

values = [
    None,
    -(2**31),
    2**63 - 1,
    decimal.Decimal("-12345678901234567890.000000001"),
    "quo'te \\ back\nline Žluťoučký",
    "",
    bytes(range(256)) * 40,
    True,
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 12, 34, 56, 789012, datetime.timezone.utc),
    [1, None, 3],
    ["a", "", 'b"c,{}', None],
    uuid.UUID(int=2**127 + 5),
]
for letter, name in (("t", "text"), ("b", "binary")):
    markers = [f"%{letter}::{kind}" for kind in (
        "text", "int", "bigint", "numeric", "text", "text", "bytea", "bool", "date", "timestamptz",
        "int[]", "text[]", "uuid",
    )]
    cursor = connection.cursor(binary=name == "binary")
    row = cursor.execute("select " + ", ".join(markers), values).fetchone()
    step(f"types in {name}", list(row) == values)

large = "x" * (3 << 20)
step("large", one("select %s", large) == (large,))

connection.execute("create temp table kept (n int, t text)")
with connection.cursor() as cursor, cursor.copy("copy kept from stdin") as copy:
    for n in range(20000):
        copy.write_row((n, f"row {n}"))
with connection.cursor() as cursor, cursor.copy("copy kept to stdout (format binary)") as copy:
    copy.set_types(["int4", "text"])
    rows = list(copy.rows())
step("copy", len(rows) == 20000 and rows[19999] == (19999, "row 19999"))


def broken():
    with connection.cursor() as cursor, cursor.copy("copy kept from stdin") as copy:
        copy.write("no number\tx\n")


fails("22P02", broken)
step("broken copy", one("select count(*) from kept") == (20000,))

with connection.transaction(), connection.cursor("served") as served:
    served.itersize = 2
    served.execute("select id from orders where id > %s order by id", (0,))
    step("cursor", [row[0] for row in served] == [100, 101, 102, 103])
rows = [row[0] for row in connection.cursor().stream("select n from kept where n < %s order by n", (100,))]
step("row by row", rows == list(range(100)))

connection.cursor().executemany("insert into kept values (%s, %s)", [(n, None) for n in range(500)])
step("batch", one("select count(*) from kept where t is null") == (500,))

with connection.pipeline() as pipeline:
    first = connection.execute("select %s::int", (1,))
    second = connection.execute("select %s::text", ("two",))
    pipeline.sync()
    third = connection.execute("select 3")
    answers = (first.fetchone(), second.fetchone(), third.fetchone())
step("pipeline", answers == ((1,), ("two",), (3,)))


def failing():
    with connection.pipeline():
        connection.execute("insert into kept values (%s, %s)", (-1, "never"))
        connection.execute("select 1 / %s::int", (0,))
        connection.execute("insert into kept values (%s, %s)", (-2, "never"))


fails("22012", failing)
step("broken pipeline", one("select count(*) from kept where n < 0") == (0,))


def cancel():
    asleep = "select pid from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    while not bystander.execute(asleep).fetchone():
        pass
    connection.cancel_safe()


thread = threading.Thread(target=cancel)
thread.start()
fails("57014", lambda: one("select pg_sleep(600)"))
thread.join()
step("cancel", one("select 3") == (3,))

error = fails("42501", lambda: one("select * from salaries where amount > %s", 0))
step("refused", "salaries-are-private" in error.diag.message_detail and bool(error.diag.message_hint))


def refused_in_transaction():
    with connection.transaction():
        connection.execute("insert into kept values (-3, 'never')")
        fails("42501", lambda: one("select * from salaries"))
        one("select 1")


fails("25P02", refused_in_transaction)
step("refused in a transaction", one("select count(*) from kept where n < 0") == (0,))


def refused_in_pipeline():
    with connection.pipeline():
        connection.execute("insert into kept values (%s, %s)", (-4, "never"))
        connection.execute("select * from salaries")
        connection.execute("insert into kept values (%s, %s)", (-5, "never"))


fails("42501", refused_in_pipeline)
step("refused in a pipeline", one("select count(*) from kept where n < 0") == (0,))
step("usable", one("select %s::int", 4) == (4,))
