// The service worker that the server has ready, in a browser that is handed what the
// server has sent: what it shows, what it takes away, and what a click tells the page.
// Arguments: a file with what was sent, and the UIDs of the messages.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { baseURL } from './api.mjs';

async function until(what, holds) {
  for (const end = Date.now() + 30_000; !await holds();) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const { payloads, uids: [uid, tagged] } = JSON.parse(await readFile(process.argv[2], 'utf8'));

// An app's own site, which has copied the file.
const answer = await fetch(`${baseURL}/demo/parley-push.js`);
assert.equal(answer.status, 200);
assert.match(answer.headers.get('content-type'), /^text\/javascript/);
const script = await answer.text();
const site = createServer((request, response) => {
  if (request.url === '/parley-push.js') response.writeHead(200, { 'content-type': 'text/javascript' }).end(script);
  else response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>An app</title>');
});
await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${site.address().port}`;

const profile = await mkdtemp(join(tmpdir(), 'parley-worker-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  await context.grantPermissions(['notifications'], { origin });
  const page = context.pages()[0] ?? await context.newPage();
  const complaints = [];
  page.on('console', (m) => { if (m.type() === 'error') complaints.push(m.text()); });
  page.on('pageerror', (err) => complaints.push(err.message));
  const tools = await context.newCDPSession(page);
  const registrations = new Map();
  tools.on('ServiceWorker.workerRegistrationUpdated', (e) => {
    for (const r of e.registrations) registrations.set(r.scopeURL, r.registrationId);
  });
  tools.on('ServiceWorker.workerErrorReported', (e) => complaints.push(e.errorMessage.errorMessage));
  await tools.send('ServiceWorker.enable');
  await page.goto(`${origin}/`);
  assert.equal(await page.evaluate(() => Notification.permission), 'granted');
  await page.evaluate(async () => {
    await navigator.serviceWorker.register('/parley-push.js');
    await navigator.serviceWorker.ready;
    globalThis.clicks = [];
    navigator.serviceWorker.addEventListener('message', (e) => clicks.push(e.data));
    navigator.serviceWorker.startMessages();
  });
  await until('the registration', () => registrations.has(`${origin}/`));
  await until('the worker', () => page.evaluate(async () => (await navigator.serviceWorker.ready).active.state === 'activated'));
  const registrationId = registrations.get(`${origin}/`);
  const screen = () => page.evaluate(async () => {
    const registration = await navigator.serviceWorker.ready;
    return (await registration.getNotifications()).map((n) => ({
      title: n.title, body: n.body, tag: n.tag, data: n.data, stays: n.requireInteraction, timestamp: n.timestamp,
    }));
  });
  // Whoever asks what is shown while something is being put up has Chromium forget that:
  // it is asked seldom, and handed the message again, which is to show once.
  const push = async (what, data, holds) => {
    let list = [];
    for (const end = Date.now() + 30_000; Date.now() < end;) {
      await tools.send('ServiceWorker.deliverPushMessage', { origin, registrationId, data });
      for (let looks = 0; looks < 5; looks++) {
        await new Promise((resolve) => setTimeout(resolve, 200));
        list = await screen();
        if (holds(list)) return list;
      }
    }
    throw new Error(`waited in vain for ${what}: ${JSON.stringify([list, complaints])}`);
  };

  const [message, withTag, recall] = payloads.map((p) => JSON.stringify(p));
  const [first] = await push('the message', message, (list) => list.length === 1);
  assert.equal(first.title, 'Alice');
  assert.equal(first.body, 'Are you there? 👋');
  assert.equal(first.tag, uid);
  assert.equal(first.timestamp, payloads[0].timestamp);
  assert.equal(first.stays, false);
  assert.equal(first.data.appData, '{"order":17}');
  assert.deepEqual(first.data.rc, { cType: 'PR', fId: 'alice', oName: 'RC:TxtMsg', tId: 'alice', rId: 'user-0', id: uid });

  // What comes twice shows once, and another beside it.
  await push('the message again', message, (list) => list.length === 1);
  const both = await push('two messages', withTag, (list) => list.length === 2);
  const second = both.find((n) => n.tag === 'alice');
  assert.equal(second.body, 'I never liked your cat');
  assert.equal(second.stays, true);
  assert.equal(second.data.link, 'https://example.com/alice');

  // The recall takes away what it recalls, though that had a tag of the sender's.
  const after = await push('the recall', recall, (list) => list.some((n) => n.tag === tagged) && !list.some((n) => n.tag === 'alice'));
  assert.equal(after.length, 2);
  assert.equal(after.find((n) => n.tag === tagged).data.rc.oName, 'RC:RcCmd');

  // Something is shown for whatever comes.
  await push('something', 'no JSON', (list) => list.some((n) => n.title === 'New message' && n.tag === ''));

  // A click on one is told to the page that is open. Nothing here can click, so the
  // worker is asked to do what it does then.
  const [worker] = context.serviceWorkers();
  await worker.evaluate((data) => goTo(data), first.data);
  await until('the click', () => page.evaluate(() => clicks.length > 0));
  assert.deepEqual(await page.evaluate(() => clicks), [{ parley: 'click', data: first.data }]);
  assert.deepEqual(complaints, []);
} finally {
  await context.close();
  site.close();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}
