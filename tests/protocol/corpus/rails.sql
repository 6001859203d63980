# find | 4 | 1
SELECT "customers".* FROM "customers" WHERE "customers"."id" = $1 LIMIT $2

# where and order | DE | 25
SELECT "customers".* FROM "customers" WHERE "customers"."country" = $1 ORDER BY "customers"."created_at" DESC, "customers"."id" DESC LIMIT $2

# find by a masked column | c***@example.com | 1
SELECT "customers".* FROM "customers" WHERE "customers"."email" = $1 ORDER BY "customers"."id" ASC LIMIT $2

# includes | 1 | 2 | 3
SELECT "orders".* FROM "orders" WHERE "orders"."customer_id" IN ($1, $2, $3) ORDER BY "orders"."id"

# eager load with aliases
SELECT "customers"."id" AS t0_r0, "customers"."name" AS t0_r1, "customers"."email" AS t0_r2, "orders"."id" AS t1_r0, "orders"."total" AS t1_r1 FROM "customers" LEFT OUTER JOIN "orders" ON "orders"."customer_id" = "customers"."id" WHERE "customers"."country" = 'AT' ORDER BY "customers"."id", "orders"."id"

# pluck
SELECT "customers"."id", "customers"."name" FROM "customers" WHERE "customers"."is_active" = TRUE ORDER BY "customers"."id"

# exists | 5 | 1
SELECT 1 AS one FROM "customers" WHERE "customers"."id" = $1 LIMIT $2

# count with distinct
SELECT COUNT(DISTINCT "orders"."customer_id") FROM "orders" WHERE "orders"."placed_at" BETWEEN '2024-02-01 00:00:00' AND '2024-03-01 00:00:00'

# group count
SELECT COUNT(*) AS "count_all", "orders"."status" AS "orders_status" FROM "orders" GROUP BY "orders"."status" ORDER BY 2

# sum grouped by month
SELECT SUM("orders"."total") AS "sum_total", DATE_TRUNC('month', "orders"."placed_at"::timestamptz AT TIME ZONE 'Etc/UTC') AT TIME ZONE 'Etc/UTC' AS "month" FROM "orders" GROUP BY 2 ORDER BY 2

# having
SELECT "orders"."customer_id" FROM "orders" GROUP BY "orders"."customer_id" HAVING (count(*) > 4) ORDER BY 1

# not exists scope
SELECT "customers"."id" FROM "customers" WHERE NOT EXISTS (SELECT 1 FROM "orders" WHERE "orders"."customer_id" = "customers"."id" AND "orders"."status" = 'shipped') ORDER BY 1

# find each in batches | 50 | 20
SELECT "customers".* FROM "customers" WHERE "customers"."id" > $1 ORDER BY "customers"."id" ASC LIMIT $2

# merge of scopes
SELECT DISTINCT "customers"."id", "customers"."name" FROM "customers" INNER JOIN "orders" ON "orders"."customer_id" = "customers"."id" INNER JOIN "order_items" ON "order_items"."order_id" = "orders"."id" WHERE "order_items"."product_id" = 3 AND "orders"."status" != 'cancelled' ORDER BY "customers"."id"

# enum scope
SELECT "orders".* FROM "orders" WHERE "orders"."status" IN ('new', 'paid') ORDER BY "orders"."id" LIMIT 40

# lock
BEGIN;; SELECT "orders".* FROM "orders" WHERE "orders"."id" = 10 LIMIT 1 FOR UPDATE;; ROLLBACK

# update
BEGIN;; UPDATE "orders" SET "total" = 1.5, "comment" = 'x' WHERE "orders"."id" = 10;; SELECT "orders"."total" FROM "orders" WHERE "orders"."id" = 10;; ROLLBACK

# touch of a customer
BEGIN;; UPDATE "customers" SET "created_at" = '2025-01-01 00:00:00' WHERE "customers"."id" = 2;; ROLLBACK

# destroy of a customer
BEGIN;; DELETE FROM "customers" WHERE "customers"."id" = 120;; SELECT COUNT(*) FROM "orders";; ROLLBACK

# increment
BEGIN;; UPDATE "products" SET "price" = COALESCE("products"."price", 0) + 1 WHERE "products"."id" = 2;; SELECT price FROM products WHERE id = 2;; ROLLBACK

# upsert all
BEGIN;; INSERT INTO "products" ("sku", "name", "category", "price") VALUES ('SKU-0001', 'x', 'light', 5) ON CONFLICT ("sku") DO UPDATE SET "name"=excluded."name","price"=excluded."price" RETURNING "id";; ROLLBACK

# destroy
BEGIN;; DELETE FROM "order_items" WHERE "order_items"."order_id" = 7;; DELETE FROM "orders" WHERE "orders"."id" = 7;; ROLLBACK

# schema migrations
SELECT "schema_migrations"."version" FROM "schema_migrations" ORDER BY "schema_migrations"."version" ASC

# internal metadata | environment
SELECT "ar_internal_metadata".* FROM "ar_internal_metadata" WHERE "ar_internal_metadata"."key" = $1 ORDER BY "ar_internal_metadata"."key" ASC LIMIT 1

# jsonb where
SELECT "events"."id" FROM "events" WHERE (payload->>'page' = '/p/3') AND "events"."kind" = 'buy' ORDER BY "events"."id"

# partition by date range
SELECT COUNT(*) FROM "events" WHERE "events"."at" >= '2024-05-01 00:00:00+00' AND "events"."at" < '2024-06-01 00:00:00+00'

# random order with a subquery
SELECT COUNT(*) FROM (SELECT 1 AS one FROM "customers" ORDER BY RANDOM() LIMIT 5) subquery_for_count

# group by the primary key with all columns
SELECT customers.*, COUNT(orders.id) AS orders_count FROM "customers" INNER JOIN "orders" ON "orders"."customer_id" = "customers"."id" GROUP BY "customers"."id" ORDER BY "customers"."id" ASC LIMIT 20

# explain
EXPLAIN (COSTS OFF) SELECT "products".* FROM "products" WHERE "products"."sku" = 'SKU-0003'
