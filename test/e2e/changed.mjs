// What becomes of messages, as clients of the npm package see it: echoes, history,
// recalls, new content, metadata, traces, by the backend and by clients, for those
// who are there and for one who was away.

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, sendOpen, sendSystem, until } from './api.mjs';
import { connect } from './client.mjs';

const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;
const tokens = { alice: await issueToken('alice'), bob: await issueToken('bob'), eve: await issueToken('eve') };
const enter = async (user, deviceId) => {
  const one = connect(address, tokens[user], { deviceId });
  await one.client.ready();
  return one;
};
const rpc = async ({ client }, method, data) => (await client.rpc(method, data)).data;
const refused = (one, method, data, code) => assert.rejects(rpc(one, method, data), (err) => {
  assert.equal(err.code, code, `${method}: ${err.message}`);
  return true;
});

const phone = await enter('alice', 'phone');
const tablet = await enter('alice', 'tablet');
const bob = await enter('bob', 'phone');
const eve = await enter('eve', 'phone');

// Who was away: a device that is known, and comes back when all is over.
const away = await enter('bob', 'desk');
away.client.disconnect();

const events = (one, event) => one.seen.timeline.map((p) => p.data).filter((d) => d.event === event);
const about = (one, event, uid) => events(one, event).filter((d) => (d.message ?? d).messageUID === uid);
const told = async (one, event, uid, what) => {
  await until(() => about(one, event, uid).length > 0, `${event} at ${what}`);
  return about(one, event, uid).at(-1);
};
const say = (text, more = {}) => rpc(phone, 'message.send', {
  channelType: 'direct', channelId: 'bob', messageType: 'RC:TxtMsg', content: JSON.stringify({ content: text }), ...more,
});
const from = (fromUserId, text, more = {}) => call('/v4/direct-channel/message/send', {
  fromUserId, toUserIds: ['bob'], messageType: 'RC:TxtMsg', content: JSON.stringify({ content: text }), ...more,
}).then((r) => r.messageUIDs[0].messageUID);

// What one device sends the others of the same user have too, and repeating a
// send gives the same message.
const hello = await say('hello', { clientMsgId: 'm1' });
assert.deepEqual(await say('hello', { clientMsgId: 'm1' }), hello);
const got = (await told(bob, 'message', hello.messageUID, 'the recipient')).message;
const echo = (await told(tablet, 'message', hello.messageUID, 'the other device')).message;
assert.equal(got.direction, 'in');
assert.equal(got.channelId, 'alice');
assert.equal(echo.direction, 'out');
assert.equal(echo.channelId, 'bob');
assert.equal(echo.content, got.content);
assert.equal(echo.sentAt, hello.sentAt);
const quiet = await from('alice', 'not on my devices');
const loud = await from('alice', 'on my devices too', { isEchoToSender: 1 });
await told(tablet, 'message', loud, 'the sender who asked for an echo');
assert.equal(about(tablet, 'message', quiet).length, 0, 'no echo unless it is asked for');

// History is the same through both doors, and each sees their own side.
const hours = 3_600_000;
const server = async (userId, channelId, path = 'direct') => (await call(`/v4/${path}-channel/history-message/list`, {
  userId, channelId, startAt: Date.now() + hours, endAt: Date.now() - hours, includeStart: 1, pageSize: 100,
})).messages;
const client = (one, channelType, channelId, more = {}) => rpc(one, 'message.history', { channelType, channelId, ...more });
const sameHistory = async (one, userId, channelId) => {
  const listed = await server(userId, channelId);
  const { messages } = await client(one, 'direct', channelId);
  const essence = (list) => list.map((m) => [m.messageUID, m.fromUserId, m.messageType, m.content, m.sentAt]);
  assert.deepEqual(essence(messages), essence(listed), `history of ${userId} with ${channelId}`);
  return messages;
};
let list = await sameHistory(bob, 'bob', 'alice');
assert.deepEqual(list.map((m) => m.messageUID), [loud, quiet, hello.messageUID]);
assert.deepEqual((await sameHistory(tablet, 'alice', 'bob')).map((m) => m.messageUID), [loud, hello.messageUID]);
assert.deepEqual((await client(eve, 'direct', 'alice')).messages, [], 'nobody sees what others wrote each other');
const first = await client(bob, 'direct', 'alice', { limit: 2 });
assert.equal(first.more, true);
const second = await client(bob, 'direct', 'alice', { limit: 2, before: first.next });
assert.deepEqual([...first.messages, ...second.messages].map((m) => m.messageUID), list.map((m) => m.messageUID));
assert.equal(second.more, false);
const sale = await sendSystem('shop', 'bob', 'sale');
assert.deepEqual((await client(bob, 'system', 'shop')).messages.map((m) => m.messageUID), [sale]);

