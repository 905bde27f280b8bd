// The page: lets itself in, puts two clients side by side, and stands in for an
// app's backend.

import * as door from './door.mjs';
import { Side } from './side.mjs';
import { element } from './message.mjs';
import { View } from './view.mjs';

const byID = (id) => document.getElementById(id);

async function enter() {
  const ticket = location.hash.slice(1);
  if (ticket) {
    // It is good for one time: out of the address, before anything can copy it.
    history.replaceState(null, '', location.pathname);
    try {
      await door.exchange(ticket);
    } catch (err) {
      // Who opens a link a second time in the browser that it has let in goes on.
      if (err.code !== 'link') throw err;
      return door.page().catch(() => { throw err; });
    }
  }
  return door.page();
}

function notice(title, text, command) {
  const parts = [element('h1', '', title), element('p', '', text)];
  if (command) parts.push(element('p', '', 'For a new link, run this on the machine that runs the server:'), element('pre', '', command));
  byID('notice').replaceChildren(...parts);
}

function refused(err) {
  const titles = { link: 'This link does not open the page any more', session: 'This page needs a link', network: 'The server cannot be reached' };
  notice(titles[err.code] ?? 'This page cannot be opened now', err.message, err.status === 401 ? 'parley demo-link' : '');
}

// A panel that tells what the backend did, in the API's own words.
function showExchange(result) {
  const { path, request, status, answer, sent, millis } = result;
  const line = element('p', 'outcome', sent === 1 ? `One call accepted, durable after ${millis.toFixed(1)} ms.` : `${sent} calls accepted, one after the other, in ${millis < 1000 ? `${millis.toFixed(0)} ms` : `${(millis / 1000).toFixed(1)} s`}.`);
  if (status !== 200) line.textContent = sent ? `After ${sent} calls: status ${status}.` : `Refused with status ${status}.`;
  line.classList.toggle('bad', status !== 200);
  byID('exchange').replaceChildren(
    line,
    element('h3', '', 'POST ', element('code', '', path)),
    element('pre', '', JSON.stringify(request, null, 2)),
    element('h3', '', `Answer ${status}`),
    element('pre', '', JSON.stringify(answer, null, 2)),
  );
}

function showFailure(err) {
  const parts = [element('p', 'outcome bad', err.message)];
  if (err.code === 'session') parts.push(element('p', '', 'parley demo-link makes a new link. What is connected stays so.'));
  byID('exchange').replaceChildren(...parts);
}

function build({ version, app, users, channel }) {
  byID('server').textContent = `${version} · app ${app}`;
  const sides = {};

  async function backend(ask, what) {
    try {
      const result = await ask(what);
      showExchange(result);
      for (const user of users) {
        if (what.kind === 'system' || (what.kind === 'direct' && what.from !== user)) sides[user].piledUp(result.sent);
      }
    } catch (err) {
      showFailure(err);
    }
  }

  for (const [i, user] of users.entries()) {
    const peer = users[1 - i];
    const jump = element('a', '', element('span', 'dot'), user);
    jump.href = `#side-${user}`;
    byID('jump').append(jump);
    const view = new View({ user, peer, channel, jump });
    byID('sides').append(view.root);
    sides[user] = new Side({
      user, peer, channel, view, getToken: door.token,
      onAccepted: (to, n) => sides[to].piledUp(n),
    });
    view.attach(sides[user], {
      onBurst: () => backend(door.send, { kind: 'direct', from: peer, text: 'While you were away', count: 50 }),
      onAsk: () => backend(door.answer, { user }),
    });
  }
  const jump = element('a', '', 'backend');
  jump.href = '#backend';
  byID('jump').append(jump);
  // A fragment is a ticket here, so the address stays as it is.
  byID('jump').addEventListener('click', (e) => {
    const target = e.target.closest('a');
    if (!target) return;
    e.preventDefault();
    document.querySelector(target.getAttribute('href')).scrollIntoView();
  });

  const form = byID('call');
  form.addEventListener('submit', async (e) => {
    e.preventDefault();
    const button = form.querySelector('button');
    button.disabled = true;
    await backend(door.send, { kind: form.elements.kind.value, text: form.elements.text.value });
    button.disabled = false;
  });

  byID('gate').hidden = true;
  byID('stage').hidden = false;
  for (const user of users) sides[user].start();
}

try {
  build(await enter());
} catch (err) {
  if (!(err instanceof door.Refused)) throw err;
  refused(err);
}
