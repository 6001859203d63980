-- What psql does, as a script. Each step that is right is named on a line of its own; the checker
-- holds the names against those that it knows. Reads no settings but libpq's own variables.
\set ON_ERROR_STOP off
\set VERBOSITY verbose
\conninfo

select 'plain' = 'plain' as good \gset
\if :good
\echo simple
\endif

prepare by_id (int) as select name from customers where id = $1;
execute by_id(1) \gset first_
execute by_id(2) \gset second_
select :'first_name' = 'Ada Lovelace' and :'second_name' = 'Grace Hopper' as good \gset
\if :good
\echo prepared
\endif

select $1::int as number, name from customers where id = $1 \gdesc
\if :ERROR
\else
\echo described
\endif

begin;
update orders set item = 'x' where id = 100;
rollback;
select item = 'analytical engine' as good from orders where id = 100 \gset
\if :good
\echo rollback
\endif

select 1 / 0;
select :'SQLSTATE' = '22012' as good \gset
\if :good
\echo error
\endif

begin;
select no_such_column from customers;
select 'not seen';
rollback;
select :'LAST_ERROR_SQLSTATE' = '25P02' as good \gset
\if :good
\echo aborted
\endif

create temp table kept (n int, t text, b bytea, s timestamptz, a int[]);
insert into kept values
    (null, null, null, null, null),
    (-2147483648, E'quo''te \\ back\nline Žluťoučký', '\x00ff27', '2024-02-29 12:34:56.789012+00', '{1,NULL,3}');
select n = -2147483648 and t = E'quo''te \\ back\nline Žluťoučký' and b = '\x00ff27'
    and s = '2024-02-29 12:34:56.789012+00' and a = '{1,NULL,3}' as good from kept where n is not null \gset
\if :good
\echo types
\endif

\copy kept (n, t) from stdin
7	seven
8	\N
\.
\copy (select n, t from kept where n in (7, 8) order by n) to stdout
select count(*) = 2 as good from kept where n in (7, 8) \gset
\if :good
\echo copy
\endif

\set FETCH_COUNT 2
select id from orders order by id;
\if :ERROR
\else
\echo cursor
\endif
\unset FETCH_COUNT

select * from salaries;
select :'LAST_ERROR_SQLSTATE' = '42501' as good \gset
\if :good
\echo refused
\endif

begin;
select * from salaries;
select 'not seen';
commit;
select :'LAST_ERROR_SQLSTATE' = '25P02' as good \gset
\if :good
\echo refused in a transaction
\endif

select 'usable' = 'usable' as good \gset
\if :good
\echo usable
\endif
