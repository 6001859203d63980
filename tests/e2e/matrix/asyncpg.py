"""What asyncpg does, with a protocol of its own. Each step that is right is named on a line."""

import asyncio
import datetime
import decimal
import io
import uuid

import asyncpg


def step(name, good):
    if not good:
        raise SystemExit(f"{name} went wrong")
    print(name)


async def fails(state, run):
    try:
        await run
    except asyncpg.PostgresError as error:
        if error.sqlstate != state:
            raise SystemExit(f"{error.sqlstate} in place of {state}: {error}")
        return error
    raise SystemExit(f"{state} did not come")


async def asleep(bystander):
    query = "select pid from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    while not await bystander.fetchval(query):
        pass


async def data(connection):
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
    kinds = "text int bigint numeric text text bytea bool date timestamptz int[] text[] uuid".split()
    markers = ", ".join(f"${n}::{kind}" for n, kind in enumerate(kinds, 1))
    row = await connection.fetchrow(f"select {markers}", *values)
    step("types", list(row) == values)
    await connection.execute("create type pg_temp.pair as (n int, t text)")
    pair = await connection.fetchval("select row(1, 'one')::pg_temp.pair")
    step("types that are looked up", tuple(pair) == (1, "one"))
    large = "x" * (3 << 20)
    step("large", await connection.fetchval("select $1::text", large) == large)
    await connection.execute("create temp table kept (n int, t text)")
    rows = [(n, f"row {n}") for n in range(20000)]
    await connection.copy_records_to_table("kept", records=rows)
    out = io.BytesIO()
    await connection.copy_from_query("select * from kept where n >= $1 order by n", 10, output=out, format="csv")
    lines = out.getvalue().splitlines()
    step("copy", len(lines) == 19990 and lines[-1] == b"19999,row 19999")
    await fails("22P02", connection.copy_to_table("kept", source=io.BytesIO(b"no number\tx\n")))
    step("broken copy", await connection.fetchval("select count(*) from kept") == 20000)
    async with connection.transaction():
        rows = [row["id"] async for row in connection.cursor("select id from orders order by id", prefetch=2)]
    step("cursor", rows == [100, 101, 102, 103])
    await connection.executemany("insert into kept values ($1, $2)", [(n, None) for n in range(500)])
    step("batch", await connection.fetchval("select count(*) from kept where t is null") == 500)


async def main():
    connection = await asyncpg.connect(timeout=30)
    bystander = await asyncpg.connect(timeout=30)
    encrypted = connection._transport.get_extra_info("ssl_object") is not None
    print("encrypted" if encrypted else "clear")
    step("simple", await connection.execute("select 1; select 2") == "SELECT 1")
    name = "select name from customers where id = $1"
    step("parameter", await connection.fetchval(name, 1) == "Ada Lovelace")
    statement = await connection.prepare(name)
    names = [await statement.fetchval(number) for number in (1, 2, 1)]
    step("prepared", names == ["Ada Lovelace", "Grace Hopper", "Ada Lovelace"])
    transaction = connection.transaction()
    await transaction.start()
    changed = await connection.execute("update orders set item = $1 where id = $2", "x", 100)
    await transaction.rollback()
    item = await connection.fetchval("select item from orders where id = 100")
    step("rollback", (changed, item) == ("UPDATE 1", "analytical engine"))
    await fails("22012", connection.fetchval("select 1 / $1::int", 0))
    step("error", await connection.fetchval("select 1") == 1)
    transaction = connection.transaction()
    await transaction.start()
    await fails("42703", connection.fetchval("select no_such_column from customers"))
    await fails("25P02", connection.fetchval("select 1"))
    await transaction.rollback()
    step("aborted", await connection.fetchval("select 2") == 2)
    await data(connection)

    sleeping = asyncio.create_task(connection.execute("select pg_sleep(600)"))
    await asleep(bystander)
    sleeping.cancel()
    try:
        await sleeping
    except asyncio.CancelledError:
        step("cancel", await connection.fetchval("select 3") == 3)

    error = await fails("42501", connection.fetch("select * from salaries where amount > $1", 0))
    step("refused", "salaries-are-private" in error.detail and bool(error.hint))
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("insert into kept values (-1, 'never')")
    await fails("42501", connection.fetch("select * from salaries"))
    await fails("25P02", connection.fetchval("select 1"))
    await transaction.rollback()
    count = await connection.fetchval("select count(*) from kept where n < 0")
    step("refused in a transaction", count == 0)
    await connection.reset()
    step("usable", await connection.fetchval("select $1::int", 4) == 4)
    await connection.close()
    await bystander.close()


asyncio.run(main())
