// A broadcast: to somebody who is connected, to somebody who comes later, and
// its recall.

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, until } from './api.mjs';
import { connect } from './client.mjs';

const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;
const enter = async (user, data) => {
  const c = connect(address, await issueToken(user), data);
  await c.client.ready();
  return c;
};
const contents = (seen) => seen.timeline.map((p) => p.data.message?.content ?? p.data.event);

const ann = await enter('ann', { deviceId: 'phone' });
const sent = await call('/v4/system-channel/message/broadcast-all', { fromUserId: 'news', messageType: 'app:news', content: 'hello' });
assert.equal(sent.messageUID, sent.messageId);
await until(() => ann.seen.timeline.length === 1, 'the broadcast');
const { message } = ann.seen.timeline[0].data;
assert.equal(message.content, 'hello');
assert.equal(message.channelType, 'system');
assert.equal(message.channelId, 'news');
assert.notEqual(message.messageUID, sent.messageUID);

// Later, without a device and with one.
for (const data of [{}, { deviceId: 'phone' }]) {
  const later = await enter(data.deviceId ? 'bob' : 'cho', data);
  await until(() => later.seen.timeline.length === 1, 'the broadcast for who comes later');
  assert.deepEqual(contents(later.seen), ['hello']);
  later.client.disconnect();
}

await call('/v4/system-channel/message/broadcast/delete', { fromUserId: 'news', messageId: sent.messageId });
await until(() => ann.seen.timeline.length === 2, 'the recall');
assert.equal(ann.seen.timeline[1].data.event, 'recall');
assert.equal(ann.seen.timeline[1].data.messageUID, message.messageUID);
const bob = await enter('bob', { from: 'oldest' });
await until(() => bob.seen.timeline.length === 2, 'the recall for who had it');
assert.deepEqual(contents(bob.seen), ['hello', 'recall']);
const dan = await enter('dan', { from: 'oldest' });
const next = await call('/v4/system-channel/tagged-users/send', {
  platform: ['ios'], fromUserId: 'news', audience: { userId: ['dan'] }, notification: {}, message: { messageType: 'app:news', content: 'just you' },
});
await until(() => dan.seen.timeline.length === 1, 'a message of its own');
assert.deepEqual(contents(dan.seen), ['just you']);
assert.equal(dan.seen.timeline[0].data.message.messageUID, next.id);
for (const c of [ann, bob, dan]) c.client.disconnect();
