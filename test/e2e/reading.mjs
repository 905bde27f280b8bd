// What users make of what they got, over the npm package: reading on one device is
// heard on the other, and by senders who asked for it; what is left unread is told
// on connecting; recalls count no more; what one deletes for oneself the other keeps.

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, sendDirect, until } from './api.mjs';
import { connect } from './client.mjs';

const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;
const tokens = { alice: await issueToken('alice'), bob: await issueToken('bob') };

// enter connects, and keeps what each connect said of unread messages.
async function enter(user, deviceId) {
  const c = connect(address, tokens[user], { deviceId });
  c.unread = [];
  c.client.on('connected', (ctx) => c.unread.push(ctx.data.unread.total));
  await c.client.ready();
  return c;
}
const events = (c, name) => c.seen.timeline.map((p) => p.data).filter((d) => d.event === name);
const say = async (c, channelId, content, rest = {}) => (await c.client.rpc('message.send', {
  channelType: 'direct', channelId, messageType: 'RC:TxtMsg', content: JSON.stringify({ content }), ...rest,
})).data.messageUID;
const history = async (c, channelId) => (await c.client.rpc('message.history', { channelType: 'direct', channelId })).data.messages;

const alice = await enter('alice', 'laptop');
const pad = await enter('alice', 'pad');
const phone = await enter('bob', 'phone');
const desk = await enter('bob', 'desk');
assert.deepEqual(phone.unread, [0]);

const wanted = await say(alice, 'bob', 'have you seen this?', { needReadReceipt: true });
const plain = await say(alice, 'bob', 'and that?');
await say(alice, 'bob', 'quietly', { disableUpdateLastMsg: true });
const shop = await call('/v4/system-channel/message/send', {
  fromUserId: 'shop', toUserIds: ['bob'], messageType: 'RC:TxtMsg', content: '{"content":"sale"}',
});

let list = (await phone.client.rpc('channel.list', {})).data;
assert.deepEqual(list.unread, { total: 4 });
assert.deepEqual(list.channels.map((c) => [c.channelType, c.channelId, c.last.messageUID, c.unread]), [
  ['system', 'shop', shop.messageUIDs[0].messageUID, 1],
  ['direct', 'alice', plain, 3],
]);

// Read on one device: the other one hears it, and both of the sender's.
const read = (await phone.client.rpc('message.read', { channelType: 'direct', channelId: 'alice', upTo: plain })).data;
assert.deepEqual(read.unread, { channel: 1, total: 2 });
await until(() => events(desk, 'read').length === 1, 'the event on the other device');
assert.deepEqual(events(desk, 'read')[0], {
  event: 'read', channelType: 'direct', channelId: 'alice', upTo: plain, readAt: read.readAt,
});
for (const sender of [alice, pad]) {
  await until(() => events(sender, 'receipt').length === 1, 'the receipt');
  const [r] = events(sender, 'receipt');
  assert.deepEqual([r.messageUID, r.channelId, r.readCount, r.unreadCount, r.totalCount], [wanted, 'bob', 1, 0, 1]);
  assert.deepEqual(r.users.map((u) => u.userId), ['bob']);
}
const readers = (await alice.client.rpc('message.readers', { messageUID: wanted })).data;
assert.deepEqual([readers.read.map((u) => u.userId), readers.unread], [['bob'], []]);

// A device that comes back is told what is unread. A recall withdraws.
const oops = await say(alice, 'bob', 'oops');
desk.client.disconnect();
desk.client.connect();
await until(() => desk.unread.length === 2, 'the desk to be back');
assert.equal(desk.unread[1], 3);
await alice.client.rpc('message.recall', { messageUID: oops });
desk.client.disconnect();
desk.client.connect();
await until(() => desk.unread.length === 3, 'the desk to be back again');
assert.equal(desk.unread[2], 2);

// Deleted for me, not for the other one; cleared by the backend, likewise.
await phone.client.rpc('message.delete', { messageUIDs: [wanted] });
await until(() => events(desk, 'delete').length === 1, 'the deletion on the other device');
assert.ok(!(await history(desk, 'alice')).some((m) => m.messageUID === wanted));
assert.ok((await history(pad, 'bob')).some((m) => m.messageUID === wanted && m.receipt.readCount === 1));
await call('/v4/channel/message/history/clean', { fromUserId: 'bob', channelType: 1, channelId: 'alice', sentAt: '' });
await until(() => events(desk, 'clear').length === 1, 'the clearing on the other device');
assert.deepEqual(await history(phone, 'alice'), []);
assert.equal((await history(alice, 'bob')).length, 4);

// Out of the list, until something new is said.
await phone.client.rpc('channel.remove', { channelType: 'direct', channelId: 'alice' });
list = (await desk.client.rpc('channel.list', {})).data;
assert.deepEqual([list.channels.map((c) => c.channelId), list.unread.total], [['shop'], 1]);
await sendDirect('alice', 'bob', 'hello again');
list = (await desk.client.rpc('channel.list', {})).data;
assert.deepEqual([list.channels.map((c) => c.channelId), list.unread.total], [['alice', 'shop'], 2]);

for (const c of [alice, pad, phone, desk]) {
  assert.deepEqual(c.seen.errors, [], 'errors that the client tells of');
  c.client.disconnect();
}
