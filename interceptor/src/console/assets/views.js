// The views: each makes the content of the page from what the daemon answers.

import { signed } from './factor.js';
import { api, el, link, plain, rows, say, text, when } from './page.js';

export const person = (by) => plain(by.login
  ? `${by.login.by}:${by.login.identity.user ?? by.login.identity.subject}`
  : by.name ?? (by.uid === 0 ? 'root' : `uid ${by.uid}`));

const group = (need) => {
  const groups = need.groups.join(' or ');
  const later = need.later ? `, after ${need.later.after} s also ${need.later.groups.join(' or ')}` : '';
  return `${need.count === 1 ? groups : `${need.count} of ${groups}`}${later}`;
};

export const needs = (all) => plain(all.map((ways) => ways.map(group).join(' or ')).join(', and '));

export function state(one) {
  const said = (yes) => one.answers.filter((answer) => answer.yes === yes).map((answer) => person(answer.by)).join(', ');
  switch (one.state.is) {
    case 'open':
      return one.answers.length
        ? `open, ${one.waiting} waiting, approved by ${said(true)} so far`
        : `open, ${one.waiting} waiting`;
    case 'approved':
      return one.state.shape
        ? `approved by ${said(true)} for its shape`
        : `approved by ${said(true)}, for ${one.state.left} more`;
    case 'denied': return `denied by ${said(false)}`;
    default: return `over: ${one.state.why}`;
  }
}

// For how long the rules let an answer cover other literals, in seconds; nothing where one does not.
function longestShape(all) {
  const each = all.map((ways) => Math.max(0, ...ways.map((need) => need.shape ?? 0)));
  return each.length ? Math.min(...each) : 0;
}

const place = (one) => plain(one.database ? `${one.target}/${one.database}` : one.target);

export function approvals(all) {
  const open = all.filter((one) => one.state.is === 'open');
  const rest = all.filter((one) => one.state.is !== 'open');
  const item = (one) => el('li', { id: `q-${one.id}` },
    el('p', null, link(`#/approvals/${one.id}`, `${plain(one.summary)} on ${place(one)}`), ` for ${plain(one.holder.agent)}`,
      one.on_behalf_of && ` on behalf of ${named(one.on_behalf_of)}`),
    el('p', null, el('code', null, plain(one.text.slice(0, 300)))),
    el('p', { className: 'quiet' }, `${state(one)}; needs ${needs(one.needs)}; asked `, when(one.asked)));
  const list = (which) => el('ul', { className: 'list' }, which.map(item));
  return [
    el('h2', null, 'What waits for people'),
    open.length ? list(open) : el('p', { className: 'quiet' }, 'Nothing waits for an approval.'),
    rest.length ? el('h3', null, 'Answered a while ago') : undefined,
    rest.length ? list(rest) : undefined,
  ];
}

// Whom an issuer vouches for.
const named = (identity) => plain(`${identity.user ?? identity.subject} of ${identity.issuer}`);

function who(one) {
  const of = one.principal ?? {};
  const process = of.process ?? {};
  const program = process.executable ?? {};
  const identity = of.identity;
  return rows(
    ['agent', plain(one.holder.agent)],
    ['for', identity && named(identity)],
    ['on behalf of', one.on_behalf_of && named(one.on_behalf_of)],
    ['user', text(of.user?.name ?? one.uid)],
    ['executable', text(program.path)],
    ['SHA-256', text(program.sha256 ?? one.sha256)],
    ['arguments', process.argv && plain(JSON.stringify(process.argv))],
    ['process', text(process.pid)],
    ['ancestors', of.ancestors?.length && el('ol', null, of.ancestors.map((up) =>
      el('li', null, plain(`${up.executable?.path} [${up.pid}] ${up.executable?.sha256 ?? ''}`))))],
    ['cgroup', text(one.holder.cgroup)],
    ['container', of.container && plain(JSON.stringify(of.container))],
    ['it is', of.workload && plain(Object.entries(of.workload).map(([name, value]) => `${name}: ${value}`).join(', '))],
  );
}

