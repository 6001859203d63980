SELECT n.nspname AS "Schema", c.relname AS "Name",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'p' THEN 'partitioned table' END AS "Type",
  pg_catalog.pg_get_userbyid(c.relowner) AS "Owner",
  pg_catalog.pg_size_pretty(pg_catalog.pg_table_size(c.oid)) AS "Size",
  pg_catalog.obj_description(c.oid, 'pg_class') AS "Description"
FROM pg_catalog.pg_class c
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE c.relkind IN ('r', 'p', '') AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema'
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 1, 2;
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default
  AND pg_catalog.pg_table_is_visible(c.oid);
SELECT c.relchecks, c.relkind, c.relhasindex, c.relrowsecurity, c.relispartition,
  pg_catalog.array_to_string(c.reloptions || ARRAY(SELECT 'toast.' || x FROM pg_catalog.unnest(tc.reloptions) x), ', '),
  CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid)
WHERE c.oid = '16384';
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
  (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
   WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation),
  pg_catalog.col_description(a.attrelid, a.attnum)
FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16384' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;
SELECT c2.relname, i.indisprimary, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true),
  pg_catalog.pg_get_constraintdef(con.oid, true), contype
FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i
  LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid AND conindid = i.indexrelid)
WHERE c.oid = '16384' AND c.oid = i.indrelid AND i.indexrelid = c2.oid;
SELECT conname, pg_catalog.pg_get_constraintdef(r.oid, true), conrelid::pg_catalog.regclass
FROM pg_catalog.pg_constraint r
WHERE conrelid IN (SELECT pg_catalog.pg_partition_ancestors('16384') UNION ALL VALUES ('16384'::pg_catalog.regclass));
SELECT pol.polname, CASE WHEN pol.polroles = '{0}' THEN NULL ELSE pg_catalog.array_to_string(
    ARRAY(SELECT rolname FROM pg_catalog.pg_roles WHERE oid = ANY (pol.polroles) ORDER BY 1), ',') END,
  pg_catalog.pg_get_expr(pol.polqual, pol.polrelid)
FROM pg_catalog.pg_policy pol WHERE pol.polrelid = '16384';
SELECT t.tgname, pg_catalog.pg_get_triggerdef(t.oid, true), t.tgenabled
FROM pg_catalog.pg_trigger t WHERE t.tgrelid = '16384' AND NOT t.tgisinternal;
SELECT pubname FROM pg_catalog.pg_publication p
  JOIN pg_catalog.pg_publication_rel pr ON p.oid = pr.prpubid WHERE pr.prrelid = '16384'
UNION SELECT pubname FROM pg_catalog.pg_publication p
WHERE p.puballtables AND pg_catalog.pg_relation_is_publishable('16384');
SELECT oid, stxrelid::pg_catalog.regclass, stxnamespace::pg_catalog.regnamespace::pg_catalog.text,
  pg_catalog.pg_get_statisticsobjdef_columns(oid), 'd' = ANY (stxkind)
FROM pg_catalog.pg_statistic_ext WHERE stxrelid = '16384';
SELECT n.nspname, p.proname, pg_catalog.pg_get_function_result(p.oid),
  pg_catalog.pg_get_function_arguments(p.oid), l.lanname, pg_catalog.pg_get_functiondef(p.oid)
FROM pg_catalog.pg_proc p
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  LEFT JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE pg_catalog.pg_function_is_visible(p.oid);
SELECT d.datname, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding),
  pg_catalog.array_to_string(d.datacl, E'\n'),
  CASE WHEN pg_catalog.has_database_privilege(d.datname, 'CONNECT')
    THEN pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(d.datname)) ELSE 'No Access' END,
  pg_catalog.pg_tablespace_location(t.oid), pg_catalog.shobj_description(d.oid, 'pg_database')
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON d.dattablespace = t.oid;
SELECT r.rolname, r.rolsuper, r.rolvaliduntil,
  ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles b ON (m.roleid = b.oid)
        WHERE m.member = r.oid) AS memberof
FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_';
SELECT n.nspname, pg_catalog.format_type(t.oid, NULL), pg_catalog.obj_description(t.oid, 'pg_type')
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid))
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type el WHERE el.oid = t.typelem AND el.typarray = t.oid)
  AND pg_catalog.pg_type_is_visible(t.oid);
SELECT c.relname, (SELECT pg_catalog.string_agg(a.attname || E':\n  ' || pg_catalog.array_to_string(attacl, E'\n'), E'\n')
  FROM pg_catalog.pg_attribute a WHERE attrelid = c.oid AND attacl IS NOT NULL)
FROM pg_catalog.pg_class c WHERE pg_catalog.array_length(c.relacl, 1) > 0;
SELECT pg_catalog.quote_ident(relname) FROM pg_catalog.pg_class
WHERE pg_catalog.substring(pg_catalog.quote_ident(relname), 1, 2) = 'pg' AND pg_catalog.length('pg') < 3
LIMIT 1000;
WITH RECURSIVE typeinfo_tree (oid, ns, name, kind, basetype, elemtype, attrtypoids, depth) AS (
  SELECT ti.oid, ti.ns, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.attrtypoids, 0
  FROM (SELECT t.oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, t.typbasetype AS basetype,
          t.typelem AS elemtype,
          (SELECT array_agg(ia.atttypid ORDER BY ia.attnum) FROM pg_attribute ia
             INNER JOIN pg_class c ON (ia.attrelid = c.oid)
           WHERE ia.attnum > 0 AND NOT ia.attisdropped AND c.reltype = t.oid) AS attrtypoids
        FROM pg_catalog.pg_type AS t
          INNER JOIN pg_catalog.pg_namespace ns ON (ns.oid = t.typnamespace)
          LEFT JOIN pg_range AS range_t ON (t.oid = range_t.rngtypid)) AS ti
  WHERE ti.oid = any($1::oid[])
  UNION ALL
  SELECT t.oid, '', t.typname, t.typtype, 0, 0, NULL, tt.depth + 1
  FROM pg_type t, typeinfo_tree tt
  WHERE t.oid = any(tt.attrtypoids) OR t.oid = tt.elemtype)
SELECT DISTINCT *, basetype::regtype::text AS basetype_name, (SELECT t.typdelim FROM pg_type t WHERE oid = 1)
FROM typeinfo_tree ORDER BY depth DESC;
SELECT t.oid, typarray, format_type(t.oid, NULL) FROM pg_type t JOIN pg_namespace ns ON typnamespace = ns.oid
WHERE typname = 'hstore' AND t.oid = to_regtype($1);
SELECT NULL AS table_cat, n.nspname, ct.relname, (information_schema._pg_expandarray(i.indkey)).n AS key_seq
FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
  JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid)
  JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid);
SELECT pg_catalog.string_agg(word, ',') FROM pg_catalog.pg_get_keywords() WHERE word <> ALL ('{a,b}'::text[]);
SELECT a.attname, generate_subscripts(con.conkey, 1) AS ord, unnest(con.conkey), pg_get_serial_sequence('t', a.attname)
FROM pg_catalog.pg_constraint con JOIN pg_catalog.pg_attribute a ON a.attnum = ANY (con.conkey);
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = current_schema();
SELECT pg_catalog.version(), current_schema(), current_database(), session_user, pg_backend_pid(), pg_is_in_recovery();
SHOW standard_conforming_strings;
SHOW TRANSACTION ISOLATION LEVEL;
