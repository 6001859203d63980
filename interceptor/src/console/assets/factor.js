// Second factors: keys that a browser makes and signs with, and the view of them.

import { $, api, el, plain, rows, say, when } from './page.js';

const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (sign) => sign.charCodeAt(0));
const coded = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');

const listed = (ids) => ids.map((id) => ({ type: 'public-key', id: bytes(id) }));
// What was not done in this time is to be asked for anew; the daemon forgets it then too.
const timeout = 120000;

// What one of the caller's keys signs.
export async function signed({ party, challenge, keys }) {
  const made = await navigator.credentials.get({
    publicKey: { challenge: bytes(challenge), rpId: party, allowCredentials: listed(keys), userVerification: 'required', timeout },
  });
  const said = made.response;
  return {
    id: coded(made.rawId),
    client_data: coded(said.clientDataJSON),
    authenticator_data: coded(said.authenticatorData),
    signature: coded(said.signature),
  };
}

async function register(name, code) {
  const { party, user, challenge, confirm, keys } = await api('/api/factors/begin', {});
  const body = { name, ...(code && !confirm ? { code } : {}) };
  if (confirm) body.by = await signed({ party, challenge: confirm, keys });
  const made = await navigator.credentials.create({
    publicKey: {
      challenge: bytes(challenge),
      rp: { id: party, name: 'interceptor' },
      // A number of its own: it says nothing of the person.
      user: { id: crypto.getRandomValues(new Uint8Array(32)), name: user, displayName: user },
      pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: 'public-key', alg })),
      excludeCredentials: listed(keys),
      authenticatorSelection: { userVerification: 'required', residentKey: 'discouraged' },
      attestation: 'none',
      timeout,
    },
  });
  const said = made.response;
  body.key = {
    id: coded(made.rawId),
    client_data: coded(said.clientDataJSON),
    authenticator_data: coded(said.getAuthenticatorData()),
  };
  return api('/api/factors/add', body);
}

const owner = (one) => (one.owner === 'root' ? 'root' : plain(`${one.owner.person.subject} of ${one.owner.person.issuer}`));

export function factors(all, me, again) {
  const item = (one) => {
    const gone = el('button', { type: 'button', className: 'no' }, 'Remove');
    gone.addEventListener('click', async () => {
      if (gone.dataset.sure === undefined) {
        gone.dataset.sure = '';
        gone.textContent = 'Really remove?';
        return;
      }
      try {
        await api('/api/factors/remove', { key: one.id });
        await again();
      } catch (error) {
        say(error.message, true);
      }
    });
    return el('li', null, el('p', null, el('strong', null, plain(one.name)), ` of ${owner(one)}`),
      rows(['registered', when(one.made)], ['used last', one.used && when(one.used)]), me.id === 'root' ? gone : undefined);
  };
  const name = el('input', { id: 'key-name', name: 'name', required: true, maxLength: 60, autocomplete: 'off' });
  const add = el('button', { type: 'submit', className: 'yes', id: 'register' }, 'Register a key');
  const code = me.code && !all.length
    ? el('input', { id: 'key-code', name: 'code', required: true, maxLength: 60, autocomplete: 'off' })
    : undefined;
  const form = el('form', { 'aria-label': 'A new key' }, el('label', null, 'What you call it', name),
    code && el('label', null, `The code that root of this host gave you (interceptor console --enrol ${plain(me.id)})`, code), add);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    add.disabled = true;
    try {
      const made = await register(name.value.trim(), code?.value.trim());
      await again();
      say(`${made.name} is registered.`);
      $('main').focus();
    } catch (error) {
      say(error.message, true);
    }
    add.disabled = false;
  });
  return [
    el('h2', null, 'Second factor'),
    el('p', { className: 'quiet' }, 'Some answers count only with a key that has seen that it is you. The first one is vouched for by root of this host, or by this login, each other one by a key that you have.'),
    all.length ? el('ul', { className: 'list' }, all.map(item)) : el('p', null, 'No key is registered.'),
    form,
  ];
}
