// A stream as a client of the npm package reads it, by the rules of the client
// protocol and no more: it prints nothing, and ends well when the stream has come
// to its end with the text it was given. The server is killed meanwhile.

import assert from 'node:assert/strict';
import { baseURL, issueToken, until } from './api.mjs';
import { connect } from './client.mjs';

const want = process.argv[2];

const { client, seen } = connect(`${baseURL.replace(/^http/, 'ws')}/connection/websocket`, await issueToken('bob'));
const streams = new Map(); // by messageUID: what is known of each
let asked = 0;

// ask gets the text so far where chunks were missed.
async function ask(uid) {
  asked++;
  let got;
  try {
    got = (await client.rpc('message.stream', { messageUID: uid })).data;
  } catch {
    return; // the connection was lost: it is asked again once there is a new one
  }
  const s = streams.get(uid);
  if (got.seq >= s.seq) Object.assign(s, { text: got.content, seq: got.seq, complete: got.complete, gap: false });
}

client.on('publication', ({ channel, data }) => {
  if (channel !== 'me') return;
  if (data.event === 'message' && data.message.messageType === 'RC:StreamMsg') {
    const uid = data.message.messageUID;
    const { content, seq, complete } = JSON.parse(data.message.content);
    const s = streams.get(uid);
    if (!s) streams.set(uid, { text: content, seq, complete, gap: false, sentAt: data.message.sentAt });
    else if (seq >= s.seq) {
      assert.equal(data.message.sentAt, s.sentAt, 'the finished message has the time of the first chunk');
      Object.assign(s, { text: content, seq, complete, gap: false });
    }
  } else if (data.event === 'stream') {
    const s = streams.get(data.messageUID);
    if (!s || data.seq <= s.seq || s.gap) return;
    if (data.seq === s.seq + 1) {
      s.seq = data.seq;
      s.text += data.content;
    } else {
      s.gap = true;
      ask(data.messageUID);
    }
  }
});
client.on('connected', () => {
  for (const [uid, s] of streams) if (!s.complete) ask(uid);
});

await until(() => [...streams.values()].some((s) => s.complete), 'the end of the stream', 80_000);
const [s] = streams.values();
assert.equal(streams.size, 1);
assert.equal(s.text, want);
assert.ok(seen.connected >= 2, 'the server was killed meanwhile');
assert.ok(asked >= 1, 'the client asked for what it had missed');

// Who comes afterwards finds the same text in the first message already.
const late = connect(`${baseURL.replace(/^http/, 'ws')}/connection/websocket`, await issueToken('bob'), { from: 'oldest' });
await until(() => late.seen.timeline.length >= 1, 'the message');
assert.equal(JSON.parse(late.seen.timeline[0].data.message.content).content, want);
late.client.disconnect();
client.disconnect();
