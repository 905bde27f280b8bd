// The centrifuge client as anybody would use it, and a record of what it said.

import assert from 'node:assert/strict';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

export function connect(url, token, data = {}) {
  const client = new Centrifuge(url, { token, data, websocket: WebSocket });
  const seen = { timeline: [], connected: 0, subscribed: [], errors: [] };
  client.on('connected', () => { seen.connected++; });
  client.on('subscribed', (ctx) => seen.subscribed.push(ctx));
  client.on('error', (ctx) => seen.errors.push(ctx));
  client.on('publication', (ctx) => {
    if (ctx.channel === 'me') seen.timeline.push(ctx);
  });
  client.connect();
  return { client, seen };
}

// A timeline as it must be: every offset once, in order, without a gap.
export function checkTimeline(timeline, first, uids) {
  assert.deepEqual(timeline.map((p) => p.offset), uids.map((_, i) => first + i), 'offsets');
  assert.deepEqual(timeline.map((p) => p.data.message.messageUID), uids, 'UIDs in the order of the answers');
}
