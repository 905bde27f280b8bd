// What the backend says of users, as their clients see it: bans, soft deletion,
// mutes and blocklists.

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, sendDirect, sendOpen, until } from './api.mjs';
import { connect } from './client.mjs';

const send = (client, channelType, channelId) => client.rpc('message.send', {
  channelType, channelId, messageType: 'RC:TxtMsg', content: JSON.stringify({ content: 'hi' }),
});

const refused = (call, code, what) => assert.rejects(call, (err) => {
  assert.equal(err.code, code, `${what}: ${err.message}`);
  return true;
});

// closes waits until the client is told to go and not to come back.
function closes(client, code) {
  const codes = [];
  client.on('disconnected', (ctx) => codes.push(ctx.code));
  return async () => {
    await until(() => codes.length > 0, `close code ${code}`);
    assert.deepEqual(codes, [code]);
    assert.equal(client.state, 'disconnected', 'a client that is shut out does not come back');
  };
}

const tokens = { bob: await issueToken('bob'), eve: await issueToken('eve') };
const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;
const enter = () => connect(address, tokens.bob, { deviceId: 'phone' });
const eve = connect(address, tokens.eve);
await eve.client.ready();

// A ban ends the connection, and those that are tried during it.
let bob = enter();
await bob.client.ready();
let shut = closes(bob.client, 4501);
await call('/v4/user/ban', { userIds: ['bob'], durationMinutes: 5 });
await shut();
bob = enter();
await closes(bob.client, 4501)();
const missed = await sendDirect('alice', 'bob', 'while banned');
assert.deepEqual((await call('/v4/user/ban/list', {})).bannedUsers.map((u) => u.userId), ['bob']);
await call('/v4/user/unban', { userIds: ['bob'] });
bob = enter();
await until(() => bob.seen.timeline.length === 1, 'what was missed during the ban');
assert.equal(bob.seen.timeline[0].data.message.messageUID, missed);

// So does a soft deletion, and the same token is good after it.
shut = closes(bob.client, 4503);
await call('/v4/user/soft-delete', { userIds: ['bob'] });
await shut();
await call('/v4/user/restore', { userIds: ['bob'] });
bob = enter();
await bob.client.ready();

// Mutes bind clients, by channel type, and not the backend.
await call('/v4/channel-type/mute/set', { userIds: ['bob'], muteState: 1, channelTypes: ['PERSON'] });
await refused(send(bob.client, 'direct', 'eve'), 20106, 'muted in direct channels');
await send(bob.client, 'open', 'lobby');
await call('/v4/channel-type/mute/set', { userIds: ['bob'], muteState: 1, channelType: 'CHATROOM' });
await refused(send(bob.client, 'open', 'lobby'), 23408, 'muted in open channels');
await sendDirect('bob', 'eve', 'from the backend');
await sendOpen('bob', 'lobby', 'from the backend');
assert.equal((await call('/v4/channel-type/mute/list', { channelType: 'CHATROOM' })).totalCount, 1);
await call('/v4/channel-type/mute/set', { userIds: ['bob'], muteState: 0, channelTypes: ['PERSON', 'CHATROOM'] });
await send(bob.client, 'direct', 'eve');

// A blocklist works one way, whoever has changed it.
await eve.client.rpc('blocklist.add', { userIds: ['bob'] });
await refused(send(bob.client, 'direct', 'eve'), 405, 'blocked');
await send(eve.client, 'direct', 'bob');
assert.deepEqual((await call('/v4/user/blocklist/get', { userId: 'eve' })).blockedUserIds, ['bob']);
const verified = await call('/v4/direct-channel/message/send', {
  fromUserId: 'bob', toUserIds: ['eve', 'cho'], messageType: 'app:x', content: 'x', verifyBlocklist: 1,
});
assert.deepEqual(verified.messageUIDs.map((m) => m.userId), ['cho']);
await call('/v4/user/blocklist/remove', { userId: 'eve', blockedUserIds: ['bob'] });
assert.deepEqual((await eve.client.rpc('blocklist.list', {})).data, { userIds: [] });
await new Promise((resolve) => { setTimeout(resolve, 1000); }); // the limit of a connection's sends
await send(bob.client, 'direct', 'eve');

assert.deepEqual([...bob.seen.errors, ...eve.seen.errors], [], 'errors that the client tells of');
bob.client.disconnect();
eve.client.disconnect();
