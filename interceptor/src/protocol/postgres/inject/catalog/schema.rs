//! What masking needs to know of a database (`mask::schema`), asked on a session that was just opened,
//! of targets with sensitive columns alone.
//!
//! Each name and operator is qualified, and the search path is the system's own: definitions come with
//! the schema of everything that they name. What the server says is bounded, and must fit together.

use std::collections::HashMap;

use super::answer::{Bounds, Ended, ask};
use super::{columns, wrong};
use crate::protocol::postgres::inject::Error;
use crate::protocol::postgres::inject::peer::Peer;
use crate::protocol::postgres::mask::schema::{Column, Table};
use crate::protocol::postgres::mask::{Schema, shows_closed};
use crate::protocol::postgres::wire::backend::{
    COMMAND_COMPLETE, DATA_ROW, READY, ROW_DESCRIPTION,
};
use crate::protocol::postgres::wire::error::{ERROR, NOTICE};
use crate::protocol::postgres::wire::startup::PARAMETER_STATUS;

/// Of functions `f` in language `l`: others compute from their arguments, or are trusted as the server is; but the
/// server's own that run a query, read what others stored or tell settings are so under any name, and as what
/// an aggregate or an operator is made of.
macro_rules! is_code {
    () => {
        " AND (l.lanname OPERATOR(pg_catalog.<>) 'c' AND l.lanname OPERATOR(pg_catalog.<>) 'internal' \
         AND f.pronamespace OPERATOR(pg_catalog.<>) 11 AND f.pronamespace OPERATOR(pg_catalog.<>) \
         'information_schema'::pg_catalog.regnamespace::pg_catalog.oid \
         OR l.lanname OPERATOR(pg_catalog.=) 'internal' AND f.prosrc OPERATOR(pg_catalog.~) \
         '^(be_lo|currtid|currval|cursor_to_xml|database_to_xml|lastval|lo_|nextval|pg_backup_|pg_copy_|pg_create_|\
         pg_current_|pg_cursor|pg_export_|pg_get_multixact|pg_get_sequence_data|pg_get_wal|pg_hba_|pg_ident_|\
         pg_lock_status|pg_logical_|pg_ls_|pg_prepared_|pg_read_|pg_sequence_last|pg_start_backup|pg_stat_|\
         pg_stats_ext|pg_stop_backup|query_to_xml|schema_to_xml|set_config|setval|show_|table_to_xml|ts_stat|\
         tsquery_rewrite_query)')"
    };
}

/// Whether a function's code reads tables; an aggregate's is that of the functions that it is made of. From
/// 16384 on numbers are not the server's own (`access/transam.h`): the others would take long.
macro_rules! reads_tables {
    ($function:literal) => {
        concat!(
            "(EXISTS (SELECT FROM pg_catalog.pg_proc AS f JOIN pg_catalog.pg_language AS l \
             ON l.oid OPERATOR(pg_catalog.=) f.prolang WHERE f.oid OPERATOR(pg_catalog.=) ",
            $function,
            is_code!(),
            ") OR EXISTS (SELECT FROM pg_catalog.pg_aggregate AS a JOIN pg_catalog.pg_proc AS f \
             ON f.oid OPERATOR(pg_catalog.=) ANY (ARRAY[a.aggtransfn::pg_catalog.oid, a.aggfinalfn::pg_catalog.oid, \
                a.aggcombinefn::pg_catalog.oid, a.aggserialfn::pg_catalog.oid, a.aggdeserialfn::pg_catalog.oid, \
                a.aggmtransfn::pg_catalog.oid, a.aggminvtransfn::pg_catalog.oid, a.aggmfinalfn::pg_catalog.oid]) \
             JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) f.prolang \
             WHERE a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
             AND a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) ",
            $function,
            is_code!(),
            "))"
        )
    };
}

/// Whether a function, which is in C, may do more than compute from its arguments: all that do not say so, but
/// those that make random values, or look at a dictionary or a setting of their own.
macro_rules! is_foreign {
    ($function:literal) => {
        concat!(
            "(",
            $function,
            ".provolatile OPERATOR(pg_catalog.<>) 'i' AND ",
            $function,
            ".proname OPERATOR(pg_catalog.<>) ALL (ARRAY['gen_random_bytes','gen_random_uuid','gen_salt',\
             'normal_rand','pgp_pub_encrypt','pgp_pub_encrypt_bytea','pgp_sym_encrypt','pgp_sym_encrypt_bytea',\
             'show_limit','similarity_op','strict_word_similarity_commutator_op','strict_word_similarity_op',\
             'unaccent','uuid_generate_v1','uuid_generate_v1mc','uuid_generate_v4','word_similarity_commutator_op',\
             'word_similarity_op']::pg_catalog.name[]))"
        )
    };
}

