set role shop_app;
create type mood as enum ('sad', 'ok', 'happy');
create type address as (street text, zip int);
create table things (
    id serial primary key, mood mood default 'ok', tags text[], home address, facts jsonb,
    day date, span int4range
);
insert into things (mood, tags, home, facts) values ('happy', '{a,b}', ('Main', 12), '{"x": 1}');
create index things_tags on things using gin (tags);
create view happy as select id, mood from things where mood = 'happy';
create function add(a int, b int) returns int language sql immutable as 'select a + b';
create table numbers as select n as id, repeat('x', 100) as pad from generate_series(1, 20000) n;
alter table numbers add primary key (id);
create sequence tickets start 60000;
create schema sales;
create table sales.leads (id int primary key generated always as identity, who text);