// Recalled by the sender's device: all devices of both learn of it.
await refused(bob, 'message.recall', { messageUID: hello.messageUID }, 403);
await refused(eve, 'message.recall', { messageUID: hello.messageUID }, 404);
const { recalledAt } = await rpc(phone, 'message.recall', { messageUID: hello.messageUID, extra: 'typo' });
assert.equal((await rpc(tablet, 'message.recall', { messageUID: hello.messageUID })).recalledAt, recalledAt);
for (const [one, channelId] of [[bob, 'alice'], [tablet, 'bob'], [phone, 'bob']]) {
  const e = await told(one, 'recall', hello.messageUID, channelId);
  assert.deepEqual([e.operatorId, e.channelId, e.extra, e.recalledAt, e.isAdmin], ['alice', channelId, 'typo', recalledAt, undefined]);
}
// Recalled by the backend, in the name of the app, with nothing left in its place.
await call('/v4/message/delete', { fromUserId: 'alice', channelType: 1, channelId: 'bob', messageUID: quiet, isAdmin: 1, isDelete: 1 });
const taken = await told(bob, 'recall', quiet, 'the recipient');
assert.deepEqual([taken.isAdmin, taken.isDelete], [true, true]);
list = await sameHistory(bob, 'bob', 'alice');
assert.deepEqual(list.map((m) => m.messageUID), [loud, hello.messageUID]);
assert.equal(list[1].messageType, 'RC:RcNtf');
assert.equal(JSON.parse(list[1].content).originalObjectName, 'RC:TxtMsg');

// In an open channel, who is there learns of it.
const lobby = bob.client.newSubscription('open:lobby');
const heard = [];
lobby.on('publication', (ctx) => heard.push(ctx.data));
lobby.subscribe();
await lobby.ready();
const shout = await sendOpen('alice', 'lobby', 'oops');
await call('/v4/message/delete', { fromUserId: 'alice', channelType: 4, channelId: 'lobby', messageUID: shout });
await until(() => heard.length === 2, 'the message and its recall');
assert.deepEqual(heard.map((d) => [d.event, (d.message ?? d).messageUID]), [['message', shout], ['recall', shout]]);
for (const m of [(await client(bob, 'open', 'lobby')).messages, await server('bob', 'lobby', 'open')]) {
  assert.deepEqual(m.map((x) => [x.messageUID, x.messageType]), [[shout, 'RC:RcNtf']]);
}

// New content, through both doors: the last one counts.
const text = (s) => JSON.stringify({ content: s });
await refused(bob, 'message.update', { messageUID: loud, content: text('mine') }, 403);
const { updatedAt } = await rpc(phone, 'message.update', { messageUID: loud, content: text('better') });
for (const one of [bob, tablet]) {
  const e = await told(one, 'update', loud, 'both sides');
  assert.deepEqual([e.content, e.updatedAt], [text('better'), updatedAt]);
}
await call('/v4/direct-channel/message/update', { fromUserId: 'alice', targetId: 'bob', messageUID: loud, content: text('best') });
await until(() => about(bob, 'update', loud).length === 2, 'the second update');
assert.equal(about(bob, 'update', loud)[1].content, text('best'));
list = await sameHistory(bob, 'bob', 'alice');
assert.equal(list[0].content, text('best'));
assert.ok(list[0].updatedAt >= updatedAt);

