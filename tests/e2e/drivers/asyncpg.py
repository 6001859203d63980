import io
import asyncpg


def connect(**more):
    return asyncpg.connect(URL, timeout=30, **more)


async def count(connection):
    return await connection.fetchval("select count(*) from customers")


async def can_learn_types():
    connection = await connect()
    row = await connection.fetchrow("select * from things where id = 1")
    assert row["mood"] == "happy" and row["home"]["zip"] == 12 and row["tags"] == ["a", "b"]
    await connection.fetch("select $1::mood, $2::address, $3::mood[]", "ok", ("x", 1), ["sad"])
    await connection.set_type_codec("mood", encoder=str, decoder=str.upper)
    await connection.set_type_codec("json", encoder=str, decoder=str, schema="pg_catalog")
    assert await connection.fetchval("select mood from things where id = 1") == "HAPPY"
    await connection.reset_type_codec("mood")
    await connection.reload_schema_state()
    await connection.close()


async def can_use_cursors_and_statements():
    connection = await connect()
    async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
        rows = connection.cursor("select * from numbers", prefetch=500)
        assert len([row async for row in rows]) == 20000
        cursor = await connection.cursor("select * from numbers")
        await cursor.forward(3)
        assert (await cursor.fetchrow())["id"] == 4
    statement = await connection.prepare("select name from customers where id = $1")
    assert await statement.fetchval(1) == "Ada Lovelace"
    assert await statement.explain(1, analyze=True)
    await connection.execute("select 1; select 2")
    async with connection.transaction():
        inner = connection.transaction()
        await inner.start()
        await inner.rollback()
        assert await count(connection) == 3
    await connection.close()


async def can_pool():
    settings = {"application_name": "x", "jit": "off", "statement_timeout": "20000"}
    made = set()
    pool = asyncpg.create_pool(URL, min_size=1, max_size=2, server_settings=settings)
    async with pool:
        async def ask(_):
            async with pool.acquire() as connection, connection.transaction():
                made.add(connection.get_server_pid())
                return await count(connection)

        for _ in range(3):
            assert await asyncio.gather(*map(ask, range(5))) == [3] * 5
    # One that could not be reset would have been closed.
    assert len(made) <= 2, made


async def can_reset():
    connection = await connect()
    await connection.execute("set timezone = 'UTC'; set client_encoding = 'UTF8'")
    await connection.reset()
    await connection.reset()
    assert await count(connection) == 3
    await connection.close()


async def can_copy_out():
    connection, output = await connect(), io.BytesIO()
    query = "select * from customers where id = $1"
    await connection.copy_from_query(query, 1, output=output, format="csv")
    await connection.copy_from_table("customers", output=output, columns=["id"])
    assert len(output.getvalue().splitlines()) == 4
    await connection.close()


async def can_do_without_a_cache():
    connection = await connect(statement_cache_size=0)
    query = "select count(*) from things where mood = $1"
    assert await connection.fetchval(query, "happy") == 1
    await connection.close()


async def can_cancel():
    # Also how long its cancel may take before it gives the connection up.
    connection = await connect(command_timeout=60)
    long = "select count(*) from numbers a, numbers b, numbers c"
    # A cancel that comes before the statement runs cancels nothing: only the running is timed.
    statement = await connection.prepare(long)
    await fails_later(asyncio.TimeoutError, statement.fetch(timeout=2))
    assert await connection.fetchval("select 1", timeout=30) == 1
    await connection.close()


async def can_tell_a_refusal():
    connection = await connect()
    refusal, drop = asyncpg.InsufficientPrivilegeError, "drop table customers"
    for attempt in connection.execute, connection.fetch:
        error = await fails_later(refusal, attempt(drop))
        assert error.sqlstate == "42501" and "rule" in error.detail and error.hint
    transaction = connection.transaction()
    await transaction.start()
    await fails_later(refusal, connection.fetch(drop))
    await fails_later(asyncpg.InFailedSQLTransactionError, connection.fetch("select 1"))
    await transaction.rollback()
    await fails_later(refusal, connection.add_listener("jobs", lambda *_: None))
    assert await count(connection) == 3
    await connection.close()


async def can_do_a_write():
    connection = await connect()
    transaction = connection.transaction()
    await transaction.start()
    insert = "insert into things (mood, home) values ($1, $2)"
    await connection.executemany(insert, [("sad", ("x", 1)), ("ok", None)])
    rows = [("ok",), ("sad",)]
    assert len(await connection.fetchmany("insert into things (mood) values ($1) returning id", rows)) == 2
    assert await connection.execute("update things set day = now() where id = $1", 1) == "UPDATE 1"
    assert await connection.execute("delete from things where mood = $1", "sad") == "DELETE 2"
    await connection.copy_records_to_table("orders", records=[(900, 1, "x", 1), (901, 1, "y", 2)])
    await connection.copy_to_table("orders", source=io.BytesIO(b"902,1,x,1\n"), format="csv")
    assert await connection.fetchval("select count(*) from orders where id >= 900") == 3
    await transaction.rollback()
    await connection.close()
