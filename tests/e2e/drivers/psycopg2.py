import io
import psycopg2
import psycopg2.extras
import psycopg2.pool
from psycopg2 import errors, extensions


def connect(**more):
    return psycopg2.connect(DSN, **more)


def count(cursor):
    cursor.execute("select count(*) from customers")
    return cursor.fetchone()[0]


def can_choose_isolation():
    connection = connect()
    for level in range(5):
        connection.set_isolation_level(level)
        assert count(connection.cursor()) == 3
        connection.rollback()


def can_choose_sessions():
    connection = connect()
    connection.set_session(readonly=True, deferrable=True, isolation_level="SERIALIZABLE")
    assert count(connection.cursor()) == 3
    connection.rollback()
    connection.set_session(readonly=True, deferrable=False, autocommit=True)
    cursor = connection.cursor()
    cursor.execute("show default_transaction_read_only")
    assert cursor.fetchone() == ("on",)


def can_use_cursors_of_the_server():
    connection = connect()
    with connection.cursor("plain") as cursor:
        cursor.itersize = 500
        cursor.execute("select id from numbers")
        assert sum(1 for _ in cursor) == 20000
    with connection.cursor("held", withhold=True, scrollable=True) as cursor:
        cursor.execute("select id from numbers order by id")
        connection.commit()
        cursor.fetchmany(5)
        cursor.scroll(10)
        cursor.scroll(-3)
        assert cursor.fetchone() == (13,)


def can_copy_out():
    cursor, output = connect().cursor(), io.StringIO()
    cursor.copy_expert("copy customers to stdout with csv", output)
    cursor.copy_to(output, "customers")
    cursor.copy_expert("copy (select id from customers) to stdout", output)
    assert len(output.getvalue().splitlines()) == 9


def can_learn_types():
    connection = connect()
    psycopg2.extras.register_composite("address", connection)
    psycopg2.extras.register_range("int4range", "Span", connection)
    fails(psycopg2.ProgrammingError, lambda: psycopg2.extras.register_hstore(connection))
    connection.rollback()
    cursor = connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
    cursor.execute("select * from things")
    assert cursor.fetchone()["home"].zip == 12


def can_set_what_is_set():
    connection = connect(options="-c statement_timeout=30000")
    connection.set_client_encoding("UTF8")
    cursor = connection.cursor()
    cursor.execute("set statement_timeout = '20s'")
    cursor.execute("set local lock_timeout = '2s'")
    assert count(cursor) == 3


def can_reset():
    connection = connect()
    assert count(connection.cursor()) == 3
    connection.reset()
    assert count(connection.cursor()) == 3


def can_pool():
    pool = psycopg2.pool.ThreadedConnectionPool(1, 2, DSN)
    for _ in range(3):
        connection = pool.getconn()
        assert count(connection.cursor()) == 3
        pool.putconn(connection)
    pool.closeall()


def can_hear_notices():
    connection = connect()
    connection.autocommit = True
    connection.cursor().execute("set constraints all deferred")
    assert "transaction blocks" in connection.notices[0]


def can_cancel():
    connection = connect()
    cursor, over = connection.cursor(), threading.Event()

    def cancel():
        # One that comes before the statement runs cancels nothing.
        while not over.wait(0.05):
            connection.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    long = "select count(*) from numbers a, numbers b, numbers c"
    fails(extensions.QueryCanceledError, lambda: cursor.execute(long))
    over.set()
    thread.join()
    connection.rollback()
    assert count(cursor) == 3


def can_tell_a_refusal():
    connection = connect()
    cursor = connection.cursor()
    count(cursor)
    error = fails(errors.InsufficientPrivilege, lambda: cursor.execute("drop table customers"))
    assert error.pgcode == "42501" and "rule" in error.diag.message_detail
    assert error.diag.message_hint
    assert connection.info.transaction_status == extensions.TRANSACTION_STATUS_INERROR
    fails(errors.InFailedSqlTransaction, lambda: cursor.execute("select 1"))
    connection.rollback()
    assert count(cursor) == 3


def can_work_without_blocking():
    connection = psycopg2.connect(DSN, async_=1)
    psycopg2.extras.wait_select(connection)
    cursor = connection.cursor()
    cursor.execute("select count(*) from customers")
    psycopg2.extras.wait_select(connection)
    assert cursor.fetchone() == (3,)


def can_do_a_write():
    connection = connect()
    cursor = connection.cursor()
    cursor.executemany("insert into things (mood) values (%s)", [("sad",), ("ok",)])
    rows = [("sad", ["x"]), ("ok", [])]
    insert = "insert into things (mood, tags) values %s returning id"
    assert len(psycopg2.extras.execute_values(cursor, insert, rows, fetch=True)) == 2
    change = "update things set day = %s where id = %s"
    psycopg2.extras.execute_batch(cursor, change, [("2026-01-01", 1), (None, 2)])
    cursor.execute("savepoint here")
    cursor.execute("delete from things where mood = 'sad' returning id")
    assert len(cursor.fetchall()) == 2
    cursor.execute("rollback to savepoint here")
    cursor.copy_expert("copy orders from stdin", io.StringIO("900\t1\tx\t1\n"))
    cursor.copy_from(io.StringIO("901\t1\tx\t1\n"), "orders", columns=("id", "customer_id", "item", "amount"))
    cursor.execute("select * from orders where id >= 900 for update skip locked")
    assert len(cursor.fetchall()) == 2
    connection.rollback()


