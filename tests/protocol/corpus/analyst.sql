# whole table
SELECT * FROM orders ORDER BY id LIMIT 10

# first rows of a masked table
select * from customers limit 5

# table command
TABLE products LIMIT 3

# masked columns side by side
select id, email, phone, ssn, birthday, note from customers order by id

# search by what is shown of a masked number
select id, ssn from customers where ssn like '%4567' order by id

# masked columns in a case-insensitive search
select count(*) from customers where email ilike '%@EXAMPLE.ORG'

# regular expression on a masked column
select id from customers where phone ~ '^\+49' order by id

# similar to
select count(*) from products where name similar to '(Red|Blue) %'

# date functions
select to_char(placed_at at time zone 'UTC', 'YYYY-MM') as m, count(*) from orders group by 1 order by 1

# string functions
select initcap(lower(name)), left(city, 3), replace(city, 'i', 'y'), lpad(id::text, 6, '0') from customers order by id limit 10

# numbers
select round(avg(total), 2), trunc(max(total)), mod(id, 7), greatest(min(total), 10) from orders group by mod(id, 7) order by 3

# generate series cross join
select g, count(o.id) from generate_series(1, 12) g left join orders o on extract(month from o.placed_at) = g group by g order by g

# except
select id from customers except select customer_id from orders where status = 'shipped' order by 1

# intersect of masked years
select extract(year from birthday) from customers where country = 'DE' intersect select extract(year from birthday) from customers where country = 'FR' order by 1

# full join
select c.country, o.n from (select distinct country from customers) c full join (select country, count(*) n from customers where balance > 500 group by 1) o using (country) order by 1

# self join on a masked year
select count(*) from customers a join customers b on a.birthday = b.birthday and a.id < b.id

# same domain
select a.id, b.id from customers a join customers b on split_part(a.email, '@', 2) = split_part(b.email, '@', 2) and b.id = a.id + 3 order by 1

# scalar subquery in where
select id, total from orders where total > (select avg(total) * 1.9 from orders) order by id

# nested ctes
with a as (select * from customers where is_active), b as (select a.id, a.email, count(o.*) n from a join orders o on o.customer_id = a.id group by 1, 2) select email, n from b where n > 3 order by 1, 2

# row constructors
select row(id, name), (id, country) = (3, 'PL') from customers order by id limit 5

# whole row to json
select row_to_json(c) from (select id, email, birthday from customers order by id limit 5) c

# json of the table
select to_jsonb(c) - 'created_at' - 'tax_id' from customers c order by id limit 5

# json aggregate of masked rows
select json_agg(json_build_object('mail', email, 'born', birthday) order by id) from customers where country = 'AT'

# json table functions
select key, count(*) from products, jsonb_each_text(attributes) where key <> 'size' group by key order by key

# arrays
select sku, tags[1], array_length(tags, 1), 'sale' = any(tags) from products order by sku limit 10

# sample of a masked table
select count(*) >= 0 from customers tablesample system (50) repeatable (1)

# count of nulls of a masked column
select count(*), count(note), count(phone), count(birthday) from customers

# min and max of masked columns
select min(birthday), max(birthday), min(email) from customers

# string aggregate of a masked column
select country, string_agg(distinct right(email, 8), ';' order by right(email, 8)) from customers group by 1 order by 1

# window over a masked column
select id, rank() over (order by birthday), lag(birthday) over (order by id) from customers order by id

# percent of total
select country, count(*), round(100.0 * count(*) / sum(count(*)) over (), 1) from customers group by 1 order by 1

# gaps
select id, placed_at - lag(placed_at) over (order by placed_at) as gap from orders order by id limit 20

# range types
select count(*) from orders where placed_at <@ tstzrange('2024-02-01 00:00+00', '2024-03-01 00:00+00')

# inet
select set_masklen(client, 24) & netmask(set_masklen(client, 24)) as net, count(*) from events where client << '10.0.0.0/25' group by 1 order by 2 desc, 1 limit 5

# partitions by name
select count(*) from events_2025

# partition parent by origin
select tableoid::regclass, count(*) from events group by 1 order by 1

# temporary table
CREATE TEMP TABLE big AS SELECT customer_id, sum(total) AS spent FROM orders GROUP BY 1;; SELECT c.country, max(b.spent) FROM big b JOIN customers c ON c.id = b.customer_id GROUP BY 1 ORDER BY 1;; DROP TABLE big

# temporary table of masked rows
CREATE TEMP TABLE people AS SELECT id, email, birthday FROM customers;; SELECT count(*), min(birthday) FROM people;; DROP TABLE people

# prepared statement
PREPARE by_country (text) AS SELECT count(*) FROM customers WHERE country = $1;; EXECUTE by_country ('DE');; DEALLOCATE by_country

# cursor
BEGIN;; DECLARE c CURSOR FOR SELECT id, email FROM customers ORDER BY id;; FETCH 5 FROM c;; FETCH 5 FROM c;; CLOSE c;; COMMIT

# copy of a query
COPY (SELECT id, email, birthday FROM customers ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)

# copy of columns
COPY orders (id, customer_id, total) TO STDOUT

# copy of a masked table's columns
COPY customers (id, name, email, ssn) TO STDOUT

# explain of a masked query
EXPLAIN (COSTS OFF) SELECT name FROM products WHERE id = 3

# settings
SHOW server_version;; SHOW search_path;; SET statement_timeout = '5s';; SHOW statement_timeout;; RESET statement_timeout

# transaction
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;; SELECT count(*) FROM orders;; COMMIT

# read only session
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;; SELECT count(*) FROM customers;; SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE

# ~ who am I
select current_user, current_database(), current_schema()

# size of a table
select pg_size_pretty(pg_total_relation_size('orders')) is not null, pg_relation_size('products') > 0

# estimated rows
select relname, reltuples::bigint from pg_class where relname in ('orders', 'products') order by 1

# merge
BEGIN;; MERGE INTO loyalty l USING (SELECT customer_id, count(*) AS n FROM orders GROUP BY 1) o ON l.member = o.customer_id WHEN MATCHED THEN UPDATE SET points = l.points + o.n;; SELECT sum(points) FROM loyalty;; ROLLBACK

# update of an unmasked column where a masked one says which
BEGIN;; UPDATE customers SET is_active = false WHERE email LIKE '%@mail.test';; ROLLBACK

# truncate in a transaction
BEGIN;; TRUNCATE order_items;; SELECT count(*) FROM order_items;; ROLLBACK
