# entity by key | 9
SELECT customers.id AS customers_id, customers.name AS customers_name, customers.email AS customers_email, customers.birthday AS customers_birthday FROM customers WHERE customers.id = $1::INTEGER

# joined eager load
SELECT anon_1.customers_id AS anon_1_customers_id, anon_1.customers_name AS anon_1_customers_name, orders_1.id AS orders_1_id, orders_1.total AS orders_1_total FROM (SELECT customers.id AS customers_id, customers.name AS customers_name FROM customers ORDER BY customers.id LIMIT 5) AS anon_1 LEFT OUTER JOIN orders AS orders_1 ON anon_1.customers_id = orders_1.customer_id ORDER BY anon_1.customers_id, orders_1.id

# select in load | {1,2,3,4}
SELECT orders.customer_id AS orders_customer_id, orders.id AS orders_id, orders.status AS orders_status FROM orders WHERE orders.customer_id = ANY ($1::int[]) ORDER BY orders.id

# count star
SELECT count(*) AS count_1 FROM (SELECT customers.id AS customers_id, customers.email AS customers_email FROM customers WHERE customers.country = 'FR') AS anon_1

# scalar subquery
SELECT customers.name, (SELECT count(orders.id) AS count_1 FROM orders WHERE orders.customer_id = customers.id) AS anon_1 FROM customers ORDER BY customers.id

# lateral
SELECT c.id, latest.id AS order_id, latest.total FROM customers AS c JOIN LATERAL (SELECT o.id, o.total FROM orders AS o WHERE o.customer_id = c.id ORDER BY o.placed_at DESC LIMIT 2) AS latest ON true ORDER BY c.id, latest.id

# cte
WITH regional AS (SELECT customers.country AS country, sum(orders.total) AS total_sales FROM customers JOIN orders ON orders.customer_id = customers.id GROUP BY customers.country), top AS (SELECT regional.country AS country FROM regional WHERE regional.total_sales > (SELECT sum(regional.total_sales) / 10 AS anon_1 FROM regional)) SELECT customers.country, count(*) AS n FROM customers WHERE customers.country IN (SELECT top.country FROM top) GROUP BY customers.country ORDER BY customers.country

# recursive cte
WITH RECURSIVE chain(id, name, depth) AS (SELECT employees.id AS id, employees.name AS name, 0 AS depth FROM employees WHERE employees.manager_id IS NULL UNION ALL SELECT e.id, e.name, chain.depth + 1 FROM employees AS e JOIN chain ON e.manager_id = chain.id) SELECT chain.id, chain.name, chain.depth FROM chain ORDER BY chain.id

# recursive over who referred whom
WITH RECURSIVE tree AS (SELECT customers.id, customers.referred_by, customers.email, 1 AS level FROM customers WHERE customers.referred_by IS NULL UNION ALL SELECT c.id, c.referred_by, c.email, tree.level + 1 FROM customers c JOIN tree ON c.referred_by = tree.id WHERE tree.level < 4) SELECT level, count(*) FROM tree GROUP BY level ORDER BY level