export function approval({ standing: one, before, shown }, answered) {
  const status = el('p', { id: 'state', tabIndex: -1 }, state(one));
  return [
    el('h2', null, `${plain(one.summary)} on ${place(one)}`),
    status,
    el('h3', null, 'Exactly this'),
    el('pre', { tabIndex: 0, 'aria-label': 'The exact text' }, plain(one.text)),
    one.values && rows(...one.values.map((value, at) =>
      [`$${at + 1}`, el('code', null, value === null ? 'NULL' : plain(value))])),
    el('p', { id: 'touches', 'aria-live': 'polite' }, touches(one)),
    answering(one, shown, answered),
    el('h3', null, 'Who asks'),
    who(one),
    el('h3', null, 'How the server would do it'),
    el('pre', { id: 'plan', tabIndex: 0, 'aria-label': 'The plan of the server' }, plan(one) || 'not known'),
    el('h3', null, 'And'),
    rows(
      ['normalized', one.shape !== one.text ? el('code', null, plain(one.shape)) : undefined],
      ['needs', needs(one.needs)],
      ['by rule', plain(one.needs.flat().map((need) => need.rule).join(', '))],
      ['asked', when(one.asked)],
      ['until', when(one.expires)],
      ['asked so often', String(one.times)],
      ['read under', one.under.length ? el('ul', null, one.under.map((line) => el('li', null, el('code', null, plain(line))))) : undefined],
      ['fingerprint', plain(one.fingerprint)],
      ['name', one.id],
    ),
    one.answers.length ? el('h3', null, 'Said so far') : undefined,
    el('ul', null, one.answers.map((said) => el('li', null,
      `${said.yes ? 'yes' : 'no'}${said.break_glass ? ', as an emergency' : ''}, by ${person(said.by)} `,
      when(said.at), said.reason ? `: ${plain(said.reason)}` : ''))),
    before.length ? el('h3', null, 'Asked before') : undefined,
    el('ul', { className: 'list' }, before.map((one) => el('li', null,
      el('p', null, when(one.asked), ` ${state(one)}`), el('p', null, el('code', null, plain(one.text)))))),
    el('p', null, link('#/approvals', 'Back to the list')),
  ];
}

// What the server says of it, as of when it was asked.
export function touches({ touches: known }) {
  if (!known) return 'What it would touch is not known.';
  const { counted, more_than: more, not_counted: why } = known.rows;
  if (why !== undefined) return `What it would touch was not counted: ${plain(why)}.`;
  return `It would touch ${counted === undefined ? `more than ${more}` : counted} ${counted === 1 ? 'row' : 'rows'}.`;
}

export const plan = ({ touches: known }) => plain((known?.plan ?? []).join('\n'));

// What is said counts when its button is pressed, and never before.
function answering(one, shown, answered) {
  if (one.state.is === 'approved') return back(one, answered);
  if (one.state.is !== 'open') return undefined;
  const reason = el('input', { id: 'reason', name: 'reason', maxLength: 1000, autocomplete: 'off' });
  const times = el('input', { id: 'times', type: 'number', min: 1, max: 9999, value: 1 });
  const longest = one.varies ? longestShape(one.needs) : 0;
  const shape = el('input', { id: 'shape', placeholder: 'nothing but this', autocomplete: 'off' });
  const alone = el('input', { id: 'alone', type: 'checkbox' });
  const yes = el('button', { type: 'submit', className: 'yes', id: 'approve' }, 'Approve');
  const no = el('button', { type: 'button', className: 'no', id: 'deny' }, 'Deny');
  const proof = one.needs.flat().some((need) => need.second_factor);
  const send = async (says) => {
    yes.disabled = true;
    no.disabled = true;
    const body = { approval: one.id, yes: says, times: says ? Number(times.value) || 1 : 0 };
    if (says) body.shown = form.dataset.shown;
    if (reason.value.trim()) body.reason = reason.value.trim();
    if (says && shape.value.trim()) body.shape = shape.value.trim();
    if (says && alone.checked) body.break_glass = true;
    try {
      if (says && proof) {
        say('Touch your key.');
        body.factor = await signed(await api('/api/factors/challenge', { say: body, shown: form.dataset.shown }));
      }
      answered(await api('/api/approvals/answer', body));
    } catch (error) {
      say(error.message, true);
      yes.disabled = false;
      no.disabled = false;
    }
  };
  no.addEventListener('click', () => send(false));
  const form = el('form', { 'aria-label': 'Your answer', id: 'answer', 'data-shown': shown },
    proof ? el('p', null, 'A yes takes your key.') : undefined,
    el('label', null, 'Reason; the agent is told it with a no', reason),
    el('label', null, 'How many that wait', times),
    longest ? el('label', null, `Other literals for, at most ${longest} s`, shape) : undefined,
    el('label', { className: 'row' }, alone, 'An emergency: in place of everybody else’s answer; needs a reason'),
    yes, no);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send(true);
  });
  return form;
}

