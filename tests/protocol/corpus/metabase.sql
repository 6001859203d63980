# customers by country
SELECT "source"."country" AS "country", COUNT(*) AS "count" FROM (SELECT "public"."customers"."country" AS "country", "public"."customers"."email" AS "email" FROM "public"."customers") AS "source" GROUP BY "source"."country" ORDER BY "count" DESC, "source"."country" ASC

# table preview
SELECT "public"."customers"."id" AS "id", "public"."customers"."name" AS "name", "public"."customers"."email" AS "email", "public"."customers"."phone" AS "phone", "public"."customers"."ssn" AS "ssn", "public"."customers"."birthday" AS "birthday", "public"."customers"."city" AS "city" FROM "public"."customers" ORDER BY "public"."customers"."id" ASC LIMIT 2000

# table preview of everything
SELECT * FROM customers ORDER BY id LIMIT 1001

# orders by month
SELECT CAST(DATE_TRUNC('month', "public"."orders"."placed_at") AS date) AS "placed_at", SUM("public"."orders"."total") AS "sum" FROM "public"."orders" GROUP BY CAST(DATE_TRUNC('month', "public"."orders"."placed_at") AS date) ORDER BY CAST(DATE_TRUNC('month', "public"."orders"."placed_at") AS date) ASC

# orders by quarter
SELECT DATE_TRUNC('quarter', "public"."orders"."placed_at") AS q, COUNT(*) AS n FROM "public"."orders" GROUP BY 1 ORDER BY 1

# orders by day of the week
SELECT (CAST(extract(dow from "public"."orders"."placed_at") AS integer) + 1) AS "placed_at", COUNT(*) AS "count" FROM "public"."orders" GROUP BY 1 ORDER BY 1 ASC

# join with a group
SELECT "Customers"."country" AS "Customers__country", SUM("public"."orders"."total") AS "sum" FROM "public"."orders" LEFT JOIN "public"."customers" AS "Customers" ON "public"."orders"."customer_id" = "Customers"."id" GROUP BY "Customers"."country" ORDER BY "Customers"."country" ASC

# join with masked columns shown
SELECT "public"."orders"."id" AS "id", "Customers"."email" AS "Customers__email", "Customers"."ssn" AS "Customers__ssn" FROM "public"."orders" LEFT JOIN "public"."customers" AS "Customers" ON "public"."orders"."customer_id" = "Customers"."id" ORDER BY "public"."orders"."id" ASC LIMIT 200

# bins of a number
SELECT FLOOR(("public"."orders"."total" / 50)) * 50 AS "total", COUNT(*) AS "count" FROM "public"."orders" GROUP BY 1 ORDER BY 1 ASC

# distinct values of a field
SELECT "public"."customers"."city" AS "city" FROM "public"."customers" GROUP BY "public"."customers"."city" ORDER BY "public"."customers"."city" ASC LIMIT 1000

# distinct values of a masked field
SELECT "public"."customers"."birthday" AS "birthday" FROM "public"."customers" GROUP BY "public"."customers"."birthday" ORDER BY "public"."customers"."birthday" ASC LIMIT 1000

# fingerprint of text columns
SELECT SUBSTRING("public"."customers"."name", 1, 1234) AS "substring1", SUBSTRING("public"."customers"."email", 1, 1234) AS "substring2" FROM "public"."customers" ORDER BY "public"."customers"."id" LIMIT 10000

# count distinct and share
SELECT COUNT(DISTINCT "public"."orders"."customer_id") AS "count", SUM(CASE WHEN "public"."orders"."status" = 'paid' THEN 1 ELSE 0.0 END) / COUNT(*) AS "share" FROM "public"."orders"

# percentiles
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) AS median, percentile_disc(0.95) WITHIN GROUP (ORDER BY total) AS p95, stddev_samp(total) AS sd FROM orders