/// Of relations outside of the system's schemas and of all temporary ones.
macro_rules! ours {
    ($relation:literal) => {
        concat!(
            "EXISTS (SELECT FROM pg_catalog.pg_class AS k JOIN pg_catalog.pg_namespace AS m \
             ON m.oid OPERATOR(pg_catalog.=) k.relnamespace WHERE k.oid OPERATOR(pg_catalog.=) ",
            $relation,
            // Whatever strings are to the session: no backslash.
            " AND pg_catalog.left(m.nspname::pg_catalog.text, 3) OPERATOR(pg_catalog.<>) 'pg_' \
             AND m.nspname OPERATOR(pg_catalog.<>) 'information_schema')"
        )
    };
}

/// Whether an expression, as the server keeps it, may have another value another time.
macro_rules! varies {
    ($expression:literal) => {
        concat!(
            $expression,
            " OPERATOR(pg_catalog.~~) '%SQLVALUEFUNCTION%' \
             OR EXISTS (SELECT FROM pg_catalog.regexp_matches(",
            $expression,
            ", ':(?:op)?funcid ([0-9]+)', 'g') AS x (words) JOIN pg_catalog.pg_proc AS f \
             ON f.oid OPERATOR(pg_catalog.=) x.words[1]::pg_catalog.oid \
             WHERE f.provolatile OPERATOR(pg_catalog.<>) 'i') OR ",
            $expression,
            // A value's text, and the value of a text, may be another under other settings.
            " OPERATOR(pg_catalog.~~) '%COERCEVIAIO%' \
             AND EXISTS (SELECT FROM pg_catalog.regexp_matches(",
            $expression,
            ", ':[a-z]*type ([0-9]+)', 'g') AS x (words) JOIN pg_catalog.pg_type AS t \
             ON t.oid OPERATOR(pg_catalog.=) x.words[1]::pg_catalog.oid JOIN pg_catalog.pg_proc AS f \
             ON f.oid OPERATOR(pg_catalog.=) t.typinput::pg_catalog.oid \
             OR f.oid OPERATOR(pg_catalog.=) t.typoutput::pg_catalog.oid \
             WHERE f.provolatile OPERATOR(pg_catalog.<>) 'i')"
        )
    };
}

/// An expression as the server writes it, where it calls something.
macro_rules! written {
    ($relation:literal, $expression:literal) => {
        concat!(
            "SELECT ",
            $relation,
            "::pg_catalog.text, COALESCE(pg_catalog.pg_get_expr(",
            $expression,
            ", ",
            $relation,
            "), '')"
        )
    };
}