// What was said too soon: a yes that holds is taken back, and what goes on by it ends.
export function back(one, answered) {
  return el('p', { id: 'back' }, twice('Take back', `Take back the yes to ${one.id}`, async () => {
    answered(await api('/api/approvals/revoke', { approval: one.id }));
  }));
}

const counted = (used, most) => (most === undefined || most === null ? undefined : `${used ?? 0} of ${most}`);

export function grants(all, again) {
  const item = (one) => el('li', null,
    el('p', null, el('strong', null, plain(one.holder.agent)), ` may ${plain(one.actions.join(', '))} on ${place(one)} `,
      el('code', null, plain(JSON.stringify(one.resource)))),
    rows(
      ['on behalf of', one.on_behalf_of && named(one.on_behalf_of)],
      ['from', one.begins && when(one.begins)],
      ['until', when(one.expires)],
      ['reason', text(one.reason)],
      ['ticket', text(one.ticket)],
      ['uses', counted(one.used, one.uses)],
      ['rows', counted(one.used_rows, one.rows)],
      ['bytes', counted(one.used_bytes, one.bytes)],
      ['name', one.id],
    ),
    twice('Revoke', `Revoke the grant ${one.id}`, async () => {
      await api('/api/grants/revoke', { grant: one.id });
      say('The grant is revoked, and what lived on it has ended.');
      again();
    }));
  return [
    el('h2', null, 'What is granted'),
    all.length ? el('ul', { className: 'list' }, all.map(item)) : el('p', { className: 'quiet' }, 'Nothing is granted.'),
  ];
}

// What can be done to an agent as a whole, each for who may.
const deeds = [
  ['Freeze', 'freeze', 'is stopped, and its sessions are ended'],
  ['Thaw', 'thaw', 'goes on'],
  ['Kill', 'kill', 'is killed, with its sessions and grants'],
];

function agents({ agents: used, scopes }, again) {
  const names = [...new Set([...Object.keys(used ?? {}), ...(scopes ?? []).map((scope) => scope.agent)])].sort();
  const item = (agent) => el('li', null,
    el('p', null, el('strong', null, plain(agent))),
    deeds.map(([word, way, done]) => twice(word, `${word} the agent ${plain(agent)}`, async () => {
      await api(`/api/agents/${way}`, { agent });
      say(`The agent ${plain(agent)} ${done}.`);
      again();
    })));
  return [
    el('h2', null, 'Agents'),
    names.length ? el('ul', { className: 'list' }, names.map(item)) : el('p', { className: 'quiet' }, 'No scope is tagged.'),
  ];
}

export function sessions(status, again) {
  const { sessions: all } = status;
  const item = (one) => el('li', null,
    el('p', null, el('strong', null, plain(one.agent)), ` on ${place(one)}`),
    rows(
      ['process', plain(`${one.executable} [${one.pid}]`)],
      ['requests', String(one.requests)],
      ['open for', `${one.seconds} s`],
      ['watch', link(`#/sessions/${one.id}`, 'as it goes on')],
      ['audit', link(`#/audit/${one.id}`, 'its lines')],
    ),
    twice('End', `End the session ${one.id}`, async () => {
      await api('/api/sessions/end', { session: one.id });
      say('The session is ended.');
      again();
    }));
  return [
    el('h2', null, 'Open sessions'),
    all.length ? el('ul', { className: 'list' }, all.map(item)) : el('p', { className: 'quiet' }, 'No session is open.'),
    ...agents(status, again),
  ];
}

