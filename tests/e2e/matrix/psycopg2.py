"""What psycopg2 does, on libpq's simple protocol. Each step that is right is named on a line."""

import datetime
import decimal
import io
import threading

import psycopg2
import psycopg2.extras

connection = psycopg2.connect("")
bystander = psycopg2.connect("")
bystander.autocommit = True
cursor = connection.cursor()
print("encrypted" if connection.info.ssl_in_use else "clear")


def step(name, good):
    if not good:
        raise SystemExit(f"{name} went wrong")
    print(name)


def fails(state, run):
    try:
        run()
    except psycopg2.Error as error:
        if error.pgcode != state:
            raise SystemExit(f"{error.pgcode} in place of {state}: {error}")
        return error
    raise SystemExit(f"{state} did not come")


def one(statement, *parameters):
    cursor.execute(statement, parameters or None)
    return cursor.fetchone()


step("simple", one("select 'plain'") == ("plain",))
step("parameter", one("select name from customers where id = %s", 1) == ("Ada Lovelace",))

cursor.execute("prepare by_id (int) as select name from customers where id = $1")
names = [one("execute by_id (%s)", number) for number in (1, 2, 1)]
step("prepared", names == [("Ada Lovelace",), ("Grace Hopper",), ("Ada Lovelace",)])

cursor.execute("update orders set item = 'x' where id = %s", (100,))
changed = cursor.rowcount
connection.rollback()
step("rollback", changed == 1 and one("select item from orders where id = 100") == ("analytical engine",))
connection.rollback()

connection.autocommit = True
fails("22012", lambda: one("select 1 / 0"))
step("error", one("select 1") == (1,))
connection.autocommit = False

fails("42703", lambda: one("select no_such_column from customers"))
fails("25P02", lambda: one("select 1"))
connection.rollback()
step("aborted", one("select 2") == (2,))

zone = datetime.timezone.utc
values = [
    None,
    1 - 2**31,
    2**63 - 1,
    decimal.Decimal("-12345678901234567890.000000001"),
    "quo'te \\ back\nline Žluťoučký %s",
    "",
    True,
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 12, 34, 56, 789012, zone),
    [1, None, 3],
    ["a", "", 'b"c,{}', None],
]
row = one(
    "select %s::text, %s::int, %s::bigint, %s::numeric, %s::text, %s::text, %s::bool, %s::date,"
    " %s::timestamptz, %s::int[], %s::text[]",
    *values,
)
raw = bytes(range(256)) * 40
step("types", list(row) == values and bytes(one("select %s::bytea", psycopg2.Binary(raw))[0]) == raw)

# Parameters are put into the text, of which the daemon reads at most 1 MiB.
large = "x" * 1_000_000
step("large", one("select %s", large) == (large,))

connection.rollback()
cursor.execute("create temp table kept (n int, t text)")
cursor.copy_expert("copy kept from stdin", io.StringIO("".join(f"{n}\trow {n}\n" for n in range(20000))))
out = io.StringIO()
cursor.copy_expert("copy kept to stdout", out)
lines = out.getvalue().splitlines()
step("copy", len(lines) == 20000 and lines[19999] == "19999\trow 19999" and one("select sum(n) from kept") == (199990000,))

with connection.cursor("served") as served:
    served.itersize = 2
    served.execute("select id from orders order by id")
    step("cursor", [row[0] for row in served] == [100, 101, 102, 103])
psycopg2.extras.execute_values(cursor, "insert into kept values %s", [(n, None) for n in range(500)])
step("batch", one("select count(*) from kept where t is null") == (500,))
connection.commit()



def cancel():
    asleep = "select pid from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    running = bystander.cursor()
    running.execute(asleep)
    while not running.fetchone():
        running.execute(asleep)
    connection.cancel()


thread = threading.Thread(target=cancel)
thread.start()
fails("57014", lambda: one("select pg_sleep(600)"))
thread.join()
connection.rollback()
step("cancel", one("select 3") == (3,))

connection.rollback()
error = fails("42501", lambda: one("select * from salaries"))
step("refused", "salaries-are-private" in error.diag.message_detail and bool(error.diag.message_hint))
fails("25P02", lambda: one("select 1"))
connection.rollback()
step("usable", one("select 4") == (4,))
connection.rollback()

one("select set_config('application_name', 'renamed', false)")
step("report", connection.get_parameter_status("application_name") == "renamed")