/// One result a line, in the order of [`Answer::row`].
const QUERY: &str = concat!(
    "BEGIN READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 2000; SET LOCAL search_path = pg_catalog; ",
    // What it takes for costs would have it compiled, which takes longer than to run it.
    "SET LOCAL jit = off; ",
    // The client's settings are those of the session: definitions are looked into by their words.
    "SET LOCAL quote_all_identifiers = off; ",
    // Relations.
    "SELECT c.oid::pg_catalog.text, n.nspname, c.relname, c.relkind::pg_catalog.text, \
     EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid \
        AND r.rulename OPERATOR(pg_catalog.<>) '_RETURN')::pg_catalog.text, \
     (EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid OPERATOR(pg_catalog.=) c.oid \
        AND NOT g.tgisinternal AND ",
    reads_tables!("g.tgfoid"),
    // What indexes and partitions are made by is run by a write, too.
    ") OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
        WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
        AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
        AND (d.objid OPERATOR(pg_catalog.=) c.oid OR EXISTS (SELECT FROM pg_catalog.pg_index AS i \
            WHERE i.indexrelid OPERATOR(pg_catalog.=) d.objid AND i.indrelid OPERATOR(pg_catalog.=) c.oid)) AND ",
    reads_tables!("d.refobjid"),
    "))::pg_catalog.text, \
     EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
        WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
        AND (d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid \
            AND EXISTS (SELECT FROM pg_catalog.pg_attrdef AS e WHERE e.oid OPERATOR(pg_catalog.=) d.objid \
                AND e.adrelid OPERATOR(pg_catalog.=) c.oid) \
        OR d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid \
            AND EXISTS (SELECT FROM pg_catalog.pg_constraint AS e WHERE e.oid OPERATOR(pg_catalog.=) d.objid \
                AND e.conrelid OPERATOR(pg_catalog.=) c.oid)) AND ",
    reads_tables!("d.refobjid"),
    ")::pg_catalog.text, \
     EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_depend AS d \
        ON d.objid OPERATOR(pg_catalog.=) r.oid \
        AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
        WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid \
        AND r.rulename OPERATOR(pg_catalog.=) '_RETURN' \
        AND (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AND (",
    reads_tables!("d.refobjid"),
    " OR EXISTS (SELECT FROM pg_catalog.pg_proc AS f WHERE f.oid OPERATOR(pg_catalog.=) d.refobjid \
            AND f.pronamespace OPERATOR(pg_catalog.<>) 11 AND f.pronamespace OPERATOR(pg_catalog.<>) \
            'information_schema'::pg_catalog.regnamespace::pg_catalog.oid AND ",
    is_foreign!("f"),
    ")) OR d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid \
        AND EXISTS (SELECT FROM pg_catalog.pg_operator AS o \
            WHERE o.oid OPERATOR(pg_catalog.=) d.refobjid AND ",
    reads_tables!("o.oprcode::pg_catalog.oid"),
    ")))::pg_catalog.text, \
     EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid \
        AND r.rulename OPERATOR(pg_catalog.=) '_RETURN' \
        AND r.ev_action::pg_catalog.text OPERATOR(pg_catalog.~~) '%:hasTargetSRFs true%')::pg_catalog.text, \
     CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'v' OR c.relkind OPERATOR(pg_catalog.=) 'm' \
        THEN COALESCE(pg_catalog.pg_get_viewdef(c.oid), '') ELSE '' END \
     FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
     ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','v','m','f','S']::pg_catalog.\"char\"[]) AND ",
    ours!("c.oid"),
    "; ",
    // Their columns; of a domain, the type below it.
    "SELECT a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, a.attname, t.oid::pg_catalog.text, \
     CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd' \
        THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) \
        ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END, \
     (t.typtype OPERATOR(pg_catalog.=) 'd')::pg_catalog.text, \
     (a.attgenerated OPERATOR(pg_catalog.<>) '')::pg_catalog.text \
     FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t \
     ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
     WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped AND ",
    ours!("a.attrelid"),
    " ORDER BY a.attrelid USING OPERATOR(pg_catalog.<), a.attnum USING OPERATOR(pg_catalog.<); ",
    // Children and their parents.
    "SELECT inhrelid::pg_catalog.text, inhparent::pg_catalog.text FROM pg_catalog.pg_inherits WHERE ",
    ours!("inhrelid"),
    "; ",
    // What the query of a view reads.
    "SELECT DISTINCT r.ev_class::pg_catalog.text, d.refobjid::pg_catalog.text, d.refobjsubid::pg_catalog.text \
     FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_depend AS d \
     ON d.objid OPERATOR(pg_catalog.=) r.oid \
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     WHERE d.refobjid OPERATOR(pg_catalog.<>) r.ev_class AND ",
    ours!("r.ev_class"),
    // A whole row beside a column is no dependency of its own; the query itself says that it is there.
    " UNION SELECT r.ev_class::pg_catalog.text, d.refobjid::pg_catalog.text, '0' \
     FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_depend AS d \
     ON d.objid OPERATOR(pg_catalog.=) r.oid \
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     WHERE d.refobjid OPERATOR(pg_catalog.<>) r.ev_class \
     AND r.ev_action::pg_catalog.text OPERATOR(pg_catalog.~~) '%:varattno 0 %' AND ",
    ours!("r.ev_class"),
    "; ",
    // Columns that constraints and indexes are about, and expressions of indexes: whose they are, each
    // with what ties them together, whose first letter says how ([`TiedBy`]). Column 0 is a whole row.
    "SELECT conrelid::pg_catalog.text, CASE WHEN contype OPERATOR(pg_catalog.=) 'p' AND NOT condeferrable \
        THEN 'p' WHEN contype OPERATOR(pg_catalog.=) 'c' AND (NOT convalidated OR ",
    varies!("conbin::pg_catalog.text"),
    ") THEN 'm' ELSE 'c' END OPERATOR(pg_catalog.||) oid::pg_catalog.text, \
     pg_catalog.unnest(conkey)::pg_catalog.text \
     FROM pg_catalog.pg_constraint WHERE contype OPERATOR(pg_catalog.<>) 'n' AND ",
    ours!("conrelid"),
    " UNION ALL SELECT confrelid::pg_catalog.text, 'r' OPERATOR(pg_catalog.||) oid::pg_catalog.text, \
     pg_catalog.unnest(confkey)::pg_catalog.text \
     FROM pg_catalog.pg_constraint WHERE contype OPERATOR(pg_catalog.=) 'f' AND ",
    ours!("confrelid"),
    " UNION ALL SELECT indrelid::pg_catalog.text, CASE WHEN indisunique OR indisexclusion THEN 'c' \
        WHEN indnatts OPERATOR(pg_catalog.>) 1 THEN 'i' ELSE 'o' END \
     OPERATOR(pg_catalog.||) indexrelid::pg_catalog.text, k::pg_catalog.text \
     FROM pg_catalog.pg_index, pg_catalog.unnest(indkey::pg_catalog.int2[]) AS k \
     WHERE k OPERATOR(pg_catalog.<>) 0 AND ",
    ours!("indrelid"),
    // By which rows were put into an order; of an expression all of them.
    " UNION ALL SELECT indrelid::pg_catalog.text, 'l' OPERATOR(pg_catalog.||) indexrelid::pg_catalog.text, \
     k::pg_catalog.text FROM pg_catalog.pg_index, pg_catalog.unnest(indkey::pg_catalog.int2[]) AS k \
     WHERE indisclustered AND ",
    ours!("indrelid"),
    " UNION ALL SELECT d.refobjid::pg_catalog.text, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend AS u \
        WHERE u.objid OPERATOR(pg_catalog.=) i.indexrelid \
        AND u.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
        AND (u.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
        OR u.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid)) \
        THEN 'f' WHEN i.indisunique OR i.indisexclusion THEN 'c' ELSE 'e' END \
        OPERATOR(pg_catalog.||) i.indexrelid::pg_catalog.text, d.refobjsubid::pg_catalog.text \
     FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_depend AS d \
     ON d.objid OPERATOR(pg_catalog.=) i.indexrelid AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid \
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND d.refobjsubid OPERATOR(pg_catalog.<>) 0 AND ",
    ours!("i.indrelid"),
    // The whole row is no column that anything depends on; the expression itself says that it is there.
    " UNION ALL SELECT indrelid::pg_catalog.text, CASE WHEN indisunique OR indisexclusion THEN 'c' ELSE 'e' END \
     OPERATOR(pg_catalog.||) indexrelid::pg_catalog.text, '0' FROM pg_catalog.pg_index \
     WHERE pg_catalog.concat(indexprs, indpred) OPERATOR(pg_catalog.~~) '%:varattno 0 %' AND ",
    ours!("indrelid"),
    "; ",
    // Generated columns and what they are made from.
    "SELECT d.refobjid::pg_catalog.text, a.attnum::pg_catalog.text, d.refobjsubid::pg_catalog.text \
     FROM pg_catalog.pg_attrdef AS e JOIN pg_catalog.pg_attribute AS a \
     ON a.attrelid OPERATOR(pg_catalog.=) e.adrelid AND a.attnum OPERATOR(pg_catalog.=) e.adnum \
     JOIN pg_catalog.pg_depend AS d ON d.refobjid OPERATOR(pg_catalog.=) e.adrelid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     AND (d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid \
        AND d.objid OPERATOR(pg_catalog.=) e.oid \
        OR d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
        AND d.objid OPERATOR(pg_catalog.=) e.adrelid \
        AND d.objsubid OPERATOR(pg_catalog.=) e.adnum::pg_catalog.int4) \
     WHERE a.attgenerated OPERATOR(pg_catalog.<>) '' \
     AND d.refobjsubid OPERATOR(pg_catalog.<>) a.attnum::pg_catalog.int4 AND ",
    ours!("e.adrelid"),
    "; ",
    // Functions, operators and casts whose code may read tables; of functions those too that may do more in C.
    "SELECT DISTINCT n.nspname, p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n \
     ON n.oid OPERATOR(pg_catalog.=) p.pronamespace WHERE ",
    reads_tables!("p.oid"),
    // Numbers of languages as in `pg_language.dat`: `internal` and `c`.
    " OR p.prolang OPERATOR(pg_catalog.=) ANY (ARRAY[12, 13]::pg_catalog.oid[]) \
     AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog','information_schema']::pg_catalog.name[]) AND ",
    is_foreign!("p"),
    "; SELECT DISTINCT n.nspname, o.oprname FROM pg_catalog.pg_operator AS o \
     JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace WHERE ",
    reads_tables!("o.oprcode::pg_catalog.oid"),
    "; SELECT DISTINCT t.typname, (c.castcontext OPERATOR(pg_catalog.<>) 'e')::pg_catalog.text \
     FROM pg_catalog.pg_cast AS c JOIN pg_catalog.pg_type AS t \
     ON t.oid OPERATOR(pg_catalog.=) c.casttarget WHERE ",
    reads_tables!("c.castfunc"),
    // Foreign keys, column by column.
    "; SELECT conrelid::pg_catalog.text, pg_catalog.unnest(conkey)::pg_catalog.text, \
     confrelid::pg_catalog.text, pg_catalog.unnest(confkey)::pg_catalog.text, \
     (confdeltype OPERATOR(pg_catalog.=) 'n' OR confdeltype OPERATOR(pg_catalog.=) 'd' \
        OR confupdtype OPERATOR(pg_catalog.=) 'c' OR confupdtype OPERATOR(pg_catalog.=) 'n' \
        OR confupdtype OPERATOR(pg_catalog.=) 'd')::pg_catalog.text \
     FROM pg_catalog.pg_constraint WHERE contype OPERATOR(pg_catalog.=) 'f' AND ",
    ours!("conrelid"),
    // What tables are partitioned by; column 0 is an expression.
    "; SELECT partrelid::pg_catalog.text, pg_catalog.unnest(partattrs::pg_catalog.int2[])::pg_catalog.text \
     FROM pg_catalog.pg_partitioned_table WHERE ",
    ours!("partrelid"),
    // What row-security policies of others look at; column 0 is all of it.
    "; SELECT DISTINCT y.polrelid::pg_catalog.text, d.refobjid::pg_catalog.text, \
     CASE WHEN pg_catalog.concat(y.polqual, y.polwithcheck) OPERATOR(pg_catalog.~~) '%:varattno 0 %' \
        THEN '0' ELSE d.refobjsubid::pg_catalog.text END \
     FROM pg_catalog.pg_policy AS y JOIN pg_catalog.pg_depend AS d \
     ON d.objid OPERATOR(pg_catalog.=) y.oid \
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     WHERE d.refobjid OPERATOR(pg_catalog.<>) y.polrelid AND ",
    ours!("y.polrelid"),
    // Columns that sequences number: those that own them, and those of which they are the default.
    "; SELECT s.oid::pg_catalog.text, d.refobjid::pg_catalog.text, d.refobjsubid::pg_catalog.text \
     FROM pg_catalog.pg_class AS s JOIN pg_catalog.pg_depend AS d \
     ON d.objid OPERATOR(pg_catalog.=) s.oid \
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     WHERE s.relkind OPERATOR(pg_catalog.=) 'S' AND d.refobjsubid OPERATOR(pg_catalog.>) 0 AND ",
    ours!("s.oid"),
    " UNION SELECT s.oid::pg_catalog.text, e.adrelid::pg_catalog.text, e.adnum::pg_catalog.text \
     FROM pg_catalog.pg_class AS s JOIN pg_catalog.pg_depend AS d \
     ON d.refobjid OPERATOR(pg_catalog.=) s.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid \
     JOIN pg_catalog.pg_attrdef AS e ON e.oid OPERATOR(pg_catalog.=) d.objid \
     WHERE s.relkind OPERATOR(pg_catalog.=) 'S' AND ",
    ours!("s.oid"),
    // The columns of the table of columns.
    "; SELECT a.attname FROM pg_catalog.pg_attribute AS a \
     WHERE a.attrelid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attribute'::pg_catalog.regclass::pg_catalog.oid \
     AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped ORDER BY a.attnum USING OPERATOR(pg_catalog.<)",
    // Whether EXPLAIN counts pages unless it is told not to.
    "; SELECT (pg_catalog.current_setting('server_version_num')::pg_catalog.int4 \
     OPERATOR(pg_catalog.>=) 180000)::pg_catalog.text; ",
    // Defaults, checks, and what indexes and partitions are made by.
    written!("adrelid", "adbin"),
    " FROM pg_catalog.pg_attrdef WHERE ",
    ours!("adrelid"),
    " UNION ALL ",
    written!("conrelid", "conbin"),
    " FROM pg_catalog.pg_constraint WHERE conbin IS NOT NULL AND ",
    ours!("conrelid"),
    " UNION ALL ",
    written!("indrelid", "indexprs"),
    " FROM pg_catalog.pg_index WHERE indexprs IS NOT NULL AND ",
    ours!("indrelid"),
    " UNION ALL ",
    written!("indrelid", "indpred"),
    " FROM pg_catalog.pg_index WHERE indpred IS NOT NULL AND ",
    ours!("indrelid"),
    " UNION ALL ",
    written!("partrelid", "partexprs"),
    " FROM pg_catalog.pg_partitioned_table WHERE partexprs IS NOT NULL AND ",
    ours!("partrelid"),
    // Row-security policies.
    "; ",
    written!("polrelid", "polqual"),
    " FROM pg_catalog.pg_policy WHERE ",
    ours!("polrelid"),
    " UNION ALL ",
    written!("polrelid", "polwithcheck"),
    " FROM pg_catalog.pg_policy WHERE ",
    ours!("polrelid"),
    // Functions of which each of a name computes from its arguments alone.
    "; SELECT n.nspname, p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_language AS l \
     ON l.oid OPERATOR(pg_catalog.=) p.prolang JOIN pg_catalog.pg_namespace AS n \
     ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
     WHERE p.pronamespace OPERATOR(pg_catalog.<>) 11 GROUP BY n.nspname, p.proname \
     HAVING pg_catalog.bool_and(NOT ",
    is_foreign!("p"),
    " AND l.lanname OPERATOR(pg_catalog.=) ANY (ARRAY['c','internal']::pg_catalog.name[]) AND NOT ",
    reads_tables!("p.oid"),
    // Columns that hold rows of relations: by themselves, in arrays, domains, ranges and composite types. Those
    // types have no rows of their own.
    "); WITH RECURSIVE held (relation, number, type) AS ( \
     SELECT a.attrelid, a.attnum, a.atttypid FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t \
     ON t.oid OPERATOR(pg_catalog.=) a.atttypid WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
     AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
     AND (t.typtype OPERATOR(pg_catalog.<>) 'b' OR t.typelem OPERATOR(pg_catalog.<>) 0::pg_catalog.oid) AND ",
    ours!("a.attrelid"),
    " UNION SELECT h.relation, h.number, n.type FROM held AS h JOIN pg_catalog.pg_type AS t \
     ON t.oid OPERATOR(pg_catalog.=) h.type CROSS JOIN LATERAL (SELECT t.typelem UNION ALL SELECT t.typbasetype \
     UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid OPERATOR(pg_catalog.=) t.oid \
        OR (pg_catalog.to_jsonb(r) OPERATOR(pg_catalog.->>) 'rngmultitypid') OPERATOR(pg_catalog.=) t.oid::pg_catalog.text \
     UNION ALL SELECT b.atttypid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS b \
        ON b.attrelid OPERATOR(pg_catalog.=) c.oid WHERE c.oid OPERATOR(pg_catalog.=) t.typrelid \
        AND c.relkind OPERATOR(pg_catalog.=) 'c' AND b.attnum OPERATOR(pg_catalog.>) 0 AND NOT b.attisdropped) \
     AS n (type) WHERE n.type OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
     SELECT h.relation::pg_catalog.text, h.number::pg_catalog.text, c.oid::pg_catalog.text FROM held AS h \
     JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) h.type JOIN pg_catalog.pg_class AS c \
     ON c.oid OPERATOR(pg_catalog.=) t.typrelid WHERE c.relkind OPERATOR(pg_catalog.<>) 'c'; ",
    // What indexes are ordered by, and what else is in them, at place 0: not those of which the rows come as they
    // lie in the table, which are GIN and BRIN (`pg_am.dat`).
    "SELECT i.indrelid::pg_catalog.text, i.indexrelid::pg_catalog.text, \
     CASE WHEN k.place OPERATOR(pg_catalog.<=) i.indnkeyatts THEN k.place ELSE 0 END::pg_catalog.text, \
     k.number::pg_catalog.text, (i.indpred IS NOT NULL)::pg_catalog.text \
     FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
     CROSS JOIN LATERAL (SELECT u.place, u.number FROM ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[])) \
        WITH ORDINALITY AS u (number, place) \
     UNION ALL SELECT 2147483647, d.refobjsubid FROM pg_catalog.pg_depend AS d \
        WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) \
        AND d.objid OPERATOR(pg_catalog.=) i.indexrelid AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid \
        AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
        AND d.refobjsubid OPERATOR(pg_catalog.<>) 0 \
     UNION ALL SELECT 2147483647, 0 \
        WHERE pg_catalog.concat(i.indexprs, i.indpred) OPERATOR(pg_catalog.~~) '%:varattno 0 %') AS k (place, number) \
     WHERE c.relam OPERATOR(pg_catalog.<>) ALL (ARRAY[2742, 3580]::pg_catalog.oid[]) AND ",
    ours!("i.indrelid"),
    // Columns of their own that row-security policies look at; column 0 is all of them.
    "; SELECT DISTINCT y.polrelid::pg_catalog.text, \
     CASE WHEN pg_catalog.concat(y.polqual, y.polwithcheck) OPERATOR(pg_catalog.~~) '%:varattno 0 %' \
        THEN '0' ELSE d.refobjsubid::pg_catalog.text END \
     FROM pg_catalog.pg_policy AS y JOIN pg_catalog.pg_depend AS d \
     ON d.objid OPERATOR(pg_catalog.=) y.oid AND d.refobjid OPERATOR(pg_catalog.=) y.polrelid \
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
     WHERE d.refobjsubid OPERATOR(pg_catalog.<>) 0 AND ",
    ours!("y.polrelid"),
    "; COMMIT",
);

