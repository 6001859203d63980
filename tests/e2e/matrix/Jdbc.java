// What JDBC's driver does, with a protocol of its own. Each step that is right is named on a line.

import java.io.StringReader;
import java.io.StringWriter;
import java.lang.reflect.Field;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import javax.net.ssl.SSLSocket;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.core.PGStream;
import org.postgresql.core.QueryExecutorBase;
import org.postgresql.jdbc.PgConnection;
import org.postgresql.util.PSQLException;

class Jdbc {
    interface Run {
        Object now() throws Exception;
    }

    static final String BY_ID = "select name from customers where id = ?";
    static Connection connection;

    static Connection connect(String more) throws SQLException {
        String address = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
        String url = "jdbc:postgresql://" + address + "/" + System.getenv("PGDATABASE")
            + "?user=" + System.getenv("PGUSER") + "&sslmode=" + System.getenv("PGSSLMODE") + more;
        String root = System.getenv("PGSSLROOTCERT");
        return DriverManager.getConnection(root == null ? url : url + "&sslrootcert=" + root);
    }

    static void step(String name, boolean good) {
        if (!good) {
            throw new IllegalStateException(name + " went wrong");
        }
        System.out.println(name);
    }

    static PSQLException fails(String state, Run run) throws Exception {
        try {
            run.now();
        } catch (PSQLException error) {
            if (!state.equals(error.getSQLState())) {
                throw error;
            }
            return error;
        }
        throw new IllegalStateException(state + " did not come");
    }

