# an object by its key | 7
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."country", "customers"."city", "customers"."balance", "customers"."is_active", "customers"."created_at" FROM "customers" WHERE "customers"."id" = $1 LIMIT 21

# all columns of the model that can be named
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."ssn", "customers"."birthday", "customers"."note", "customers"."country" FROM "customers" ORDER BY "customers"."id" ASC LIMIT 100

# filter and order | DE | 10
SELECT "customers"."id", "customers"."name" FROM "customers" WHERE ("customers"."country" = $1 AND "customers"."is_active") ORDER BY "customers"."created_at" DESC, "customers"."id" ASC LIMIT $2

# exists | 3
SELECT 1 AS "a" FROM "orders" WHERE "orders"."customer_id" = $1 LIMIT 1

# count
SELECT COUNT(*) AS "__count" FROM "customers"

# count of a filtered query set | 100
SELECT COUNT(*) AS "__count" FROM "customers" WHERE "customers"."balance" >= $1

# select related
SELECT "orders"."id", "orders"."customer_id", "orders"."status", "orders"."total", "orders"."placed_at", "customers"."id", "customers"."name", "customers"."email", "customers"."birthday" FROM "orders" INNER JOIN "customers" ON ("orders"."customer_id" = "customers"."id") WHERE "orders"."status" = 'paid' ORDER BY "orders"."id" ASC LIMIT 50

# prefetch related
SELECT "orders"."id", "orders"."customer_id", "orders"."total" FROM "orders" WHERE "orders"."customer_id" IN (1, 2, 3, 4, 5) ORDER BY "orders"."id" ASC

# many to many through
SELECT ("order_items"."order_id") AS "_prefetch_related_val_order_id", "products"."id", "products"."sku", "products"."name" FROM "products" INNER JOIN "order_items" ON ("products"."id" = "order_items"."product_id") WHERE "order_items"."order_id" IN (1, 2, 3) ORDER BY "products"."id" ASC, 1

# annotate with a count
SELECT "customers"."id", "customers"."name", "customers"."email", COUNT("orders"."id") AS "n" FROM "customers" LEFT OUTER JOIN "orders" ON ("customers"."id" = "orders"."customer_id") GROUP BY "customers"."id", "customers"."name", "customers"."email" ORDER BY "n" DESC, "customers"."id" ASC LIMIT 10

# annotate with a count, grouped by the primary key alone
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."birthday", COUNT("orders"."id") AS "n" FROM "customers" LEFT OUTER JOIN "orders" ON ("customers"."id" = "orders"."customer_id") GROUP BY "customers"."id" HAVING COUNT("orders"."id") > 2 ORDER BY "customers"."name" ASC, "customers"."id" ASC LIMIT 10

# annotate with a count, grouped by number
SELECT "customers"."id" AS "col1", "customers"."email" AS "col2", COUNT("orders"."id") AS "n" FROM "customers" LEFT OUTER JOIN "orders" ON ("customers"."id" = "orders"."customer_id") GROUP BY 1 ORDER BY 1 ASC

# aggregate
SELECT SUM("orders"."total") AS "total__sum", AVG("orders"."total") AS "total__avg", MAX("orders"."placed_at") AS "last" FROM "orders"

# subquery annotation
SELECT "customers"."id", (SELECT U0."placed_at" FROM "orders" U0 WHERE U0."customer_id" = ("customers"."id") ORDER BY U0."placed_at" DESC LIMIT 1) AS "newest" FROM "customers" ORDER BY "customers"."id" ASC

# exists annotation
SELECT "customers"."id", EXISTS(SELECT 1 AS "a" FROM "orders" U0 WHERE (U0."customer_id" = ("customers"."id") AND U0."status" = 'cancelled') LIMIT 1) AS "cancels" FROM "customers" ORDER BY 1

# truncated dates
SELECT DATE_TRUNC('month', "orders"."placed_at" AT TIME ZONE 'UTC') AS "month", COUNT("orders"."id") AS "c" FROM "orders" GROUP BY 1 ORDER BY 1 ASC

