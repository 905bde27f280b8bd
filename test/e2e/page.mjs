// The live page in a browser, as a visitor would use it: both sides, what becomes
// of messages, a stream, the cut and the recovery, the backend. Arguments: the link, and a folder for
// screenshots, which are there to be looked at.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { baseURL, issueToken, until } from './api.mjs';
import { connect } from './client.mjs';

const [link, shots] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const profile = await mkdtemp(join(tmpdir(), 'parley-page-'));
const complaints = [];
const requests = new Set();
const sockets = { open: 0, made: 0 };
const asked = []; // the calls of both clients
let isReloading = false;

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
  await becomes(page);
  await streams(page);
  await sizes(page);
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
  page.on('requestfailed', (r) => {
    // What a reload breaks off is not a failure.
    if (!(isReloading && r.failure().errorText === 'net::ERR_ABORTED')) complaints.push(`failed: ${r.url()} ${r.failure().errorText}`);
  });
  page.on('response', (r) => { if (r.status() >= 400) complaints.push(`${r.status()}: ${r.url()}`); });
  page.on('request', (r) => { if (!r.url().startsWith('data:')) requests.add(new URL(r.url()).host); });
  page.on('websocket', (s) => {
    requests.add(new URL(s.url()).host);
    sockets.made++;
    sockets.open++;
    s.on('close', () => sockets.open--);
    s.on('framesent', ({ payload }) => {
      for (const [, method] of String(payload).matchAll(/"method":"([a-z.]+)"/g)) asked.push(method);
    });
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
    message: (text, where = 'me') => list(where).locator('.message', { hasText: text }).last(),
    // What can be done to a message stands beside it while it is pointed at.
    async use(text, tool, where = 'me') {
      const row = list(where).locator('.message', { hasText: text }).last();
      await row.hover();
      await row.locator(`.tool.${tool}`).click();
    },
    ticks: (text, state) => list('me').locator('.message.own', { hasText: text }).locator(`.ticks[data-ticks=${state}]`).last().waitFor(),
    hint: (text) => root.locator('.talk.me .hint').filter({ hasText: text }).waitFor(),
    unread: (text) => root.locator('.unread').filter({ hasText: text }).waitFor({ state: 'attached' }),
    press: (name) => root.getByRole('button', { name, exact: true }).click(),
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
    assert.ok(rows.every((m, i) => i === 0 || m.offset > rows[i - 1].offset), `the offsets of ${who} grow`);
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
  await reload(page);
  await ann.see('me', 'welcome back');
  await ann.see('me', '(50 of 50)');
}

// What becomes of messages shows on both sides: typing, reading, reactions, a
// change, and taking back. It is all there again after a reload.
async function becomes(page) {
  const ann = sideOf(page, 'ann');
  const bob = sideOf(page, 'bob');
  const input = ann.root.locator('.talk.me input');

  await input.pressSequentially('shall we');
  await bob.hint('ann is typing');
  await shoot(page, '5-typing');
  await input.pressSequentially(' meet?');
  await input.press('Enter');
  await bob.see('me', 'shall we meet?', '.message.other');
  await bob.hint(/^$/);
  await ann.ticks('shall we meet?', 'read');

  // Who looks away has read nothing, until they look again.
  await bob.press('Look away');
  await ann.write('me', 'seen by nobody');
  await ann.write('me', 'nor this');
  await bob.unread('2 unread');
  await ann.ticks('nor this', 'sent');
  await shoot(page, '6-unread');
  assert.equal(await ann.message('seen by nobody').locator('[data-ticks]').getAttribute('data-ticks'), 'sent', 'read by nobody');
  await bob.press('Look again');
  await bob.unread(/^$/);
  await ann.ticks('seen by nobody', 'read');
  await ann.ticks('nor this', 'read');

  // Reactions are metadata, set by either side.
  const hearts = (side, text) => side.message(text).locator('.hearts');
  const boxes = () => bob.list('me').locator('.bubble').evaluateAll((all) => all.map((e) => JSON.stringify(e.getBoundingClientRect())));
  const still = await boxes();
  await bob.use('shall we meet?', 'react');
  for (const side of [ann, bob]) await hearts(side, 'shall we meet?').waitFor();
  await ann.use('shall we meet?', 'react');
  for (const side of [ann, bob]) await hearts(side, 'shall we meet?').filter({ hasText: '2' }).waitFor();
  await bob.use('shall we meet?', 'react');
  for (const side of [ann, bob]) await hearts(side, 'shall we meet?').filter({ hasText: /^$/ }).waitFor();
  assert.equal(await hearts(bob, 'shall we meet?').getAttribute('aria-label'), 'liked by ann');
  assert.deepEqual(await boxes(), still, 'a reaction moves something');

  // With the keyboard alone: up to the message, on to its heart.
  await bob.list('me').focus();
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowDown');
  assert.equal(await page.evaluate(() => document.activeElement.querySelector('.text').textContent), 'nor this');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await hearts(ann, 'nor this').waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'text-bob-me', 'the way on is long');

  // A change that is given up changes nothing; one that is made shows to both.
  await ann.use('seen by nobody', 'edit');
  await ann.hint('Changing your message');
  await input.press('Escape');
  await ann.hint(/^$/);
  assert.equal(await input.inputValue(), '');
  await ann.use('seen by nobody', 'edit');
  await input.fill('seen by bob');
  await input.press('Enter');
  for (const side of [ann, bob]) await side.see('me', 'seen by bob', '.message:has(.changed)');
  assert.equal(await ann.list('me').getByText('seen by nobody').count(), 0);

  await ann.use('nor this', 'recall');
  await ann.see('me', 'You took this message back', '.message.recalled');
  await bob.see('me', 'ann took this message back', '.message.recalled');
  assert.equal(await bob.list('me').locator('.recalled .tool').count(), 0);
  await bob.write('lobby', 'a slip');
  await ann.see('lobby', 'a slip');
  await bob.use('a slip', 'recall', 'lobby');
  await ann.see('lobby', 'bob took this message back', '.message.recalled');
  await shoot(page, '7-becomes');

  const before = { ann: await ann.messages('me'), bob: await bob.messages('me') };
  await reload(page);
  await ann.ticks('seen by bob', 'read');
  await bob.see('me', 'ann took this message back', '.message.recalled');
  for (const side of [ann, bob]) {
    await side.see('me', 'seen by bob', '.message:has(.changed)');
    await hearts(side, 'shall we meet?').waitFor();
  }
  for (const [side, who] of [[ann, 'ann'], [bob, 'bob']]) {
    const words = (rows) => rows.map((m) => `${m.offset} ${m.text}`);
    const now = words(await side.messages('me'));
    assert.deepEqual(now, words(before[who]).slice(-now.length), `${who} after a reload`);
  }
}

