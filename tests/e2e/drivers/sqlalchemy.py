import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

PLACE = URL.split("@")[1].split("?")[0]


def engine(driver, **more):
    return sa.create_engine(f"postgresql+{driver}://anybody@{PLACE}?sslmode=disable", **more)


class Base(orm.DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    email: orm.Mapped[str]
    ssn: orm.Mapped[str]
    orders: orm.Mapped[list["Order"]] = orm.relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    customer_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("customers.id"))
    item: orm.Mapped[str]
    amount: orm.Mapped[float] = orm.mapped_column(sa.Numeric)
    customer: orm.Mapped[Customer] = orm.relationship(back_populates="orders")


class Thing(Base):
    __tablename__ = "things"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    mood: orm.Mapped[str] = orm.mapped_column(
        postgresql.ENUM("sad", "ok", "happy", name="mood", create_type=False)
    )


class Number(Base):
    __tablename__ = "numbers"
    id: orm.Mapped[int] = orm.mapped_column(sa.Integer, sa.Sequence("tickets"), primary_key=True)
    pad: orm.Mapped[str]


def reflect(connection):
    inspector = sa.inspect(connection)
    assert "sales" in inspector.get_schema_names()
    assert "leads" in inspector.get_table_names("sales")
    assert inspector.get_view_names() == ["happy"] and inspector.get_view_definition("happy")
    assert inspector.get_enums()[0]["name"] == "mood" and inspector.has_sequence("tickets")
    assert inspector.get_foreign_keys("orders")[0]["referred_table"] == "customers"
    assert "things_tags" in [index["name"] for index in inspector.get_indexes("things")]
    inspector.get_domains(), inspector.get_materialized_view_names(), inspector.get_table_comment("things")
    inspector.get_multi_columns(), inspector.get_check_constraints("things")
    found = sa.MetaData()
    found.reflect(connection, views=True, only=["customers", "orders", "happy", "numbers"])
    assert len(found.tables) == 4


def with_each(case):
    for driver in "psycopg2", "psycopg":
        case(driver)


def can_reflect():
    def case(driver):
        with engine(driver).connect() as connection:
            reflect(connection)
        # Nothing is missing, so nothing is made.
        Base.metadata.create_all(engine(driver))

    with_each(case)


def can_map():
    def case(driver):
        source = engine(driver, pool_pre_ping=True, pool_size=1)
        for _ in range(2):
            with orm.Session(source) as session:
                assert session.get(Customer, 1).name == "Ada Lovelace"
                eager = sa.select(Customer).options(orm.selectinload(Customer.orders))
                assert [len(one.orders) for one in session.scalars(eager.order_by(Customer.id))] == [1, 2, 1]
                assert session.scalar(sa.select(sa.func.count()).select_from(Order)) == 4
        stream = source.connect().execution_options(stream_results=True, max_row_buffer=500)
        with stream as connection:
            assert sum(1 for _ in connection.execute(sa.select(Number.id))) == 20000

    with_each(case)


def can_choose_isolation():
    def case(driver):
        for level in "AUTOCOMMIT", "SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED":
            with engine(driver).connect() as connection:
                connection = connection.execution_options(
                    isolation_level=level, postgresql_readonly=True, postgresql_deferrable=True
                )
                assert connection.scalar(sa.text("select count(*) from customers")) == 3

    with_each(case)


def can_tell_a_refusal():
    def case(driver):
        with engine(driver).connect() as connection:
            ask = lambda text: lambda: connection.execute(sa.text(text))
            error = fails(sa.exc.ProgrammingError, ask("drop table customers"))
            assert "rule" in error.orig.diag.message_detail and error.orig.diag.message_hint
            fails(sa.exc.InternalError, ask("select 1"))
            connection.rollback()
            ask("select 1")()

    with_each(case)


async def can_do_all_that_with_asyncpg():
    source = create_async_engine(f"postgresql+asyncpg://anybody@{PLACE}", connect_args={"ssl": False})
    for _ in range(2):
        async with source.connect() as connection:
            await connection.run_sync(reflect)
            rows = await connection.stream(sa.text("select * from numbers"))
            assert len([row async for row in rows]) == 20000
    async with AsyncSession(source) as session:
        assert (await session.get(Thing, 1)).mood == "happy"
        drop = session.execute(sa.text("drop table customers"))
        assert (await fails_later(sa.exc.ProgrammingError, drop)).orig.sqlstate == "42501"
    if WRITES:
        async with AsyncSession(source) as session:
            session.add_all([Thing(mood="ok") for _ in range(3)])
            await session.flush()
            await session.rollback()
    await source.dispose()


def can_do_a_write():
    def case(driver):
        with orm.Session(engine(driver)) as session:
            customer = Customer(id=50, name="n", email="e", ssn="s")
            customer.orders.append(Order(id=950, item="i", amount=1))
            session.add_all([customer, Number(pad="p")] + [Thing(mood="ok") for _ in range(3)])
            session.flush()
            with session.begin_nested():
                customer.name = "m"
                session.flush()
            locked = sa.select(Order).where(Order.id == 950).with_for_update()
            session.delete(session.scalars(locked).one())
            change = sa.update(Thing).where(Thing.mood == "ok").values(mood="sad").returning(Thing.id)
            assert len(session.execute(change).all()) == 3
            session.execute(sa.delete(Thing).where(Thing.mood == "sad"))
            upsert = postgresql.insert(Customer).values(id=1, name="q", email="q", ssn="q")
            session.execute(upsert.on_conflict_do_nothing())
            session.rollback()

    with_each(case)