# extracted year | 2024
SELECT "orders"."id" FROM "orders" WHERE EXTRACT(YEAR FROM "orders"."placed_at" AT TIME ZONE 'UTC') = $1 ORDER BY "orders"."id"

# icontains | %chair%
SELECT "products"."id", "products"."name" FROM "products" WHERE UPPER("products"."name"::text) LIKE UPPER($1) ORDER BY "products"."id"

# icontains of a masked column | %example.com%
SELECT "customers"."id", "customers"."email" FROM "customers" WHERE UPPER("customers"."email"::text) LIKE UPPER($1) ORDER BY "customers"."id"

# json key | red
SELECT "products"."id", "products"."sku" FROM "products" WHERE ("products"."attributes" ->> 'colour') = $1 ORDER BY "products"."id"

# json contains
SELECT "products"."id" FROM "products" WHERE "products"."attributes" @> '{"colour": "blue"}' ORDER BY "products"."id"

# array overlap
SELECT "products"."id" FROM "products" WHERE "products"."tags" && ARRAY['sale']::text[] ORDER BY "products"."id"

# conditional expression
SELECT "customers"."id", CASE WHEN "customers"."balance" < 0 THEN 'debt' WHEN "customers"."balance" = 0 THEN 'even' ELSE 'credit' END AS "state" FROM "customers" ORDER BY "customers"."id"

# window function
SELECT "orders"."id", ROW_NUMBER() OVER (PARTITION BY "orders"."customer_id" ORDER BY "orders"."placed_at" DESC) AS "rank" FROM "orders" ORDER BY "orders"."id" ASC

# union
(SELECT "customers"."id" AS "col1", "customers"."name" AS "col2" FROM "customers" WHERE "customers"."country" = 'DE') UNION (SELECT "customers"."id" AS "col1", "customers"."name" AS "col2" FROM "customers" WHERE "customers"."city" = 'Wien') ORDER BY 1 ASC

# distinct on
SELECT DISTINCT ON ("orders"."customer_id") "orders"."customer_id", "orders"."id", "orders"."total" FROM "orders" ORDER BY "orders"."customer_id" ASC, "orders"."placed_at" DESC

# select for update in a transaction
BEGIN;; SELECT "orders"."id", "orders"."status" FROM "orders" WHERE "orders"."id" = 5 LIMIT 21 FOR UPDATE;; ROLLBACK

# save of an order | paid | 5
UPDATE "orders" SET "status" = $1::order_status, "paid_on" = '2024-05-05'::date WHERE "orders"."id" = $2

# f expression
BEGIN;; UPDATE "customers" SET "balance" = ("customers"."balance" + 10) WHERE "customers"."id" = 3;; SELECT "customers"."balance" FROM "customers" WHERE "customers"."id" = 3;; ROLLBACK

# ~ create of an order
BEGIN;; INSERT INTO "orders" ("customer_id", "status", "total", "comment", "placed_at") VALUES (5, 'new', '12.50', NULL, '2025-01-01T00:00:00+00:00'::timestamptz) RETURNING "orders"."id";; ROLLBACK

# bulk create
BEGIN;; INSERT INTO "order_items" ("order_id", "product_id", "quantity", "price") VALUES (500, 39, 1, 2.00), (500, 38, 2, 3.00) ON CONFLICT DO NOTHING;; SELECT count(*) FROM order_items WHERE order_id = 500;; ROLLBACK

# savepoints
BEGIN;; SAVEPOINT "s139_x1";; UPDATE "products" SET "price" = 9.99 WHERE "products"."id" IN (1);; RELEASE SAVEPOINT "s139_x1";; ROLLBACK

# migrations recorder
SELECT "django_migrations"."id", "django_migrations"."app", "django_migrations"."name", "django_migrations"."applied" FROM "django_migrations"

# create of a customer with all its columns
BEGIN;; INSERT INTO "customers" ("name", "email", "phone", "ssn", "birthday", "country", "created_at") VALUES ('x', 'x@y.z', '', '', NULL, 'DE', '2025-01-01 00:00+00');; ROLLBACK