    static List<Object> column(Connection on, String text, Object... values) throws SQLException {
        try (PreparedStatement statement = on.prepareStatement(text)) {
            for (int at = 0; at < values.length; at++) {
                statement.setObject(at + 1, values[at]);
            }
            List<Object> found = new ArrayList<>();
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) {
                    found.add(rows.getObject(1));
                }
            }
            return found;
        }
    }

    static Object one(String text, Object... values) throws SQLException {
        return column(connection, text, values).get(0);
    }

    static int run(String text) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(text);
        }
    }

    static boolean encrypted() throws Exception {
        Field stream = QueryExecutorBase.class.getDeclaredField("pgStream");
        stream.setAccessible(true);
        Object executor = connection.unwrap(PgConnection.class).getQueryExecutor();
        return ((PGStream) stream.get(executor)).getSocket() instanceof SSLSocket;
    }

    public static void main(String[] arguments) throws Exception {
        connection = connect("");
        System.out.println(encrypted() ? "encrypted" : "clear");
        statements();
        types();
        copy();
        series();
        cancel();
        refused();
        connection.close();
    }

    static void statements() throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.execute("select 1; select 2");
            boolean more = statement.getMoreResults();
            ResultSet rows = statement.getResultSet();
            step("simple", more && rows.next() && rows.getInt(1) == 2);
        }
        step("parameter", one(BY_ID, 1).equals("Ada Lovelace"));
        try (PreparedStatement statement = connection.prepareStatement(BY_ID)) {
            // From its second run on it has a name on the server.
            statement.unwrap(PGStatement.class).setPrepareThreshold(2);
            List<String> names = new ArrayList<>();
            for (int number : new int[] {1, 2, 1, 2}) {
                statement.setInt(1, number);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    names.add(rows.getString(1));
                }
            }
            List<String> pair = List.of("Ada Lovelace", "Grace Hopper", "Ada Lovelace", "Grace Hopper");
            step("prepared", names.equals(pair) && statement.unwrap(PGStatement.class).isUseServerPrepare());
        }
        connection.setAutoCommit(false);
        int changed = run("update orders set item = 'x' where id = 100");
        connection.rollback();
        Object item = one("select item from orders where id = 100");
        step("rollback", changed == 1 && item.equals("analytical engine"));
        connection.commit();
        connection.setAutoCommit(true);
        fails("22012", () -> one("select 1 / ?", 0));
        step("error", one("select 1").equals(1));
        connection.setAutoCommit(false);
        fails("42703", () -> one("select no_such_column from customers"));
        fails("25P02", () -> one("select 1"));
        connection.rollback();
        connection.setAutoCommit(true);
        step("aborted", one("select 2").equals(2));
    }

    static void types() throws Exception {
        byte[] raw = new byte[10_240];
        for (int at = 0; at < raw.length; at++) {
            raw[at] = (byte) at;
        }
        OffsetDateTime when = OffsetDateTime.of(2024, 2, 29, 12, 34, 56, 789_012_000, ZoneOffset.UTC);
        String text = "quo'te \\ back\nline Žluťoučký";
        Object[] values = {null, Integer.MIN_VALUE, Long.MAX_VALUE,
            new BigDecimal("-12345678901234567890.000000001"), text, "", true, LocalDate.of(2024, 2, 29), when};
        String kinds = "?::text, ?::int, ?::bigint, ?::numeric, ?::text, ?::text, ?::bool, ?::date, ?::timestamptz";
        try (PreparedStatement statement =
                connection.prepareStatement("select " + kinds + ", ?::bytea, ?::int[], ?::text[]")) {
            // Text at first, binary once it is prepared.
            statement.unwrap(PGStatement.class).setPrepareThreshold(3);
            for (int round = 0; round < 5; round++) {
                for (int at = 0; at < values.length; at++) {
                    statement.setObject(at + 1, values[at]);
                }
                statement.setBytes(10, raw);
                statement.setArray(11, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
                statement.setArray(12, connection.createArrayOf("text", new String[] {"a", "", "b\"c,{}", null}));
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    boolean good = Arrays.equals(rows.getBytes(10), raw)
                        && Arrays.equals((Object[]) rows.getArray(11).getArray(), new Integer[] {1, null, 3})
                        && Arrays.equals((Object[]) rows.getArray(12).getArray(), new String[] {"a", "", "b\"c,{}", null})
                        && rows.getObject(8, LocalDate.class).equals(values[7])
                        && rows.getObject(9, OffsetDateTime.class).isEqual(when);
                    for (int at = 0; at < 7; at++) {
                        good &= Objects.equals(rows.getObject(at + 1), values[at]);
                    }
                    if (!good) {
                        throw new IllegalStateException("types went wrong in round " + round);
                    }
                }
            }
        }
        step("types", true);
        String large = "x".repeat(3 << 20);
        step("large", one("select ?::text", large).equals(large));
    }

    static void copy() throws Exception {
        run("create temp table kept (n int, t text)");
        StringBuilder rows = new StringBuilder();
        for (int n = 0; n < 20_000; n++) {
            rows.append(n).append("\trow ").append(n).append('\n');
        }
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        long came = copies.copyIn("copy kept from stdin", new StringReader(rows.toString()));
        StringWriter out = new StringWriter();
        copies.copyOut("copy kept to stdout", out);
        step("copy", came == 20_000 && out.toString().equals(rows.toString()));
        fails("22P02", () -> copies.copyIn("copy kept from stdin", new StringReader("no number\tx\n")));
        step("broken copy", one("select count(*) from kept").equals(20_000L));
    }

    static void series() throws Exception {
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("select id from orders where id > ? order by id")) {
            statement.setFetchSize(2);
            statement.setInt(1, 0);
            List<Integer> ids = new ArrayList<>();
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) {
                    ids.add(rows.getInt(1));
                }
            }
            step("cursor", ids.equals(List.of(100, 101, 102, 103)));
        }
        connection.commit();
        connection.setAutoCommit(true);
        try (PreparedStatement statement = connection.prepareStatement("insert into kept values (?, null)")) {
            for (int n = 0; n < 500; n++) {
                statement.setInt(1, n);
                statement.addBatch();
            }
            int[] counts = statement.executeBatch();
            step("batch", counts.length == 500 && one("select count(*) from kept where t is null").equals(500L));
        }
        try (Connection simple = connect("&preferQueryMode=simple")) {
            step("simple mode", column(simple, BY_ID, 2).equals(List.of("Grace Hopper")));
        }
        try (ResultSet tables = connection.getMetaData().getColumns(null, "public", "orders", null)) {
            List<String> names = new ArrayList<>();
            while (tables.next()) {
                names.add(tables.getString("COLUMN_NAME"));
            }
            step("catalog", names.equals(List.of("id", "customer_id", "item", "amount")));
        }
    }

    static void cancel() throws Exception {
        try (Connection bystander = connect(""); Statement sleeping = connection.createStatement()) {
            Thread thread = new Thread(() -> {
                String asleep = "select pid from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
                try {
                    while (column(bystander, asleep).isEmpty()) {
                        Thread.onSpinWait();
                    }
                    sleeping.cancel();
                } catch (SQLException error) {
                    throw new IllegalStateException(error);
                }
            });
            thread.start();
            fails("57014", () -> sleeping.executeQuery("select pg_sleep(600)"));
            thread.join();
            step("cancel", one("select 3").equals(3));
        }
    }

    static void refused() throws Exception {
        PSQLException error = fails("42501", () -> one("select * from salaries where amount > ?", 0));
        var said = error.getServerErrorMessage();
        step("refused", said.getDetail().contains("salaries-are-private") && !said.getHint().isEmpty());
        connection.setAutoCommit(false);
        run("insert into kept values (-1, 'never')");
        fails("42501", () -> one("select * from salaries"));
        fails("25P02", () -> one("select 1"));
        connection.rollback();
        step("refused in a transaction", one("select count(*) from kept where n < 0").equals(0L));
        connection.setAutoCommit(true);
        step("usable", one("select ?::int", 4).equals(4));
    }
}
