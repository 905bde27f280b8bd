// What a user sets on their own channels, on one device and by the backend, as
// the other devices learn of it; and who is typing.

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, until } from './api.mjs';
import { connect } from './client.mjs';

const tokens = { bob: await issueToken('bob'), eve: await issueToken('eve') };
const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;
const phone = connect(address, tokens.bob, { deviceId: 'phone' });
const tablet = connect(address, tokens.bob, { deviceId: 'tablet' });
const eve = connect(address, tokens.eve);
await Promise.all([phone, tablet, eve].map((c) => c.client.ready()));
const events = (c) => c.seen.timeline.map((p) => p.data);
const direct = { channelType: 'direct', channelId: 'eve' };

// The tablet goes away while the phone and the backend change things.
tablet.client.disconnect();
const { data: { pinnedAt } } = await phone.client.rpc('channel.pin', { ...direct, pinned: true });
await call('/v4/channel/push/set', { requestId: 'bob', channelType: '1', channelId: 'eve', noDisturbLevel: 5 });
await phone.client.rpc('channel.notification', { quietHours: { from: '22:00', to: '07:00', timezone: 'Europe/Berlin' } });
await call('/v4/user/channel/tag/add', { userId: 'bob', tags: [{ tagId: 'w', tagName: 'Work' }] });
await phone.client.rpc('channel.tag.add', { tagId: 'w', channels: [direct] });

await until(() => events(phone).length === 5, 'what the phone is told');
tablet.client.connect();
await until(() => events(tablet).length === 5, 'what the tablet has missed');
assert.deepEqual(events(tablet), events(phone));
assert.deepEqual(events(tablet).slice(0, 3), [
  { event: 'channel', ...direct, pinned: true, pinnedAt },
  { event: 'channel', ...direct, level: 5 },
  { event: 'channel', quietHours: { from: '22:00', to: '07:00', timezone: 'Europe/Berlin', level: 5 } },
]);
assert.equal(events(tablet)[3].channelTags[0].tagName, 'Work');
assert.deepEqual(events(tablet)[4].tagged, [direct]);
assert.deepEqual(await call('/v4/channel/attribute/get', { userId: 'bob', channelType: 1, channelId: 'eve' }), {
  channelId: 'eve', channelType: 1, pin: { isPinned: true, pinnedAt }, notification: { level: 5 }, tags: [{ tagId: 'w', tagName: 'Work' }],
});

// Typing is for who is there, and leaves no entry.
await eve.client.rpc('typing', { channelType: 'direct', channelId: 'bob' });
for (const c of [phone, tablet]) {
  await until(() => events(c).length === 6, 'that eve is typing');
  assert.deepEqual(events(c)[5], { event: 'typing', ...direct, userId: 'eve' });
  assert.equal(c.seen.timeline[5].offset ?? 0, 0);
  assert.deepEqual(c.seen.errors, []);
  c.client.disconnect();
}
assert.deepEqual(events(eve), [], 'nobody else is told');
eve.client.disconnect();