// A stream writes itself: it grows, goes on over a cut and a reload, and ends with
// the text that history has.
async function streams(page) {
  const ann = sideOf(page, 'ann');
  const bob = sideOf(page, 'bob');
  const growing = (side) => side.list('me').locator('.message.stream').last();
  const text = (side) => growing(side).locator('.text').textContent();
  // The next length of the text that is another one.
  const longer = async (side, than) => {
    for (const end = Date.now() + 20_000; Date.now() < end;) {
      const now = (await text(side)).length;
      if (now > than) return now;
    }
    throw new Error(`the text has stayed at ${than} characters`);
  };
  const grown = async (side, times) => {
    const lengths = [await longer(side, 0)];
    while (lengths.length < times) lengths.push(await longer(side, lengths.at(-1)));
    assert.ok(await growing(side).evaluate((e) => e.classList.contains('growing')), 'it has ended already');
    return lengths;
  };

  // Typing that comes to nothing is shown for some seconds only.
  await ann.root.locator('.talk.me input').fill('or rather');
  await bob.hint('ann is typing');
  await ann.root.locator('.talk.me input').fill('');

  await ann.press('Ask the bot');
  await growing(ann).waitFor();
  const first = await grown(ann, 4);
  await shoot(page, '8-stream');
  await ann.cut();
  await ann.state('cut');
  const held = (await text(ann)).length;
  assert.ok(held >= first.at(-1));
  await page.waitForTimeout(1000);
  assert.equal((await text(ann)).length, held, 'a cut network lets chunks through');
  await ann.cut();
  await ann.state('connected');
  await longer(ann, held);
  assert.ok(asked.includes('message.stream'), 'what was missed is not asked for');
  await ann.list('me').locator('.message.stream:not(.growing)').last().waitFor();
  const whole = await written('ann');
  assert.equal(await text(ann), whole);
  await bob.hint(/^$/);

  // A page that is opened in the middle begins with what there is.
  await bob.press('Ask the bot');
  await growing(bob).waitFor();
  await grown(bob, 3);
  await reload(page);
  await growing(bob).waitFor();
  await grown(bob, 2);
  await bob.list('me').locator('.message.stream:not(.growing)').last().waitFor();
  assert.equal(await text(bob), await written('bob'));
  assert.equal(await text(ann), whole);
  for (const side of [ann, bob]) assert.equal(await side.list('me').locator('.message.stream').count(), 1);
  assert.equal(await page.getByText('was to come').count(), 0, 'an entry is missing');
}

// written is what history has of the bot's answer.
async function written(user) {
  const { client, seen } = connect(`${baseURL.replace(/^http/, 'ws')}/connection/websocket`, await issueToken(user));
  await until(() => seen.connected > 0, 'a connection');
  const { messages } = (await client.rpc('message.history', { channelType: 'direct', channelId: 'bot' })).data;
  client.disconnect();
  assert.equal(messages.length, 1);
  const { content, complete } = JSON.parse(messages[0].content);
  assert.ok(complete);
  return content;
}

async function reload(page) {
  isReloading = true;
  await page.reload();
  isReloading = false;
  for (const user of ['ann', 'bob']) await sideOf(page, user).state('connected');
}

// On screens of all sizes, in the light and in the dark.
async function sizes(page) {
  for (const [name, width, height] of [['9-laptop', 1280, 800], ['a-phone', 390, 844], ['b-tablet', 900, 700]]) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.equal(wide, width, 'the page is wider than the screen');
      await shoot(page, `${name}-${colorScheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  await shoot(page, 'c-phone-whole', { fullPage: true });
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
        if (odd === '' || !one.includes('"rpc":{"data":{"messageUID"')) {
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
  await shoot(page, 'd-used-link');
  await page.goto(link.split('#')[0]);
  await page.getByRole('heading', { name: 'This page needs a link' }).waitFor();
  await page.close();
}