# window over rows
SELECT orders.id, sum(orders.total) OVER (PARTITION BY orders.customer_id ORDER BY orders.placed_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running FROM orders ORDER BY orders.id

# filter clause
SELECT orders.customer_id, count(*) FILTER (WHERE orders.status = 'paid') AS paid, count(*) FILTER (WHERE orders.status = 'new') AS new FROM orders GROUP BY orders.customer_id ORDER BY orders.customer_id

# grouping sets
SELECT customers.country, customers.city, count(*) AS n FROM customers GROUP BY GROUPING SETS ((customers.country), (customers.city), ()) ORDER BY customers.country NULLS LAST, customers.city NULLS LAST

# rollup with grouping
SELECT customers.country, customers.city, grouping(customers.country, customers.city) AS g, count(*) FROM customers GROUP BY ROLLUP (customers.country, customers.city) ORDER BY 3, 1, 2

# values
SELECT v.a, v.b FROM (VALUES (1, 'x'), (2, 'y')) AS v (a, b) ORDER BY v.a

# case and coalesce of a masked column
SELECT customers.id, coalesce(customers.phone, 'none') AS phone, CASE WHEN (customers.note IS NULL) THEN 'no' ELSE 'yes' END AS noted FROM customers ORDER BY customers.id

# concatenation of a masked column
SELECT customers.name || ' <' || customers.email || '>' AS address FROM customers ORDER BY customers.id LIMIT 20

# group by a masked year
SELECT EXTRACT(year FROM customers.birthday) AS y, count(*) AS n FROM customers GROUP BY EXTRACT(year FROM customers.birthday) ORDER BY 1

# age in years by a masked year | 2025-01-01
SELECT CAST(EXTRACT(year FROM age($1::date, customers.birthday)) / 10 AS INTEGER) * 10 AS decade, count(*) AS n FROM customers GROUP BY 1 ORDER BY 1

# domain of a masked address
SELECT split_part(customers.email, '@', 2) AS domain, count(*) AS n FROM customers GROUP BY 1 ORDER BY 2 DESC, 1

# tuple comparison | 2024-06-01 00:00+00 | 100
SELECT orders.id FROM orders WHERE (orders.placed_at, orders.id) > ($1::timestamptz, $2::bigint) ORDER BY orders.placed_at, orders.id LIMIT 20

# json path
SELECT products.id, products.attributes #>> '{size,w}' AS w, CAST(products.attributes -> 'weight' AS INTEGER) AS weight FROM products ORDER BY products.id

# jsonb aggregation
SELECT customers.country, jsonb_agg(jsonb_build_object('id', customers.id, 'name', customers.name) ORDER BY customers.id) AS people FROM customers GROUP BY customers.country ORDER BY customers.country

# array aggregation
SELECT orders.customer_id, array_agg(orders.id ORDER BY orders.id) AS ids FROM orders GROUP BY orders.customer_id ORDER BY orders.customer_id

# unnest
SELECT tag, count(*) AS n FROM products, unnest(products.tags) AS tag GROUP BY tag ORDER BY tag

# full text | chair
SELECT products.id, ts_rank(products.search, plainto_tsquery('simple', $1)) AS rank FROM products WHERE products.search @@ plainto_tsquery('simple', $1) ORDER BY products.id

# between and in | 10 | 50
SELECT products.sku FROM products WHERE products.price BETWEEN $1::numeric AND $2::numeric AND products.category IN ('light', 'storage') ORDER BY products.sku

# any of an array | {DE,AT}
SELECT count(*) AS n FROM customers WHERE customers.country = ANY ($1::varchar[])

# is distinct from
SELECT count(*) AS n FROM orders WHERE orders.comment IS DISTINCT FROM 'gift'

# insert from select with returning
BEGIN;; INSERT INTO order_items (order_id, product_id, quantity, price) SELECT 400, products.id, 1, products.price FROM products WHERE products.id = 40 ON CONFLICT (order_id, product_id) DO UPDATE SET quantity = order_items.quantity + excluded.quantity RETURNING order_items.quantity;; ROLLBACK

# update from with returning
BEGIN;; UPDATE orders SET comment = 'vip' FROM customers WHERE customers.id = orders.customer_id AND customers.balance > 700 RETURNING orders.id, customers.name;; ROLLBACK

# delete using
BEGIN;; DELETE FROM order_items USING orders WHERE orders.id = order_items.order_id AND orders.status = 'cancelled' RETURNING order_items.order_id, order_items.product_id;; ROLLBACK

# alembic version
SELECT alembic_version.version_num FROM alembic_version

# view with an entity
SELECT customer_totals.id, customer_totals.email, customer_totals.orders, customer_totals.spent FROM customer_totals WHERE customer_totals.orders > 3 ORDER BY customer_totals.spent DESC, customer_totals.id LIMIT 10
