// The live page in a browser, as a visitor would use it: both sides, the cut
// and the recovery, the backend. Arguments: the link, and a folder for
// screenshots, which are there to be looked at.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [link, shots] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const profile = await mkdtemp(join(tmpdir(), 'parley-page-'));
const complaints = [];
const requests = new Set();
const sockets = { open: 0, made: 0 };

const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
  viewport: { width: 1360, height: 860 },
});
try {
  const page = context.pages()[0] ?? await context.newPage();
  listen(page);
  await visit(page);
  await page.close();
  await oddAnswers();
  await usedLink();
  assert.deepEqual(complaints, [], 'the console is quiet');
  const own = new URL(link).host;
  assert.deepEqual([...requests].filter((host) => host !== own), [], 'nothing is asked of another host');
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}

function listen(page) {
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) complaints.push(`${m.type()}: ${m.text()}`); });
  page.on('pageerror', (err) => complaints.push(`uncaught: ${err.message}`));
  page.on('request', (r) => { if (!r.url().startsWith('data:')) requests.add(new URL(r.url()).host); });
  page.on('websocket', (s) => {
    requests.add(new URL(s.url()).host);
    sockets.made++;
    sockets.open++;
    s.on('close', () => sockets.open--);
  });
}

function sideOf(page, user) {
  const root = page.locator(`#side-${user}`);
  const list = (where) => root.locator(`.talk.${where} .messages`);
  return {
    root, list,
    async write(where, text) {
      await root.locator(`.talk.${where} input`).fill(text);
      await root.locator(`.talk.${where} input`).press('Enter');
    },
    // Every message in a list: its text, its offset, how it is marked.
    messages: (where) => list(where).locator('.message').evaluateAll((rows) => rows.map((row) => ({
      text: row.querySelector('.text').textContent,
      offset: Number(row.querySelector('.offset')?.textContent.slice(1) ?? 0),
      classes: [...row.classList],
    }))),
    see: (where, text, selector = '.message') => list(where).locator(selector, { hasText: text }).last().waitFor(),
    state: (name) => page.locator(`#side-${user}[data-state="${name}"]`).waitFor(),
    cut: () => root.locator('.cut').click(),
    burst: () => root.locator('.burst').click(),
  };
}

async function visit(page) {
  await page.goto(link);
  const ann = sideOf(page, 'ann');
  const bob = sideOf(page, 'bob');
  await ann.state('connected');
  await bob.state('connected');
  assert.equal(new URL(page.url()).hash, '', 'the ticket is out of the address');
  const cookies = await context.cookies(new URL('api/', page.url()).href);
  assert.equal(cookies.length, 1);
  assert.ok(cookies[0].httpOnly && cookies[0].sameSite === 'Strict', JSON.stringify(cookies));

  // One types and the other sees it, directly and in the channel.
  await ann.write('me', 'hello bob');
  await bob.see('me', 'hello bob', '.message.other');
  await bob.write('me', 'hello ann, <b>well?</b>');
  await ann.see('me', 'hello ann, <b>well?</b>', '.message.other');
  await ann.write('lobby', 'hello all');
  await bob.see('lobby', 'hello all', '.message.other');
  await page.locator('#call').getByRole('button', { name: 'Send' }).click();
  for (const side of [ann, bob]) await side.see('me', 'Welcome to Parley');
  await page.getByText('One call accepted').waitFor();
  await page.locator('#call input[value=open]').check();
  await page.locator('#call-text').fill('The lobby is open');
  await page.locator('#call').getByRole('button', { name: 'Send' }).click();
  for (const side of [ann, bob]) await side.see('lobby', 'The lobby is open');
  for (const where of ['me', 'lobby']) await settled(ann, where);
  await shoot(page, '1-both-sides');

  // One's network is cut: nothing comes through, and what it writes waits.
  await ann.cut();
  await ann.state('cut');
  const before = (await ann.messages('me')).length;
  const { made } = sockets;
  await bob.write('me', 'are you there?');
  await bob.write('lobby', 'ann is away');
  await ann.write('me', 'written while away');
  await ann.burst();
  await bob.see('me', '(50 of 50)', '.message.own');
  await ann.root.getByText('51 waiting').waitFor();
  assert.equal((await ann.messages('me')).length, before + 1, 'a cut network lets something through');
  assert.ok((await ann.messages('me')).at(-1).classes.includes('waiting'));
  assert.ok(!(await bob.messages('me')).some((m) => m.text === 'written while away'));
  await shoot(page, '2-cut');
  await page.waitForTimeout(1500); // the client tries to come back several times
  assert.equal(sockets.open, 1, "ann's connection is really closed");
  assert.equal(sockets.made, made, 'a cut network is used');
  await ann.state('cut');

  // It comes back: what it missed is there, once, in order and marked.
  await ann.cut();
  await ann.state('connected');
  await bob.see('me', 'written while away', '.message.other');
  await ann.root.getByText('51 caught up in').waitFor();
  await settled(ann, 'me');
  const all = await ann.messages('me');
  const caught = all.filter((m) => m.classes.includes('caught'));
  assert.deepEqual(caught.map((m) => m.text),
    ['are you there?', ...Array.from({ length: 50 }, (_, i) => `While you were away (${i + 1} of 50)`)]);
  for (const [side, who] of [[ann, 'ann'], [bob, 'bob']]) {
    const rows = await side.messages('me');
    assert.deepEqual(rows.map((m) => m.offset), rows.map((_, i) => i + 1), `the offsets of ${who}`);
    assert.equal(rows.filter((m) => m.text === 'written while away').length, 1);
  }
  assert.deepEqual((await ann.messages('lobby')).filter((m) => m.classes.includes('caught')).map((m) => m.text), ['ann is away']);
  await shoot(page, '3-recovered');

  // Live again, and still one of each.
  await bob.write('me', 'welcome back');
  await ann.see('me', 'welcome back', '.message.other:not(.caught)');
  assert.equal((await ann.messages('me')).length, all.length + 1);

  // Frames are shown without what must not be.
  await ann.root.locator('.frames summary').click();
  await ann.root.locator('.frames code', { hasText: '"connect"' }).first().waitFor();
  const frames = await ann.root.locator('.frames').innerText();
  assert.ok(frames.includes('"token":"…"') && !/eyJ/.test(frames), 'a token is shown');
  await shoot(page, '4-frames');

  // Who opens it again in this browser goes on, and reads back what there was.
  await page.reload();
  await ann.state('connected');
  await ann.see('me', 'welcome back');
  await ann.see('me', '(50 of 50)');

  // On a phone, and in the dark.
  await page.emulateMedia({ colorScheme: 'dark' });
  await shoot(page, '5-dark');
  await page.setViewportSize({ width: 390, height: 844 });
  await shoot(page, '6-phone-dark');
  await page.emulateMedia({ colorScheme: 'light' });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(wide, 390, 'the page is wider than the phone');
  await shoot(page, '7-phone', { fullPage: true });
  await page.setViewportSize({ width: 900, height: 700 });
  await shoot(page, '8-tablet', { fullPage: true });
}