/// How many results the query has.
const RESULTS: u8 = 21;
/// The most rows of all results together.
const ROWS_MAX: usize = 500_000;
/// The most bytes of all of them: definitions of views are long.
const BYTES_MAX: usize = 64 << 20;

fn body_max(tag: u8) -> Option<usize> {
    match tag {
        DATA_ROW => Some(1 << 20),
        ROW_DESCRIPTION | COMMAND_COMPLETE => Some(4_096),
        PARAMETER_STATUS => Some(8_192),
        READY => Some(1),
        ERROR | NOTICE => Some(30_000),
        _ => None,
    }
}

/// Asks for all of it.
///
/// `None` where the server cannot say: something holds a lock on a definition that is being changed.
pub(super) async fn fetch(peer: &mut Peer) -> Result<Option<Schema>, Error> {
    peer.expect(BYTES_MAX);
    let mut answer = Answer::default();
    let bounds = Bounds {
        rows: ROWS_MAX,
        what: "rows of the catalog",
        body: body_max,
    };
    match ask(peer, QUERY, bounds, |result, row| answer.row(result, row)).await? {
        Ended::Whole(RESULTS) => Ok(Some(answer.whole())),
        Ended::RolledBack(error) => {
            tracing::warn!(%error, "the server cannot say what its database looks like");
            Ok(None)
        }
        Ended::Whole(_) | Ended::Refused(_) => Err(wrong("the answer is not whole")),
    }
}

