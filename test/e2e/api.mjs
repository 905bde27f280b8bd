// Signed calls of the server API, made with nothing but Node itself.

import { createHash, randomBytes } from 'node:crypto';
import assert from 'node:assert/strict';

const { PARLEY_URL: url, PARLEY_APP_KEY: appKey, PARLEY_APP_SECRET: secret } = process.env;

export const baseURL = url;

export async function call(path, body) {
  const nonce = randomBytes(8).toString('hex');
  const timestamp = String(Date.now());
  const signature = createHash('sha1').update(secret + nonce + timestamp).digest('hex');
  const response = await fetch(url + path, {
    method: 'POST',
    headers: {
      'App-Key': appKey, Nonce: nonce, Timestamp: timestamp, Signature: signature,
      'Content-Type': 'application/json',
    },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  assert.equal(response.status, 200, `${path}: ${text}`);
  const answer = JSON.parse(text);
  assert.equal(answer.code, 0, text);
  return answer.result;
}

export async function issueToken(userId) {
  const { accessToken } = await call('/v4/auth/access-token/issue', { userId, name: userId });
  return accessToken;
}

const text = (s) => JSON.stringify({ content: s });

// The three sends give the UID for the (first) target.

export async function sendDirect(from, to, s) {
  const r = await call('/v4/direct-channel/message/send', {
    fromUserId: from, toUserIds: [to], messageType: 'RC:TxtMsg', content: text(s),
  });
  return r.messageUIDs[0].messageUID;
}

export async function sendSystem(from, to, s) {
  const r = await call('/v4/system-channel/message/send', {
    fromUserId: from, toUserIds: [to], messageType: 'RC:TxtMsg', content: text(s),
  });
  return r.messageUIDs[0].messageUID;
}

export async function sendOpen(from, channel, s) {
  const r = await call('/v4/open-channel/message/send', {
    fromUserId: from, toChannelIds: [channel], messageType: 'RC:TxtMsg', content: text(s),
  });
  return r.messageUIDs[0].messageUID;
}

export function until(condition, what, milliseconds = 30_000) {
  const deadline = Date.now() + milliseconds;
  return new Promise((resolve, reject) => {
    const look = () => {
      if (condition()) resolve();
      else if (Date.now() > deadline) reject(new Error(`waited in vain for ${what}`));
      else setTimeout(look, 10);
    };
    look();
  });
}