// An answer that comes after the entry it is about, and one that never comes,
// make no message of two.
async function oddAnswers() {
  const page = await context.newPage();
  listen(page);
  let odd = '';
  await page.routeWebSocket(/\/connection\/websocket$/, (client) => {
    client.connectToServer().onMessage((frame) => {
      for (const one of frame.split('\n')) {
        if (odd === '' || !one.includes('"rpc":{"data"')) {
          client.send(one);
        } else if (odd === 'late') {
          setTimeout(() => client.send(one), 500);
        } else {
          odd = '';
          client.close({ code: 3001, reason: 'the answer is lost' });
        }
      }
    });
  });
  await page.goto(link.split('#')[0]);
  const ann = sideOf(page, 'ann');
  await ann.state('connected');
  await sideOf(page, 'bob').state('connected');
  for (odd of ['late', 'lost']) {
    const text = `its answer is ${odd}`;
    for (const where of ['me', 'lobby']) {
      const kind = odd;
      let most = 0;
      await ann.write(where, text);
      for (const end = Date.now() + 900; Date.now() < end;) {
        most = Math.max(most, (await ann.messages(where)).filter((m) => m.text === text).length);
      }
      await settled(ann, where);
      assert.equal(most, 1, `${where}: ${text}`);
      assert.equal((await ann.messages(where)).filter((m) => m.text === text).length, 1, `${where}: ${text}`);
      odd = kind;
    }
    odd = '';
  }
  // What the server has of it is one of each, too.
  await page.reload();
  await ann.see('me', 'its answer is lost');
  assert.equal((await ann.messages('me')).filter((m) => m.text.startsWith('its answer')).length, 2);
  await page.close();
}

// settled waits until nothing that was written is still on its way.
function settled(side, where) {
  return side.list(where).locator('.message:not(.accepted), .message:not(:has(.offset))').first().waitFor({ state: 'detached' });
}

function shoot(page, name, options = {}) {
  return page.screenshot({ path: join(shots, `${name}.png`), animations: 'disabled', ...options });
}

// The link was used: who was not let in with it is told so, and how to get a new one.
async function usedLink() {
  await context.clearCookies();
  const page = await context.newPage();
  await page.goto(link);
  await page.getByRole('heading', { name: 'This link does not open the page any more' }).waitFor();
  await page.getByText('parley demo-link').waitFor();
  await shoot(page, '9-used-link');
  await page.goto(link.split('#')[0]);
  await page.getByRole('heading', { name: 'This page needs a link' }).waitFor();
  await page.close();
}
