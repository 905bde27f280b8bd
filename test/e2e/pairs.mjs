// Metadata of an open channel, through both doors, as clients see it.

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, until } from './api.mjs';
import { connect } from './client.mjs';

const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;
const channelId = 'lobby';

// join enters the channel and keeps what its pairs are, by what is told of them.
async function join(user) {
  const { client, seen } = connect(address, await issueToken(user));
  const me = { client, seen, pairs: {} };
  const sub = client.newSubscription(`open:${channelId}`);
  sub.on('subscribed', (ctx) => { me.pairs = { ...ctx.data.metadata }; });
  sub.on('publication', ({ data }) => {
    if (data.event !== 'kv') return;
    Object.assign(me.pairs, data.set);
    for (const key of data.removed ?? []) delete me.pairs[key];
  });
  sub.subscribe();
  await sub.ready();
  me.leave = () => sub.unsubscribe();
  me.rpc = async (method, data) => (await client.rpc(`open.${method}`, { channelId, ...data })).data;
  return me;
}

const path = (verb) => `/v4/open-channel/metadata/batch/${verb}`;
const sees = (who, pairs) => until(() => {
  try { assert.deepEqual(who.pairs, pairs); return true; } catch { return false; }
}, `${JSON.stringify(pairs)}`);

await call(path('set'), { channelId, metadataOwnerId: 'host', metadata: { topic: 'tea' } });
const bob = await join('bob');
const eve = await join('eve');
assert.deepEqual([bob.pairs, eve.pairs], [{ topic: 'tea' }, { topic: 'tea' }]);

await bob.rpc('metadata.set', { metadata: { 'seat=1': 'bob' }, shouldAutoDelete: true });
await sees(eve, { topic: 'tea', 'seat=1': 'bob' });
await assert.rejects(eve.rpc('metadata.set', { metadata: { topic: 'coffee' } }), (err) => err.code === 23424);
await eve.rpc('metadata.set', { metadata: { topic: 'coffee' }, overwrite: true });
await sees(bob, { topic: 'coffee', 'seat=1': 'bob' });
assert.deepEqual((await bob.rpc('metadata.get', { keys: ['topic'] })).metadata.map((p) => [p.key, p.value, p.userId]), [['topic', 'coffee', 'eve']]);
assert.deepEqual((await bob.rpc('participants', {})).participants.map((p) => p.userId), ['bob', 'eve']);

// What is bob's leaves with him.
bob.leave();
await sees(eve, { topic: 'coffee' });
await assert.rejects(bob.rpc('metadata.get', {}), (err) => err.code === 23406);
await call(path('remove'), { channelId, metadataOwnerId: 'host', metadataKeys: ['topic'] });
await sees(eve, {});
assert.deepEqual((await call(path('get'), { channelId })).metadata, []);

assert.deepEqual([...bob.seen.errors, ...eve.seen.errors], [], 'errors that the client tells of');
bob.client.disconnect();
eve.client.disconnect();