#[derive(Default)]
struct Answer {
    schema: Schema,
    tables: HashMap<u32, Table>,
}

impl Answer {
    fn row(&mut self, result: u8, row: &[u8]) -> Result<(), Error> {
        match result {
            1 => self.relation(row)?,
            2 => self.column(row)?,
            3 => {
                let [child, parent] = columns(row)?;
                let parent = number(parent)?;
                self.put(child, |table| table.parents.push(parent))?;
            }
            4 | 13 => {
                let [view, oid, column] = columns(row)?;
                let of = (number(oid)?, number(column)?);
                self.put(view, |table| table.depends.push(of))?;
            }
            5 => {
                let [oid, tie, column] = columns(row)?;
                let column = number(column)?;
                self.put(oid, |table| table.guard(tie, column))?;
            }
            6 => {
                let [oid, made, from] = columns(row)?;
                let made = (number(made)?, number(from)?);
                self.put(oid, |table| table.generated.push(made))?;
            }
            7 | 8 | 18 => self.function(result, row)?,
            9 => {
                let [name, unasked] = columns(row)?;
                self.schema.casts.insert(name.to_owned());
                self.schema.casts_unasked |= truth(unasked)?;
            }
            10 => {
                let [oid, column, other, referred, acts] = columns(row)?;
                let refers = (number(column)?, number(other)?, number(referred)?);
                let acts = truth(acts)?;
                self.put(oid, |table| {
                    table.references.push(refers);
                    if acts {
                        table.changed_by.insert(refers.1);
                    }
                })?;
            }
            11 => {
                let [oid, column] = columns(row)?;
                let column = number(column)?;
                self.put(oid, |table| {
                    table.split.insert(column);
                })?;
            }
            12 => {
                let [oid, other, column] = columns(row)?;
                let asks = (number(other)?, number(column)?);
                self.put(oid, |table| table.policed.push(asks))?;
            }
            14 => {
                let [name] = columns(row)?;
                self.schema.attributes.push(name.to_owned());
            }
            15 => {
                let [counts] = columns(row)?;
                self.schema.counts_pages = truth(counts)?;
            }
            16 | 17 => self.expression(result == 17, row)?,
            19 => {
                let [oid, column, of] = columns(row)?;
                let holds = (number(column)?, number(of)?);
                self.put(oid, |table| table.rows.push(holds))?;
            }
            20 | 21 => self.order(result == 21, row)?,
            _ => return Err(wrong("a row of no result")),
        }
        Ok(())
    }