# moving average
SELECT d, n, AVG(n) OVER (ORDER BY d ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS moving FROM (SELECT CAST(placed_at AS date) AS d, COUNT(*) AS n FROM orders GROUP BY 1) AS daily ORDER BY d

# cohort retention
WITH first AS (SELECT customer_id, MIN(DATE_TRUNC('month', placed_at)) AS cohort FROM orders GROUP BY 1), activity AS (SELECT o.customer_id, DATE_TRUNC('month', o.placed_at) AS month FROM orders o GROUP BY 1, 2) SELECT f.cohort, COUNT(DISTINCT a.customer_id) AS active, EXTRACT(month FROM AGE(a.month, f.cohort)) + 12 * EXTRACT(year FROM AGE(a.month, f.cohort)) AS offset_months FROM first f JOIN activity a USING (customer_id) GROUP BY 1, 3 ORDER BY 1, 3

# funnel
SELECT COUNT(DISTINCT CASE WHEN kind = 'view' THEN customer_id END) AS viewed, COUNT(DISTINCT CASE WHEN kind = 'click' THEN customer_id END) AS clicked, COUNT(DISTINCT CASE WHEN kind = 'buy' THEN customer_id END) AS bought FROM events

# top n per group
SELECT * FROM (SELECT country, name, balance, RANK() OVER (PARTITION BY country ORDER BY balance DESC, id) AS r FROM customers) AS ranked WHERE r <= 3 ORDER BY country, r

# year over year
SELECT month, revenue, LAG(revenue) OVER (ORDER BY month) AS before, revenue - LAG(revenue) OVER (ORDER BY month) AS growth FROM monthly_sales ORDER BY month

# materialized view of contacts
SELECT * FROM contacts ORDER BY id

# view
SELECT country, SUM(spent) AS spent, SUM(orders) AS orders FROM customer_totals GROUP BY country ORDER BY country

# series filled with zeroes
SELECT s.day::date AS day, COALESCE(n, 0) AS n FROM generate_series(date '2024-01-01', date '2024-02-01', interval '1 day') AS s(day) LEFT JOIN (SELECT placed_at::date AS day, COUNT(*) AS n FROM orders GROUP BY 1) AS o ON o.day = s.day::date ORDER BY 1

# pareto
WITH spent AS (SELECT customer_id, SUM(total) AS total FROM orders GROUP BY 1) SELECT NTILE(10) OVER (ORDER BY total DESC, customer_id) AS decile, customer_id, ROUND(100 * total / SUM(total) OVER (), 3) AS share FROM spent ORDER BY 1, 2

# json fields
SELECT payload ->> 'page' AS page, AVG(CAST(payload ->> 'ms' AS numeric)) AS ms FROM events GROUP BY 1 ORDER BY 2 DESC, 1

# basket pairs
SELECT a.product_id AS a, b.product_id AS b, COUNT(*) AS n FROM order_items a JOIN order_items b ON a.order_id = b.order_id AND a.product_id < b.product_id GROUP BY 1, 2 HAVING COUNT(*) > 5 ORDER BY 3 DESC, 1, 2

# spend by masked decade of birth
SELECT EXTRACT(decade FROM c.birthday) AS decade, COUNT(DISTINCT c.id) AS customers, SUM(o.total) AS spent FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY 1 ORDER BY 1

# mail providers by revenue
SELECT substring(c.email from '@(.*)$') AS provider, ROUND(SUM(o.total), 2) AS revenue FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY 1 ORDER BY 2 DESC

# points by joinable hash
SELECT c.country, SUM(l.points) AS points, COUNT(*) AS members FROM customers c JOIN loyalty l ON c.tax_id = l.tax_id GROUP BY 1 ORDER BY 1

# distinct hashes
SELECT COUNT(DISTINCT tax_id) FROM customers

# customers without a membership by hash
SELECT COUNT(*) FROM customers c WHERE NOT EXISTS (SELECT FROM loyalty l WHERE l.tax_id = c.tax_id)

# superset time grain
SELECT DATE_TRUNC('week', placed_at) AS __timestamp, status AS status, sum(total) AS "SUM(total)" FROM public.orders WHERE placed_at >= TO_TIMESTAMP('2024-03-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') AND placed_at < TO_TIMESTAMP('2024-06-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY status, DATE_TRUNC('week', placed_at) ORDER BY 1, 2 LIMIT 10000

# superset virtual table
SELECT country AS country, avg(balance) AS "AVG(balance)" FROM (select country, balance, email from customers where is_active) AS virtual_table GROUP BY country ORDER BY "AVG(balance)" DESC LIMIT 50000

# grafana time series
SELECT floor(extract(epoch from at)/86400)*86400 AS "time", kind AS metric, count(*) AS value FROM events WHERE at BETWEEN '2024-04-01T00:00:00Z' AND '2024-04-20T00:00:00Z' GROUP BY 1, 2 ORDER BY 1, 2

# pivot by filters
SELECT country, SUM(total) FILTER (WHERE EXTRACT(year FROM placed_at) = 2024) AS y2024, SUM(total) FILTER (WHERE EXTRACT(year FROM placed_at) = 2025) AS y2025 FROM orders JOIN customers ON customers.id = orders.customer_id GROUP BY country ORDER BY country

# cube
SELECT country, is_active, COUNT(*) FROM customers GROUP BY CUBE (country, is_active) ORDER BY 1 NULLS LAST, 2 NULLS LAST

# correlation
SELECT CORR(total, EXTRACT(hour FROM placed_at))::numeric(10,6) AS c, REGR_SLOPE(total, id)::numeric(10,6) AS s FROM orders

# histogram
SELECT width_bucket(balance, -200, 800, 10) AS bucket, COUNT(*) FROM customers GROUP BY 1 ORDER BY 1

# a call of a function of the site
SELECT id, discount(total, 10) AS reduced FROM orders ORDER BY id LIMIT 20