// A button that asks once more.
export function twice(word, label, act) {
  const button = el('button', { type: 'button', 'aria-label': label, 'data-item': '' }, word);
  let sure = false;
  const calm = () => {
    sure = false;
    button.textContent = word;
    button.setAttribute('aria-label', label);
    button.classList.remove('no');
  };
  button.addEventListener('blur', calm);
  button.addEventListener('click', async () => {
    if (!sure) {
      sure = true;
      button.textContent = `${word}: sure?`;
      button.setAttribute('aria-label', `${label}: sure?`);
      button.classList.add('no');
      return;
    }
    try {
      await act();
    } catch (error) {
      say(error.message, true);
      calm();
    }
  });
  return button;
}

// A line of the audit in words.
export const line = (one) => {
  const at = (path) => path.split('/').reduce((value, key) => value?.[key], one);
  const words = [one.event, at('principal/agent') ?? one.agent ?? at('holder/agent'), place({ target: one.target ?? '', database: one.database }),
    one.statement ?? one.summary, one.verb, one.result, at('refusal/message'), one.why, one.status];
  return plain(words.filter(Boolean).join(' '));
};

export function found({ lines, partial, rules }) {
  const item = (one) => el('li', null,
    el('details', null,
      el('summary', { 'data-item': '' }, when(one.time), ` #${one.seq} `, line(one)),
      decided(one, rules),
      el('pre', { tabIndex: 0, 'aria-label': 'The line in full' }, plain(JSON.stringify(one, null, 2)))),
    el('p', null,
      one.request ? link(`#/audit/${one.request}`, 'this request explained ') : undefined,
      one.session ? [' ', link(`#/audit/${one.session}`, 'its session'), ' ', link(`#/sessions/${one.session}`, 'replayed')] : undefined));
  return [
    el('ul', { className: 'list' }, lines.map(item)),
    lines.length ? undefined : el('p', { className: 'quiet' }, 'No such line was found.'),
    partial ? el('p', null, 'Older lines were not looked at: `interceptor audit show` reads all of them.') : undefined,
  ];
}

// Why a request was decided as it was.
export function decided(one, rules) {
  const names = one.refusal?.rules ?? one.rules;
  if (!names) return undefined;
  const verdict = one.refusal ? `Refused: ${one.refusal.message}` : 'Permitted';
  return el('div', null,
    el('p', null, plain(verdict), one.refusal?.hint ? ` (${plain(one.refusal.hint)})` : ''),
    rows(
      ['asked for', one.asks && el('ul', null, one.asks.flatMap((ask) => ask.accesses ?? []).map((access) =>
        el('li', null, plain(`${access.action} ${JSON.stringify(access.resource)}`))))],
      ['grants', one.grants?.length && plain(one.grants.join(', '))],
      ['approval', one.approval],
      ['policy', text(one.generation)],
    ),
    names.length ? undefined : el('p', { className: 'quiet' }, 'No rule permits it, and nothing is permitted by default.'),
    names.map((name) => el('div', null, el('p', null, `rule ${plain(name)}`),
      el('pre', { tabIndex: 0, 'aria-label': `Rule ${plain(name)}` }, plain(rules[name] ?? 'The policy in force has no rule of this name.')))));
}

export function explained(answer, id) {
  const lines = [...answer.lines].reverse();
  return [
    el('h2', null, `What happened to ${id}`),
    ...lines.filter((one) => one.refusal || one.rules).map((one) =>
      el('section', null, el('h3', null, line(one)), decided(one, answer.rules))),
    el('h3', null, 'All of its lines, the newest first'),
    ...found(answer),
  ];
}