    fn relation(&mut self, row: &[u8]) -> Result<(), Error> {
        let [
            oid,
            schema,
            name,
            kind,
            rules,
            triggers,
            computes,
            opaque,
            makes_rows,
            definition,
        ] = columns(row)?;
        let oid = number(oid)?;
        let table = Table {
            oid,
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: kind.bytes().next().unwrap_or_default(),
            has_rules: truth(rules)?,
            has_triggers: truth(triggers)?,
            computes: truth(computes)?,
            is_opaque: truth(opaque)?,
            makes_rows: truth(makes_rows)?,
            definition: definition.to_owned(),
            ..Table::default()
        };
        self.tables.insert(oid, table);
        Ok(())
    }

    fn function(&mut self, result: u8, row: &[u8]) -> Result<(), Error> {
        let [schema, name] = columns(row)?;
        // Of the server's own it is known by their names.
        if result == 7 && schema == "pg_catalog" {
            return Ok(());
        }
        let known = match result {
            7 => &mut self.schema.functions,
            8 => &mut self.schema.operators,
            _ => &mut self.schema.computing,
        };
        known.insert((schema.to_owned(), name.to_owned()));
        Ok(())
    }

    /// An expression of a row-security policy, or another one that a write runs.
    fn expression(&mut self, of_policy: bool, row: &[u8]) -> Result<(), Error> {
        let [oid, expression] = columns(row)?;
        if !shows_closed(expression) {
            return Ok(());
        }
        self.put(oid, |table| match of_policy {
            true => table.is_opaque = true,
            false => table.computes = true,
        })
    }

