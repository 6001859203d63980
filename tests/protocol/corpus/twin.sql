SET ROLE trusted;
DROP INDEX customers_phone_idx;
UPDATE customers SET
    email = left(email, 1) || '***@' || split_part(email, '@', 2),
    phone = left(phone, 3) || '****',
    ssn = '****' || right(ssn, 4),
    tax_id = left(md5(tax_id), 16),
    birthday = date_trunc('year', birthday)::date,
    note = 'not shown';
UPDATE loyalty SET tax_id = left(md5(tax_id), 16);
ALTER TABLE customers DROP COLUMN pin;
REFRESH MATERIALIZED VIEW contacts;
RESET ROLE;
ANALYZE;
