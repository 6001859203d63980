import psycopg
import psycopg_pool
from psycopg import errors, pq, types
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.range import Range


def connect(**more):
    return psycopg.connect(DSN, **more)


def count(connection):
    return connection.execute("select count(*) from customers").fetchone()[0]


def can_prepare():
    for factory in psycopg.ClientCursor, psycopg.RawCursor:
        with connect(cursor_factory=factory) as connection:
            assert count(connection) == 3
    with connect(prepare_threshold=0) as connection:
        # More than the hundred that it keeps: the first are deallocated.
        for number in range(120):
            connection.execute(f"select %s::int, {number}", (number,))
        connection.execute("deallocate all")
        assert count(connection) == 3


def can_use_cursors_of_the_server():
    with connect() as connection:
        with connection.cursor("plain") as cursor:
            cursor.execute("select * from numbers")
            assert sum(1 for _ in cursor) == 20000
        with connection.cursor("held", scrollable=True, withhold=True) as cursor:
            cursor.execute("select * from numbers")
            connection.commit()
            cursor.scroll(5)
            assert cursor.fetchone()[0] == 6
        rows = connection.cursor(binary=True, row_factory=dict_row).stream("select * from things")
        assert [row["id"] for row in rows] == [1]


def can_nest_transactions():
    with connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = connection.deferrable = True
        with connection.transaction():
            with connection.transaction("inner"):
                assert count(connection) == 3
            with connection.transaction(force_rollback=True):
                assert count(connection) == 3
            assert count(connection) == 3


def can_pipeline():
    with connect() as connection, connection.pipeline() as pipeline:
        first = connection.execute("select count(*) from customers")
        pipeline.sync()
        with connection.transaction():
            with connection.transaction(force_rollback=True):
                second = connection.execute("select count(*) from customers")
            third = connection.execute("select count(*) from customers where id = any(%s)", ([1, 2],))
        assert [done.fetchone()[0] for done in (first, second, third)] == [3, 3, 2]
    with connect() as connection:
        cursor = connection.cursor()
        cursor.executemany("select name from customers where id = %s", [(1,), (2,)], returning=True)
        assert len(list(cursor.results())) == 2


def can_copy_out():
    with connect() as connection:
        with connection.cursor().copy("copy customers to stdout (format binary)") as copy:
            copy.set_types(["int4", "text", "text", "text"])
            assert len(list(copy.rows())) == 3
        some = "copy (select * from customers where id = %s) to stdout"
        with connection.cursor().copy(some, (1,)) as copy:
            assert len(list(copy.rows())) == 1


def can_learn_types():
    with connect() as connection:
        mood = types.enum.EnumInfo.fetch(connection, "mood")
        types.enum.register_enum(mood, connection)
        home = types.composite.CompositeInfo.fetch(connection, "address")
        types.composite.register_composite(home, connection)
        row = connection.execute("select mood, home from things where id = 1").fetchone()
        assert row[0].name == "happy" and row[1].zip == 12
        assert types.range.RangeInfo.fetch(connection, "int4range")
        assert types.TypeInfo.fetch(connection, "hstore") is None


def can_set_what_is_set():
    with connect(client_encoding="utf8", options="-c statement_timeout=20s") as connection:
        connection.execute("set client_encoding to utf8")
        connection.execute("select set_config('statement_timeout', '10s', true)")
        connection.execute("set local idle_in_transaction_session_timeout = '10s'")
        connection.execute("unlisten *")
        assert count(connection) == 3


def can_pool():
    def reset(connection):
        connection.autocommit = True
        connection.execute("reset all")
        connection.execute("discard all")
        connection.autocommit = False

    check = psycopg_pool.ConnectionPool.check_connection
    made = set()
    with psycopg_pool.ConnectionPool(DSN, min_size=1, max_size=1, check=check, reset=reset) as pool:
        for _ in range(4):
            with pool.connection() as connection:
                made.add(connection.info.backend_pid)
                assert count(connection) == 3
    # One that could not be reset would have been thrown away.
    assert len(made) == 1, made


async def can_pool_without_blocking():
    async with psycopg_pool.AsyncConnectionPool(DSN, min_size=2, open=False) as pool:
        await pool.wait()

        async def ask(_):
            async with pool.connection() as connection:
                done = await connection.execute("select count(*) from customers")
                return (await done.fetchone())[0]

        assert await asyncio.gather(*map(ask, range(6))) == [3] * 6


def can_tell_a_refusal():
    with connect() as connection:
        drop = lambda: connection.execute("drop table customers")
        error = fails(errors.InsufficientPrivilege, drop)
        assert "rule" in error.diag.message_detail and error.diag.message_hint
        assert connection.info.transaction_status == pq.TransactionStatus.INERROR
        fails(errors.InFailedSqlTransaction, lambda: count(connection))
        connection.rollback()
        with connection.transaction():
            with connection.transaction(force_rollback=True):
                fails(errors.InsufficientPrivilege, drop)
            assert count(connection) == 3
    with connect(autocommit=True) as connection:
        def pipeline():
            with connection.pipeline():
                connection.execute("select 1")
                connection.execute("drop table customers")
                connection.execute("select 2")

        fails(errors.InsufficientPrivilege, pipeline)
        assert count(connection) == 3


def can_do_a_write():
    with connect() as connection:
        cursor = connection.cursor()
        insert = "insert into things (mood) values (%s) returning id"
        cursor.executemany(insert, [("sad",), ("ok",)], returning=True)
        assert len(list(cursor.results())) == 2
        with cursor.copy("copy orders from stdin") as copy:
            copy.write_row((900, 1, "x", 1))
        with cursor.copy("copy orders from stdin (format binary)") as copy:
            copy.set_types(["int4", "int4", "text", "numeric"])
            copy.write_row((901, 1, "x", 1))
        change = "update orders set item = %s where id = any(%s)"
        assert connection.execute(change, ("z", [900, 901])).rowcount == 2
        insert = "insert into things (facts, tags, span) values (%s, %s, %s)"
        connection.execute(insert, (Jsonb({"a": 1}), ["a"], Range(1, 2)))
        assert connection.execute("delete from orders where id >= 900").rowcount == 2
        connection.rollback()
