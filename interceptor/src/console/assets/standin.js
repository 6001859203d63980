// Who stands in for whom: approvers who are away name somebody, and take it back.

import { $, api, el, plain, rows, say, when } from './page.js';
import { person, twice } from './views.js';

const named = ({ to }) => (to.user === undefined ? `anybody of ${plain(to.group)}` : plain(to.user));

export function standins(all, me, again) {
  const item = (one) => el('li', null,
    el('p', null, el('strong', null, named(one)), ` stands in for ${person(one.by)}`),
    rows(['since', when(one.issued)], ['until', when(one.expires)], ['name', one.id]),
    twice('Take back', `Take the delegation ${one.id} back`, async () => {
      await api('/api/approvals/undelegate', { delegation: one.id });
      await again();
      say('It is taken back, with what was answered by it and not used yet.');
    }));
  const kind = el('select', { id: 'stand-in-kind', name: 'kind' },
    el('option', { value: 'user' }, 'One person'), el('option', { value: 'group' }, 'Anybody of a group'));
  const name = el('input', { id: 'stand-in', name: 'name', required: true, maxLength: 255, autocomplete: 'off' });
  const time = el('input', { id: 'stand-in-time', name: 'time', required: true, maxLength: 20, value: '8h', autocomplete: 'off' });
  const send = el('button', { type: 'submit', className: 'yes', id: 'delegate' }, 'Name the stand-in');
  const form = el('form', { 'aria-label': 'A new stand-in' },
    el('label', null, 'Who', kind),
    el('label', null, 'Name, as rules have it: staff:SUBJECT or staff:GROUP of an issuer, or of this host', name),
    el('label', null, 'For how long, at most 7d', time), send);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      const made = await api('/api/approvals/delegate', { to: { [kind.value]: name.value.trim() }, for: time.value.trim() });
      await again();
      say(`From now on: ${named(made)}.`);
      $('main').focus();
    } catch (error) {
      say(error.message, true);
    }
    send.disabled = false;
  });
  return [
    el('h2', null, 'Stand-ins'),
    el('p', { className: 'quiet' }, 'Whoever you name answers by your right while you are away, and the two of you count as one person. You may take it back at any time.'),
    all.length ? el('ul', { className: 'list' }, all.map(item)) : el('p', { className: 'quiet' }, 'Nobody stands in for you, nor you for anybody.'),
    me === 'root' ? el('p', null, 'Root’s right is not delegated: let a rule permit whoever is to answer.') : form,
    me === 'root' ? undefined : el('p', null, 'Others name you as ', el('code', { id: 'own-name' }, plain(me)), '.'),
  ];
}
