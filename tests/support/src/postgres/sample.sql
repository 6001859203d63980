-- The shop that demo and tests work on.
create role shop_app login;
create database shop owner shop_app;
\connect shop
set role shop_app;

create table customers (id int primary key, name text not null, email text not null, ssn text not null);
insert into customers values
    (1, 'Ada Lovelace', 'ada@example.com', '078-05-1120'),
    (2, 'Grace Hopper', 'grace@example.com', '219-09-9999'),
    (3, 'Alan Turing', 'alan@example.com', '457-55-5462');

create table orders (
    id int primary key,
    customer_id int not null references customers,
    item text not null,
    amount numeric(10, 2) not null
);
insert into orders values
    (100, 1, 'analytical engine', 1815.12),
    (101, 2, 'nanosecond of wire', 0.30),
    (102, 2, 'moth tweezers', 9.09),
    (103, 3, 'paper tape', 19.36);

create table salaries (employee text primary key, amount int not null);
insert into salaries values ('Charles', 4000), ('Howard', 3600);
