// An open channel is sent more than it takes, all within one window. Who is in it
// gets what was taken, in order, and is told how much was not.
//
//   node shed.mjs SHARED HIGH ALLOWLISTED   (the budgets of the window)

import assert from 'node:assert/strict';
import { baseURL, call, issueToken, until } from './api.mjs';
import { connect } from './client.mjs';

const budgets = process.argv.slice(2).map(Number);
const channel = 'busy';
const address = `${baseURL.replace(/^http/, 'ws')}/connection/websocket`;

// What makes a message one of its class: its priority, its type, its sender.
const ways = {
  low: [{ priority: 3 }, { messageType: 'app:like', priority: 0 }],
  standard: [{ priority: 0 }],
  high: [{ priority: 2 }],
  allowlisted: [{ priority: 1 }, { messageType: 'app:gift', priority: 3 }, { fromUserId: 'host', priority: 3 }],
};
const named = (kind, who, round) => {
  const list = ways[kind].filter((way) => who === 'backend' || !way.fromUserId); // bob is not the host
  return list[round % list.length];
};
await call('/v4/open-channel/priority-message-type-list/add', { messageTypes: ['app:gift'] });
await call('/v4/open-channel/low-priority-message-type-list/add', { messageTypes: ['app:like'] });

// Enters the channel and notes what is published there.
async function enter(user) {
  const { client, seen } = connect(address, await issueToken(user));
  await client.ready();
  const sub = client.newSubscription(`open:${channel}`);
  const notes = { user, client, seen, messages: [], shed: [] };
  sub.on('publication', ({ data, offset }) => {
    if (data.event === 'message') notes.messages.push({ uid: data.message.messageUID, content: data.message.content, offset });
    if (data.event === 'shed') {
      assert.equal(offset ?? 0, 0, 'the event has no place among what is said');
      notes.shed.push(data);
    }
  });
  sub.subscribe();
  await sub.ready();
  return notes;
}

const ann = await enter('ann');
const bob = await enter('bob');
await call('/v4/open-channel/priority-sender-list/add', { channelId: channel, participantIds: ['host'] });

// What a window should take, worked out here once more: each class takes of its
// own first.
const room = { shared: budgets[0], high: budgets[1], allowlisted: budgets[2] };
function takes(kind) {
  const of = { low: ['shared'], standard: ['high', 'shared'], high: ['high', 'shared'], allowlisted: ['allowlisted', 'high', 'shared'] }[kind];
  const found = of.find((name) => room[name] > 0);
  if (found) room[found]--;
  return found !== undefined;
}

const taken = []; // UIDs
const shed = { low: 0, high: 0, allowlisted: 0 };
const by = { backend: 0, client: 0 }; // of those that were shed
function count(kind, who) {
  by[who]++;
  shed[kind === 'standard' ? 'high' : kind]++; // as good as high
}

async function fromBackend(kind, n, round) {
  const r = await call('/v4/open-channel/message/send', {
    fromUserId: 'backend', toChannelIds: [channel], messageType: 'app:note', content: `${kind} ${n}`, ...named(kind, 'backend', round),
  });
  if (takes(kind)) {
    assert.equal(r.shed, undefined, `${kind} ${n}`);
    assert.equal(r.messageUIDs.length, 1);
    taken.push(r.messageUIDs[0].messageUID);
  } else {
    assert.deepEqual(r.messageUIDs, [], `${kind} ${n}`);
    assert.deepEqual(r.shed, [{ channelId: channel, reason: 'intake' }]);
    count(kind, 'backend');
  }
}

async function fromClient(kind, n, round) {
  const { data } = await bob.client.rpc('message.send', {
    channelType: 'open', channelId: channel, messageType: 'app:note', content: `${kind} ${n}`, echo: 1, ...named(kind, 'client', round),
  });
  if (takes(kind)) {
    assert.equal(data.shed, undefined, `${kind} ${n}`);
    taken.push(data.messageUID);
  } else {
    assert.equal(data.shed, 'intake', `${kind} ${n}`);
    assert.ok(!('messageUID' in data), 'what is shed is no message');
    count(kind, 'client');
  }
}

// Each kind in each round, so that classes fill up one after the other, and every
// third message is a client's.
const rounds = budgets.reduce((a, b) => a + b) + 2;
let n = 0;
for (let round = 0; round < rounds; round++) {
  for (const kind of ['low', 'standard', 'high', 'allowlisted']) {
    n++;
    await (n % 3 === 0 ? fromClient : fromBackend)(kind, n, round);
  }
}
assert.equal(taken.length, budgets.reduce((a, b) => a + b), 'all budgets are used up within the window');
for (const [what, k] of Object.entries({ ...shed, ...by })) assert.ok(k > 0, `none was shed: ${what}`);

// One request to two channels, of which one has no room.
{
  const r = await call('/v4/open-channel/message/send', {
    fromUserId: 'backend', toChannelIds: [channel, 'quiet'], messageType: 'app:note', content: 'both', priority: 1,
  });
  assert.deepEqual(r.messageUIDs.map((m) => m.channelId), ['quiet']);
  assert.deepEqual(r.shed, [{ channelId: channel, reason: 'intake' }]);
  count('allowlisted', 'backend');
}

const total = (notes) => notes.shed.reduce((sum, e) => {
  for (const kind of Object.keys(sum)) sum[kind] += e[kind] ?? 0;
  return sum;
}, { low: 0, high: 0, allowlisted: 0 });
const all = ({ low, high, allowlisted }) => low + high + allowlisted;
for (const who of [ann, bob]) {
  await until(() => who.messages.length >= taken.length && all(total(who)) >= all(shed), `what ${who.user} must be given`);
}
// Another second, in which what is too much would show.
await new Promise((resolve) => setTimeout(resolve, 1200));
for (const who of [ann, bob]) {
  assert.deepEqual(who.messages.map((m) => m.uid), taken, `${who.user}: exactly what was taken, in order`);
  assert.deepEqual(who.messages.map((m) => m.offset), taken.map((_, i) => i + 1), `${who.user}: offsets`);
  assert.deepEqual(total(who), shed, `${who.user}: the event shed`);
  assert.deepEqual(who.seen.errors, []);
  who.client.disconnect();
}

// Nothing was kept of the rest.
const cho = connect(address, await issueToken('cho'));
await cho.client.ready();
const { data: history } = await cho.client.rpc('message.history', { channelType: 'open', channelId: channel, limit: 100 });
assert.deepEqual(history.messages.map((m) => m.messageUID).reverse(), taken, 'history has what was taken');
cho.client.disconnect();

const metrics = await (await fetch(`${baseURL}/metrics`)).text();
for (const [kind, k] of Object.entries(shed)) {
  assert.match(metrics, new RegExp(`^parley_open_shed_total\\{class="${kind}",reason="intake"\\} ${k}$`, 'm'));
}
