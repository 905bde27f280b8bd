// What the backend does with an open channel, as those see it who are there.

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, sendOpen, until } from './api.mjs';
import { connect } from './client.mjs';

const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;

// enter connects and enters the channel, and notes what is heard there.
async function enter(user, channel) {
  const { client, seen } = connect(address, await issueToken(user));
  const sub = client.newSubscription(`open:${channel}`);
  const heard = { events: [], out: [], seen };
  sub.on('publication', (ctx) => heard.events.push(ctx.data));
  sub.on('unsubscribed', (ctx) => heard.out.push(ctx.code));
  sub.on('error', (ctx) => heard.out.push(ctx.error.code));
  sub.subscribe();
  await sub.ready();
  return { client, sub, heard };
}

const last = (who, event) => who.heard.events.filter((e) => e.event === event).at(-1);
const write = (who, channel) => who.client.rpc('message.send', {
  channelType: 'open', channelId: channel, messageType: 'app:text', content: 'hi',
});
const refused = (what, code) => assert.rejects(what, (err) => {
  assert.equal(err.code, code, err.message);
  return true;
});

await call('/v4/open-channel/create', { channelId: 'hall', destroyType: 1, ttlMinutes: 120 });
const ann = await enter('ann', 'hall');
const bob = await enter('bob', 'hall');
const hall = await call('/v4/open-channel/get', { channelId: 'hall' });
assert.deepEqual([hall.participantCount, hall.destroyType, hall.ttlMinutes, hall.isFrozen], [2, 1, 120, false]);
const there = await call('/v4/open-channel/participant/list', { channelId: 'hall' });
assert.deepEqual(there.participants.map((p) => p.participantId), ['ann', 'bob']);

// Muted: everybody is told, and bob cannot write until it ends.
const about = { channelId: 'hall', participantIds: ['bob'], needNotify: true, extra: '{"why":"noise"}' };
await call('/v4/open-channel/participant/mute-list/add', { ...about, durationMinutes: 5 });
await until(() => last(ann, 'mute') && last(bob, 'mute'), 'news of the mute');
assert.deepEqual([last(ann, 'mute').on, last(ann, 'mute').userIds, last(ann, 'mute').extra], [true, ['bob'], '{"why":"noise"}']);
await refused(write(bob, 'hall'), 23408);
await write(ann, 'hall');
await call('/v4/open-channel/participant/mute-list/remove', about);
await write(bob, 'hall');

// Frozen: nobody can write but those allowed.
await call('/v4/open-channel/participant/allowed-sender-list/add', { channelId: 'hall', participantIds: ['ann'] });
await call('/v4/open-channel/freeze-list/add', { channelId: 'hall', needNotify: true });
await until(() => last(bob, 'freeze')?.on, 'news of the freeze');
await refused(write(bob, 'hall'), 23408);
await write(ann, 'hall');
await sendOpen('backend', 'hall', 'who may always');
await call('/v4/open-channel/freeze-list/remove', { channelId: 'hall' });

// Banned: out, and not let in again until the ban is lifted.
await call('/v4/open-channel/participant/ban-list/add', { ...about, durationMinutes: 5 });
await until(() => bob.heard.out.length > 0, 'being put out');
assert.deepEqual(bob.heard.out, [2101]);
await until(() => last(ann, 'ban')?.on, 'news of the ban');
bob.sub.subscribe();
await until(() => bob.heard.out.includes(23409), 'being refused');
await refused(write(bob, 'hall'), 23409);
assert.equal((await call('/v4/open-channel/participant/exist', { channelId: 'hall', participantIds: ['bob'] })).participants[0].isInOpenChannel, 0);
await call('/v4/open-channel/participant/ban-list/remove', { channelId: 'hall', participantIds: ['bob'] });
bob.sub.unsubscribe();
bob.sub.subscribe();
await bob.sub.ready();

// What is said in all open channels.
await call('/v4/open-channel/message/broadcast', { fromUserId: 'backend', messageType: 'app:text', content: 'to all' });
await until(() => [ann, bob].every((who) => last(who, 'message')?.message.content === 'to all'), 'the broadcast');

// The end.
await call('/v4/open-channel/destroy', { channelIds: ['hall'] });
await until(() => [ann, bob].every((who) => last(who, 'destroyed') && who.heard.out.at(-1) === 2102), 'the end');
assert.deepEqual([...ann.heard.seen.errors, ...bob.heard.seen.errors], [], 'errors that the client tells of');
ann.client.disconnect();
bob.client.disconnect();
