// First run (no argument): connect, receive a message of each kind, lose the
// network, miss 500 messages, come back, have each exactly once and in order.
// Second run ("oldest", and how many there are): a client that knows nothing
// starts at the oldest message that waits.

import assert from 'node:assert/strict';
import { baseURL, issueToken, sendDirect, sendOpen, sendSystem, until } from './api.mjs';
import { checkTimeline, connect } from './client.mjs';
import { relay } from './network.mjs';

const missed = 500;

async function first() {
  const network = await relay(baseURL);
  const { client, seen } = connect(network.url, await issueToken('bob'), { platform: 'web' });
  await client.ready();

  const lobby = client.newSubscription('open:lobby');
  const heard = [];
  lobby.on('publication', (ctx) => heard.push(ctx));
  lobby.subscribe();
  await lobby.ready();

  const uids = [await sendDirect('alice', 'bob', 'hello')];
  uids.push(await sendSystem('notices', 'bob', 'welcome'));
  const open = await sendOpen('alice', 'lobby', 'hello all');
  await until(() => seen.timeline.length === 2 && heard.length === 1, 'a message of each kind');

  const [direct, system] = seen.timeline.map((p) => p.data);
  assert.equal(direct.event, 'message');
  assert.equal(direct.message.channelType, 'direct');
  assert.equal(direct.message.channelId, 'alice');
  assert.equal(direct.message.fromUserId, 'alice');
  assert.equal(direct.message.direction, 'in');
  assert.equal(direct.message.messageType, 'RC:TxtMsg');
  assert.equal(direct.message.content, '{"content":"hello"}');
  assert.equal(system.message.channelType, 'system');
  assert.equal(system.message.channelId, 'notices');
  assert.equal(heard[0].data.message.messageUID, open);
  assert.equal(heard[0].data.message.channelType, 'open');
  assert.equal(heard[0].data.message.channelId, 'lobby');

  network.cut();
  await until(() => client.state === 'connecting', 'the client to notice');
  for (let i = 0; i < missed; i++) uids.push(await sendDirect('alice', 'bob', `missed ${i}`));
  assert.equal(seen.timeline.length, 2, 'nothing comes through a cut network');
  network.mend();
  await until(() => seen.timeline.length >= uids.length, 'what was missed');
  const live = await sendDirect('alice', 'bob', 'live again');
  uids.push(live);
  await until(() => seen.timeline.length >= uids.length, 'a live message');

  checkTimeline(seen.timeline, 1, uids);
  assert.equal(seen.connected, 2, 'one connection before, one after');
  assert.equal(seen.subscribed.at(-1).recovered, true, 'the client was told that it recovered');
  client.disconnect();
  network.close();
  process.stdout.write(`${uids.length} messages, each once and in order\n`);
}

async function fromOldest(total) {
  const { client, seen } = connect(baseURL.replace('http', 'ws') + '/connection/websocket', await issueToken('bob'), { from: 'oldest' });
  await until(() => seen.timeline.length >= total, 'everything from the oldest on');
  const extra = await sendDirect('alice', 'bob', 'one more');
  await until(() => seen.timeline.length > total, 'a live message after it');
  assert.equal(seen.timeline.length, total + 1);
  assert.deepEqual(seen.timeline.map((p) => p.offset), seen.timeline.map((_, i) => i + 1), 'offsets');
  assert.equal(new Set(seen.timeline.map((p) => p.data.message.messageUID)).size, total + 1, 'no UID twice');
  assert.equal(seen.timeline.at(-1).data.message.messageUID, extra);
  client.disconnect();
}

if (process.argv[2] === 'oldest') await fromOldest(Number(process.argv[3]));
else await first();