// Metadata, through both doors, by both sides.
const poll = await say('poll', { hasMetadata: true, metadata: { a: '1' } });
const messageUID = poll.messageUID;
await refused(bob, 'message.metadata.set', { messageUID: loud, metadata: { k: 'v' } }, 34008);
await rpc(bob, 'message.metadata.set', { messageUID, metadata: { bob: 'yes' } });
for (const one of [phone, tablet, bob]) {
  assert.deepEqual((await told(one, 'metadata', messageUID, 'both sides')).set, { bob: 'yes' });
}
const of = { userId: 'alice', channelType: 1, channelId: 'bob', messageUID };
await call('/v4/channel-type/message/metadata/set', { ...of, metadata: { b: '2', c: '3' } });
await call('/v4/channel-type/message/metadata/delete', { ...of, keys: ['a'] });
await rpc(phone, 'message.metadata.remove', { messageUID, keys: ['c'] });
// However often they come, changes are told so that who follows them has the pairs.
const pairs = (one) => about(one, 'metadata', messageUID).reduce((m, e) => {
  Object.assign(m, e.set);
  for (const k of e.removed ?? []) delete m[k];
  return m;
}, { a: '1' });
const want = { b: '2', bob: 'yes' };
await until(() => JSON.stringify(Object.entries(pairs(bob)).sort()) === JSON.stringify(Object.entries(want)), 'metadata at the recipient');
const { metadata } = await call('/v4/channel-type/message/metadata/list', { messageUID });
assert.deepEqual(metadata.map((p) => [p.key, p.value]), Object.entries(want));
assert.deepEqual((await sameHistory(bob, 'bob', 'alice'))[0].metadata, want);

// What became of a message: the sender learns that it has arrived.
await rpc(bob, 'ack', { offset: bob.seen.timeline.at(-1).offset });
const trace = await rpc(phone, 'message.trace', { messageUID });
assert.equal(trace.channelId, 'bob');
assert.ok(trace.written.until >= poll.sentAt && trace.acknowledged.until >= poll.sentAt, JSON.stringify(trace));
const report = await call('/v4x/message/trace', { messageUID });
assert.deepEqual(report.recipients.map((r) => r.userId), ['bob']);
assert.ok(report.recipients[0].sessions.some((s) => s.deviceId === 'phone' && s.acknowledged));
assert.equal(report.recipients[0].senderCopy.userId, 'alice');
await refused(bob, 'message.trace', { messageUID }, 404);

// The user's own blocklist, in pages, as the backend sees it too.
await rpc(bob, 'blocklist.add', { userIds: ['eve', 'mallory'] });
const page = await rpc(bob, 'blocklist.list', { pageSize: 1 });
assert.deepEqual(page.userIds, ['eve']);
assert.deepEqual((await rpc(bob, 'blocklist.list', { pageSize: 1, pageToken: page.pageToken })).userIds, ['mallory']);
await refused(eve, 'message.send', { channelType: 'direct', channelId: 'bob', messageType: 'app:x', content: 'x' }, 405);
await call('/v4/user/blocklist/remove', { userId: 'bob', blockedUserIds: ['eve'] });
assert.deepEqual((await rpc(bob, 'blocklist.list', {})).userIds, ['mallory']);
await rpc(bob, 'blocklist.remove', { userIds: ['mallory'] });

// Who was away gets all of it when they come back, in the order in which it was:
// what was recalled first as a message and then as recalled.
const last = await from('carol', 'the last one');
await told(bob, 'message', last, 'the recipient');
const back = await enter('bob', 'desk');
await told(back, 'message', last, 'who was away');
assert.deepEqual(back.seen.timeline.map((p) => [p.offset, p.data]), bob.seen.timeline.map((p) => [p.offset, p.data]));
const order = back.seen.timeline.map((p) => p.data);
assert.ok(order.findIndex((d) => d.message?.messageUID === quiet) < order.findIndex((d) => d.event === 'recall' && d.messageUID === quiet));

for (const one of [phone, tablet, bob, eve, back]) {
  assert.deepEqual(one.seen.timeline.map((p) => p.offset), one.seen.timeline.map((_, i) => one.seen.timeline[0].offset + i), 'offsets');
  assert.deepEqual(one.seen.errors, [], 'errors that the client tells of');
  one.client.disconnect();
}
