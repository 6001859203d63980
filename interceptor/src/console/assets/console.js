// Which view is shown, what keys do, and what happens as things change.

import { $, api, ask, el, forget, isIn, keep, say, Told } from './page.js';
import { factors } from './factor.js';
import { Replay } from './replay.js';
import { standins } from './standin.js';
import * as views from './views.js';

const STATE = 'interceptor-state';
const order = ['approvals', 'grants', 'sessions', 'audit', 'factors', 'standins'];
let shown = '';
let filter = {};
let stream;
let searching = false;
let replay;
// Who is logged in.
let own = {};
// Counts the views asked for: what comes for one that has been left is not shown.
let turn = 0;

const main = $('main');
const parts = () => location.hash.replace(/^#\/?/, '').split('/');

function show(children) {
  main.replaceChildren(...children.flat().filter(Boolean));
}

// Shows anew, with the focus where it was, or at the top of another view.
function put(view, children, asked = turn) {
  if (asked !== turn) return;
  const focus = document.activeElement;
  const same = shown === view;
  const at = same && main.contains(focus) ? [...main.querySelectorAll('[data-item]')].indexOf(focus) : -1;
  show(children);
  shown = view;
  if (at >= 0) [...main.querySelectorAll('[data-item]')][at]?.focus();
  else if (!same) main.focus();
}

function mark(view) {
  for (const tab of $('views').querySelectorAll('a')) {
    if (tab.hash === `#/${view}`) tab.setAttribute('aria-current', 'page');
    else tab.removeAttribute('aria-current');
  }
  document.title = `${view} · interceptor`;
}

const count = (all) => {
  const open = all.filter((one) => one.state.is === 'open').length;
  $('open').textContent = open || '';
};

// Nothing is offered that cannot be said any more.
function settled({ state }) {
  if (state.is !== 'open') $('answer')?.remove();
  if (state.is !== 'approved') $('back')?.remove();
}

async function approvals(id, asked) {
  if (!id) {
    const all = await api('/api/approvals');
    count(all);
    return put('approvals', views.approvals(all), asked);
  }
  const found = await api('/api/approvals/show', { approval: id });
  // Under somebody's hands nothing moves: only how it stands is told, and what it would touch.
  if (shown === id && $('state')) {
    $('state').textContent = views.state(found.standing);
    $('touches').textContent = views.touches(found.standing);
    $('plan').textContent = views.plan(found.standing) || 'not known';
    if ($('answer')) $('answer').dataset.shown = found.shown;
    settled(found.standing);
    return undefined;
  }
  const answered = (standing) => {
    say(`Said. It is ${views.state(standing)}.`);
    $('state').textContent = views.state(standing);
    if (standing.state.is === 'approved') $('answer')?.replaceWith(views.back(standing, answered));
    settled(standing);
    $('state').focus();
  };
  return put(id, views.approval(found, answered), asked);
}

async function audit(id, asked) {
  if (id) return put(id, views.explained(await api('/api/audit', { id }), id), asked);
  const input = (name, label) =>
    el('label', null, label, el('input', { name, value: filter[name] ?? '', autocomplete: 'off', maxLength: 200 }));
  const results = el('div', { 'aria-live': 'polite' });
  const form = el('form', { role: 'search', 'aria-label': 'Search the audit log' },
    input('text', 'Text'), input('agent', 'Agent'), input('target', 'Target'), input('event', 'Event'),
    el('button', { type: 'submit' }, 'Search'));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    filter = Object.fromEntries([...new FormData(form)].filter(([, value]) => value.trim()));
    try {
      results.replaceChildren(...views.found(await api('/api/audit', filter)).flat().filter(Boolean));
      say('');
    } catch (error) {
      failed(error);
    }
  });
  put('audit', [el('h2', null, 'Audit log'),
    el('p', { className: 'quiet' }, 'The newest lines first. Each search is itself written down.'), form, results]);
  if (searching) form.querySelector('input').focus();
  searching = false;
  return undefined;
}

function watch(id) {
  replay = new Replay(id, failed);
  put(id, replay.view());
  replay.read();
}

async function view() {
  if (!isIn()) return login();
  // The skip link is no view.
  if (location.hash && !location.hash.startsWith('#/')) return undefined;
  turn += 1;
  const asked = turn;
  const [name, id] = parts();
  const which = order.includes(name) ? name : 'approvals';
  mark(which);
  replay?.close();
  replay = undefined;
  try {
    if (which === 'approvals') await approvals(id, asked);
    if (which === 'grants') put('grants', views.grants(await api('/api/grants'), view), asked);
    if (which === 'sessions' && id) watch(id);
    else if (which === 'sessions') put('sessions', views.sessions(await api('/api/status'), view), asked);
    if (which === 'audit') await audit(id, asked);
    if (which === 'standins') put('standins', standins(await api('/api/approvals/delegations'), own.id, view), asked);
    if (which === 'factors') put('factors', factors(await api('/api/factors'), own, view), asked);
  } catch (error) {
    if (asked === turn || error.status === 401) failed(error);
  }
  return undefined;
}

