# entity by id | 12
select c1_0.id,c1_0.balance,c1_0.birthday,c1_0.city,c1_0.country,c1_0.email,c1_0.is_active,c1_0.name from customers c1_0 where c1_0.id=$1

# page with offset | DE | 10 | 5
select c1_0.id,c1_0.name,c1_0.email from customers c1_0 where c1_0.country=$1 order by c1_0.name,c1_0.id offset $3 rows fetch first $2 rows only

# fetch join
select o1_0.id,c1_0.id,c1_0.email,c1_0.name,o1_0.placed_at,o1_0.status,o1_0.total from orders o1_0 join customers c1_0 on c1_0.id=o1_0.customer_id where o1_0.total>100 order by o1_0.id

# entity graph of three tables
select o1_0.id,i1_0.product_id,i1_0.quantity,p1_0.name,p1_0.sku from orders o1_0 left join order_items i1_0 on o1_0.id=i1_0.order_id left join products p1_0 on p1_0.id=i1_0.product_id where o1_0.id in (1,2,3) order by o1_0.id,i1_0.product_id

# element collection by batch | 3 | 4
select i1_0.order_id,i1_0.product_id,i1_0.quantity from order_items i1_0 where i1_0.order_id in ($1,$2) order by 1,2

# jpql aggregate
select c1_0.country,count(distinct o1_0.id),avg(o1_0.total) from customers c1_0 join orders o1_0 on o1_0.customer_id=c1_0.id group by c1_0.country order by c1_0.country

# dto projection with concat
select ((c1_0.name||' ')||c1_0.city),sum(o1_0.total) from customers c1_0 join orders o1_0 on o1_0.customer_id=c1_0.id group by c1_0.name,c1_0.city order by 1

# like with escape | %chai%
select p1_0.id from products p1_0 where p1_0.name like $1 escape '\' order by p1_0.id

# in subquery
select c1_0.id,c1_0.name from customers c1_0 where c1_0.id in (select o1_0.customer_id from orders o1_0 where o1_0.total>350) order by c1_0.id

# all and any
select p1_0.id from products p1_0 where p1_0.price>=all (select p2_0.price from products p2_0) order by 1

# member of with exists
select c1_0.id from customers c1_0 where exists(select 1 from orders o1_0 where o1_0.customer_id=c1_0.id and o1_0.status='paid') order by c1_0.id

# ~ next value of a sequence
select nextval('invoice_numbers')

# pessimistic lock without wait
BEGIN;; select o1_0.id,o1_0.total from orders o1_0 where o1_0.id=3 for no key update nowait;; ROLLBACK

# versioned update
BEGIN;; update orders set comment='y',total=7 where id=4 and total>=0;; ROLLBACK

# bulk delete
BEGIN;; delete from order_items i1_0 where i1_0.order_id in (select o1_0.id from orders o1_0 where o1_0.status='cancelled');; ROLLBACK

# inline cast of a masked date
select cast(c1_0.birthday as varchar),c1_0.id from customers c1_0 order by c1_0.id

# null order of a masked column
select c1_0.id from customers c1_0 order by c1_0.phone desc nulls last,c1_0.id

# masked column between
select count(*) from customers c1_0 where c1_0.birthday between date '1955-01-01' and date '1960-12-31'

# listagg
select c1_0.country,string_agg(c1_0.name,', ' order by c1_0.id) from customers c1_0 group by c1_0.country order by 1

# flyway history
select "installed_rank","version","description","success" from "public"."flyway_schema_history" where "installed_rank" > -1 order by "installed_rank"

# connection check
SELECT 1

# entity with masked columns and a formula
select c1_0.id,upper(c1_0.email),length(c1_0.ssn),coalesce(c1_0.note,'') from customers c1_0 order by c1_0.id

# join of two masked relations on a joinable hash
select c1_0.id,l1_0.points from customers c1_0 join loyalty l1_0 on l1_0.tax_id=c1_0.tax_id order by c1_0.id

# timestamp arithmetic
select o1_0.id,(o1_0.placed_at + interval '7' day) from orders o1_0 where o1_0.placed_at < timestamp with time zone '2024-02-01 00:00:00+00' order by o1_0.id