    /// What rows are found by: an index, or what a row-security policy looks at.
    fn order(&mut self, of_policy: bool, row: &[u8]) -> Result<(), Error> {
        match of_policy {
            true => self.sifted(row),
            false => self.index(row),
        }
    }

    fn index(&mut self, row: &[u8]) -> Result<(), Error> {
        let [oid, index, place, column, partial] = columns(row)?;
        let (index, at) = (number(index)?, (number(place)?, number(column)?));
        let is_partial = truth(partial)?;
        self.put(oid, |table| table.index(index, at, is_partial))
    }

    fn sifted(&mut self, row: &[u8]) -> Result<(), Error> {
        let [oid, column] = columns(row)?;
        let column = number(column)?;
        self.put(oid, |table| _ = table.sifted.insert(column))
    }

    fn column(&mut self, row: &[u8]) -> Result<(), Error> {
        let [oid, number_of, name, type_oid, type_name, domain, generated] = columns(row)?;
        let column = Column {
            number: number(number_of)?,
            name: name.to_owned(),
            type_oid: number(type_oid)?,
            type_name: type_name.to_owned(),
            is_domain: truth(domain)?,
            is_generated: truth(generated)?,
        };
        self.put(oid, |table| table.columns.push(column))
    }

    /// Adds to the relation of this number; one of a kind that has no rows, an index, is passed over.
    fn put(&mut self, oid: &str, add: impl FnOnce(&mut Table)) -> Result<(), Error> {
        if let Some(table) = self.tables.get_mut(&number(oid)?) {
            add(table);
        }
        Ok(())
    }

    fn whole(mut self) -> Schema {
        for (_, mut table) in self.tables {
            // Equal where the database is, whatever the order of the rows.
            table.depends.sort_unstable();
            table.parents.sort_unstable();
            table.generated.sort_unstable();
            table.references.sort_unstable();
            table.policed.sort_unstable();
            table.rows.sort_unstable();
            self.schema.add(table);
        }
        self.schema
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, Error> {
    text.parse().map_err(|_not_one| wrong("a number is none"))
}

fn truth(text: &str) -> Result<bool, Error> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong("a truth is none")),
    }
}