function failed(error) {
  if (error instanceof Told && error.status === 401) {
    out();
    return;
  }
  say(error.message, true);
  if (error instanceof Told && error.status === 403) put('refused', []);
}

// What changes is told by the daemon; a stream that ends is opened again.
async function follow() {
  let pause = 1000;
  while (isIn()) {
    stream = new AbortController();
    try {
      const answer = await ask('/api/events', undefined, stream.signal);
      if (answer.status === 401) return out();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        pause = 1000;
        if (value.includes('event: approvals')) await changed();
      }
    } catch {
      // Whoever closed it, the next one says whether the daemon is there.
    }
    await new Promise((resume) => setTimeout(resume, pause));
    pause = Math.min(pause * 2, 30000);
  }
  return undefined;
}

async function changed() {
  const [name] = parts();
  if (name === 'approvals' || name === '') return view();
  try {
    count(await api('/api/approvals'));
  } catch (error) {
    failed(error);
  }
  return undefined;
}

function out() {
  forget();
  turn += 1;
  stream?.abort();
  replay?.close();
  for (const id of ['views', 'who', 'keys']) $(id).hidden = true;
  shown = '';
  login();
}

async function enter(token) {
  keep(token);
  history.replaceState(null, '', '/#/approvals');
  await start();
}

async function login() {
  document.title = 'log in · interceptor';
  const { issuer } = await api('/login/ways').catch(() => ({}));
  const begin = el('button', { type: 'button', className: 'yes' }, `Log in by ${issuer}`);
  begin.addEventListener('click', async () => {
    try {
      const begun = await api('/login/begin', {});
      sessionStorage.setItem(STATE, begun.state);
      location.assign(begun.location);
    } catch (error) {
      say(error.message, true);
    }
  });
  put('login', [el('h2', null, 'Log in'), issuer ? begin : undefined,
    el('p', null, 'Root of this host: ', el('code', null, 'interceptor console'), ' prints a link that opens once.')]);
}

// Somebody who comes by a link, or back from the issuer.
async function arrive() {
  const back = new URLSearchParams(location.search);
  const secret = location.hash.slice(1);
  try {
    if (location.pathname === '/login' && /^[0-9a-f]{64}$/.test(secret)) {
      history.replaceState(null, '', '/');
      await enter((await api('/login/link', { link: secret })).token);
      return;
    }
    if (location.pathname === '/login/done') {
      history.replaceState(null, '', '/');
      const state = sessionStorage.getItem(STATE);
      sessionStorage.removeItem(STATE);
      if (back.get('error')) throw new Error(`the issuer says ${back.get('error')}`);
      if (!state || state !== back.get('state')) throw new Error('this login was not begun here; begin it anew');
      const body = { code: back.get('code') ?? '', state, iss: back.get('iss') ?? undefined };
      await enter((await api('/login/done', body)).token);
      return;
    }
  } catch (error) {
    forget();
    await login();
    say(error.message, true);
    return;
  }
  await start();
}

async function start() {
  if (!isIn()) return login();
  try {
    const me = await api('/api/me');
    $('name').textContent = me.name;
    own = me;
  } catch (error) {
    return failed(error);
  }
  say('');
  for (const id of ['views', 'who', 'keys']) $(id).hidden = false;
  await view();
  follow();
  return undefined;
}

function key(event) {
  const typing = event.target.matches('input, textarea, select');
  if (event.key === 'Escape') {
    if (typing) event.target.blur();
    else if (parts()[1]) location.hash = `#/${parts()[0]}`;
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !isIn()) return;
  const tab = order[Number(event.key) - 1];
  const items = [...main.querySelectorAll('[data-item]')];
  const at = items.indexOf(document.activeElement);
  const go = (element) => {
    element?.focus();
    event.preventDefault();
  };
  if (tab) location.hash = `#/${tab}`;
  else if (event.key === 'j') go(items[Math.min(at + 1, items.length - 1)]);
  else if (event.key === 'k') go(items[Math.max(at - 1, 0)]);
  else if (event.key === 'a') go($('approve'));
  else if (event.key === 'd') go($('deny'));
  else if (event.key === '/') {
    searching = shown !== 'audit';
    if (searching) location.hash = '#/audit';
    go(main.querySelector('form[role=search] input'));
  }
}

addEventListener('hashchange', view);
addEventListener('keydown', key);
$('leave').addEventListener('click', async () => {
  await api('/api/logout', {}).catch(() => undefined);
  out();
  say('You are logged out.');
});
arrive();
