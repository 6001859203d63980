// What node-pg does, with a protocol of its own. Each step that is right is named on a line.
'use strict';
const fs = require('fs');
const { Client } = require('pg');

const env = process.env;
// It reads libpq's variables, but knows other meanings of sslmode: said here in its own words.
const tls = {
  disable: () => false,
  require: () => ({ rejectUnauthorized: false }),
  'verify-full': () => ({ ca: fs.readFileSync(env.PGSSLROOTCERT) }),
}[env.PGSSLMODE]();

function step(name, good) {
  if (!good) throw new Error(`${name} went wrong`);
  console.log(name);
}

async function fails(state, running) {
  let error;
  try {
    await running;
  } catch (thrown) {
    error = thrown;
  }
  if (!error) throw new Error(`${state} did not come`);
  if (error.code !== state) throw new Error(`${error.code} in place of ${state}: ${error}`);
  return error;
}

const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);

async function main() {
  const connection = new Client({ ssl: tls });
  const bystander = new Client({ ssl: tls });
  connection.on('error', () => {});
  await connection.connect();
  await bystander.connect();
  console.log(connection.connection.stream.encrypted ? 'encrypted' : 'clear');
  const one = async (text, values) =>
    (await connection.query({ text, values, rowMode: 'array' })).rows[0];

  const many = await connection.query('select 1 as n; select 2 as n');
  step('simple', same(many.map((result) => result.rows), [[{ n: 1 }], [{ n: 2 }]]));
  const name = 'select name from customers where id = $1';
  step('parameter', same(await one(name, [1]), ['Ada Lovelace']));
  const names = [];
  for (const number of [1, 2, 1]) {
    const result = await connection.query({ name: 'by-id', text: name, values: [number] });
    names.push(result.rows[0].name);
  }
  step('prepared', same(names, ['Ada Lovelace', 'Grace Hopper', 'Ada Lovelace']));

  await connection.query('begin');
  const changed = await connection.query('update orders set item = $1 where id = $2', ['x', 100]);
  await connection.query('rollback');
  const item = await one('select item from orders where id = 100');
  step('rollback', changed.rowCount === 1 && same(item, ['analytical engine']));

  await fails('22012', connection.query('select 1 / $1::int', [0]));
  step('error', same(await one('select 1'), [1]));
  await connection.query('begin');
  await fails('42703', connection.query('select no_such_column from customers'));
  await fails('25P02', connection.query('select 1'));
  await connection.query('rollback');
  step('aborted', same(await one('select 2'), [2]));

  const when = new Date(Date.UTC(2024, 1, 29, 12, 34, 56, 789));
  const raw = Buffer.alloc(10240, Buffer.from([...Array(256).keys()]));
  const values = [null, -(2 ** 31), '9223372036854775807', "quo'te \\ back\nline Žluťoučký", '',
    raw, true, when, [1, null, 3], ['a', '', 'b"c,{}', null], { k: [1, 'x'] }];
  const kinds = 'text int bigint text text bytea bool timestamptz int[] text[] jsonb'.split(' ');
  const markers = kinds.map((kind, at) => `$${at + 1}::${kind}`).join(', ');
  step('types in text', same(await one(`select ${markers}`, values), values));
  // It reads few types in binary.
  const few = { text: 'select $1::int as n, $2::bool as b', values: [7, true], binary: true };
  step('types in binary', same((await connection.query(few)).rows, [{ n: 7, b: true }]));
  const large = 'x'.repeat(3 << 20);
  step('large', (await one('select $1::text', [large]))[0] === large);

  const queued = await Promise.all([1, 2, 3].map((n) => one('select $1::int', [n])));
  step('queue', same(queued, [[1], [2], [3]]));

  const sleeping = connection.query('select pg_sleep(600)');
  const asleep = "select pid from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
  while ((await bystander.query(asleep)).rowCount === 0);
  // Its cancel speaks no TLS.
  new Client({ ssl: false, sslnegotiation: 'postgres' }).cancel(connection, connection.activeQuery);
  await fails('57014', sleeping);
  step('cancel', same(await one('select 3'), [3]));

  const error = await fails('42501', connection.query('select * from salaries where amount > $1', [0]));
  step('refused', error.detail.includes('salaries-are-private') && error.hint.length > 0);
  await connection.query('begin');
  await fails('42501', connection.query('select * from salaries'));
  await fails('25P02', connection.query('select 1'));
  await connection.query('rollback');
  step('refused in a transaction', true);
  step('usable', same(await one('select $1::int', [4]), [4]));
  await connection.end();
  await bystander.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
