// What the views stand on: elements, requests to the daemon, words for people. Text never becomes markup.

const TOKEN = 'interceptor-token';

export const $ = (id) => document.getElementById(id);

// An element with properties, attributes (`aria-…`, `data-…`, `for`, `role`) and children.
export function el(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null) continue;
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ''));
  return made;
}

// A stranger's text: what would not be seen, or would turn the order of what is seen, is spelled out.
export function plain(text) {
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;
  return String(text).replace(hidden, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
}

export const isIn = () => localStorage.getItem(TOKEN) !== null;
export const keep = (token) => localStorage.setItem(TOKEN, token);
export const forget = () => localStorage.removeItem(TOKEN);

export function say(text, bad = false) {
  $('said').textContent = plain(text);
  $('said').classList.toggle('bad', bad);
}

export class Told extends Error {
  constructor(status, problem) {
    super([problem.title, problem.detail].filter(Boolean).join('; '));
    this.status = status;
  }
}

export function ask(path, body, signal) {
  const headers = { 'x-interceptor-token': localStorage.getItem(TOKEN) ?? '' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  return fetch(path, {
    method: body === undefined ? 'GET' : 'POST',
    body: body === undefined ? undefined : JSON.stringify(body),
    headers,
    signal,
    credentials: 'same-origin',
    redirect: 'error',
  });
}

// The daemon's answer.
export async function api(path, body, signal) {
  const answer = await ask(path, body, signal);
  const said = await answer.json().catch(() => ({ title: `the daemon answers ${answer.status}` }));
  if (!answer.ok) throw new Told(answer.status, said);
  return said;
}

export const when = (time) => {
  const date = new Date(time);
  return el('time', { dateTime: time, title: time }, Number.isNaN(date.valueOf()) ? time : date.toLocaleString());
};

export const rows = (...pairs) =>
  el('dl', null, pairs.filter(([, value]) => value !== undefined && value !== null && value !== '')
    .flatMap(([name, value]) => [el('dt', null, name), el('dd', null, value)]));

export const link = (hash, text) => el('a', { href: hash, 'data-item': '' }, text);

export const text = (value) => (value === undefined || value === null ? undefined : plain(value));
