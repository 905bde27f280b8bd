// One user's client, as an app would have it: the centrifuge package, a
// timeline, an open channel, and an outbox. It knows nothing of the page; what
// happens it tells its view.

import { Centrifuge, UnauthorizedError } from './vendor/centrifuge-5.8.0.mjs';
import { Line } from './line.mjs';
import { Refused } from './door.mjs';

const earlier = 150; // entries from before the page was opened
const retryDelay = 600;
const known = 1000; // messages of one list that are told from doubles
const typingEvery = 2500; // how often somebody who goes on typing says so
const typingLasts = 5000; // how long it is shown without hearing of it again
export const reaction = 'reaction-'; // keys of metadata: one for each user

const address = new URL('../connection/websocket', document.baseURI);
address.protocol = address.protocol.replace('http', 'ws');

export class Side {
  line = new Line();
  position = null; // of the timeline: { offset, epoch }
  lobbyOffset = null;
  waiting = 0; // messages accepted for this user while their network is cut
  isAway = false; // nobody looks at this side: what comes stays unread

  #view;
  #client;
  #lobby;
  #rows = { me: new Map(), lobby: new Map() }; // by UID
  #outbox = [];
  #flushing = false;
  #cutAt = 0;
  #mendedAt = 0;
  #connectedBefore = false;
  #catchUp = null;
  #onAccepted;
  #held = []; // live publications while earlier ones are being read
  #reading = false;
  #newest = new Map(); // by conversation: the newest message received in it
  #toRead = new Set(); // conversations that were looked at
  #unread = new Map(); // by UID: the conversation
  #saidTyping = 0;
  #typists = new Map(); // by user: the timer that ends it

  constructor({ user, peer, channel, getToken, view, onAccepted }) {
    Object.assign(this, { user, peer, channel });
    this.#view = view;
    this.#onAccepted = onAccepted;
    this.#client = new Centrifuge(address.href, {
      getToken: async () => {
        try {
          return await getToken(user);
        } catch (err) {
          if (err instanceof Refused && err.status === 401) throw new UnauthorizedError(err.message);
          throw err;
        }
      },
      data: { platform: 'web', from: 'now' },
      websocket: this.line.WebSocket,
      networkEventTarget: this.line,
      minReconnectDelay: 300,
      maxReconnectDelay: 5000,
    });
    this.#listen();
  }

  start() { this.#client.connect(); }

  #listen() {
    const c = this.#client;
    c.on('connecting', () => this.#showState());
    c.on('disconnected', ({ code, reason }) => this.#showState(`Ended: ${reason} (${code})`));
    c.on('connected', ({ data }) => this.#connected(data));
    c.on('subscribed', (ctx) => { if (ctx.channel === 'me') this.#timelineBegins(ctx); });
    c.on('publication', (ctx) => {
      if (ctx.channel !== 'me') return;
      if (this.#held) this.#held.push(ctx);
      else this.#timeline(ctx);
    });
    // It comes back by itself; the state says that it tries to.
    c.on('error', () => this.#showState());

    this.#lobby = c.newSubscription(`open:${this.channel}`);
    this.#lobby.on('subscribed', (ctx) => this.#entered(ctx));
    this.#lobby.on('publication', (ctx) => this.#heard(ctx));
    this.#lobby.on('error', ({ error }) => {
      // Codes below 100 are of the connection, which comes back by itself.
      if (error.code >= 100) this.#view.note('lobby', error.message);
    });
    this.#lobby.on('unsubscribed', ({ reason, code }) => this.#view.note('lobby', `Left the channel: ${reason} (${code})`));
    this.#lobby.subscribe();
  }

  #showState(ended) {
    if (ended) this.#view.state('ended', ended);
    else if (this.line.isCut) this.#view.state('cut', this.waiting ? `Network cut · ${this.waiting} waiting` : 'Network cut');
    else if (this.#client.state === 'connected') this.#view.state('connected', this.isAway ? 'Connected, looking away' : 'Connected');
    else this.#view.state('connecting', this.#connectedBefore ? 'Connecting again …' : 'Connecting …');
  }

  cut() {
    this.#cutAt = performance.now();
    this.line.cut();
    for (const user of this.#typists.keys()) this.#stoppedTyping(user);
    this.#showState();
  }

  mend() {
    this.#mendedAt = performance.now();
    this.line.mend();
    this.#showState();
  }

  // piledUp is told of messages that the server has accepted for this user.
  piledUp(n) {
    if (!this.line.isCut) return;
    this.waiting += n;
    this.#showState();
  }

  #connected(data) {
    // What was accepted before the server answered is what was missed; the rest
    // is live. Both times are of the server's clock.
    const away = this.#connectedBefore;
    this.#catchUp = away
      ? { before: data.serverTime, since: this.#mendedAt || performance.now(), away: this.#cutAt && this.#mendedAt - this.#cutAt, me: 0, lobby: 0 }
      : null;
    this.#cutAt = this.#mendedAt = 0;
    this.#connectedBefore = true;
    this.waiting = 0;
    if (away) {
      this.#view.back('me', this.#catchUp, this.position?.offset ?? 0);
      this.#view.back('lobby', this.#catchUp, this.lobbyOffset ?? 0);
    }
    this.#showState();
    this.#flush();
    this.#read();
    for (const row of this.#rows.me.values()) if (row.stream && !row.stream.complete) this.#askForStream(row);
  }

  #isCaughtUp(where, m) {
    const c = this.#catchUp;
    if (!c || m.sentAt > c.before) return false;
    c[where]++;
    c.took = performance.now() - c.since;
    return true;
  }

  // The timeline.

  #timelineBegins({ streamPosition, wasRecovering, recovered }) {
    const again = this.position !== null;
    if (!again || !recovered) this.#moved(streamPosition.offset, streamPosition.epoch);
    if (wasRecovering && !recovered) {
      this.#view.note('me', 'The server could not go on from where this client was. What it still has follows.');
    }
    if (!again) this.#readEarlier(streamPosition.offset);
  }

  #moved(offset, epoch = this.position.epoch) {
    this.position = { offset, epoch };
    this.#view.position(this.position, this.lobbyOffset);
  }

  // What came before the page was opened is read back from the timeline, with
  // what has become of it since. What comes live meanwhile waits: it may be about
  // a message that is only being read.
  async #readEarlier(upTo) {
    try {
      const { publications } = await this.#client.history('me', { limit: earlier, reverse: true });
      for (const p of publications.reverse()) if (p.offset <= upTo) this.#happened('me', p, 'earlier');
    } catch (err) {
      this.#view.note('me', `Earlier messages could not be read: ${err.message}`);
    }
    const held = this.#held;
    this.#held = null;
    for (const ctx of held) this.#timeline(ctx);
  }

  #timeline(ctx) {
    // What has no offset is seen once and not kept.
    if (ctx.offset) {
      const next = this.position.offset + 1;
      if (ctx.offset !== next) this.#view.note('me', `Entry ${next} was to come, and ${ctx.offset} came.`);
      this.#moved(ctx.offset);
    }
    this.#happened('me', ctx);
  }

  // happened shows what a publication tells of.
  #happened(where, { offset, data }, mark = '') {
    const row = this.#rows[where].get(data.messageUID);
    switch (data.event) {
      case 'message':
        if (offset) this.#take(where, offset, data.message, mark);
        return;
      case 'gone':
        this.#view.gone(where, offset);
        return;
      case 'typing':
        this.#types(data.userId);
        return;
      case 'read':
        this.#wasRead(data);
        return;
      case 'stream':
        if (row) this.#streamed(row, data);
        return;
    }
    if (!row) return;
    switch (data.event) {
      case 'recall':
        this.#recalled(where, row, data);
        return;
      case 'update':
        if (row.recalled) return;
        Object.assign(row, readContent({ messageType: row.type, content: data.content }), { updatedAt: data.updatedAt });
        break;
      case 'metadata':
        this.#paired(row, data);
        break;
      case 'receipt':
        if (data.readCount > 0) row.readAt ??= data.users?.[0]?.readAt ?? Date.now();
        break;
      default:
        return;
    }
    this.#view.change(where, row);
  }

  // The open channel.

  #entered({ streamPosition, wasRecovering, recovered }) {
    if (!recovered) this.lobbyOffset = streamPosition?.offset ?? 0;
    if (wasRecovering && !recovered) {
      this.#view.note('lobby', 'An open channel remembers the last moments only. It goes on from now.');
    }
    if (this.position) this.#view.position(this.position, this.lobbyOffset);
  }

  #heard(ctx) {
    if (!ctx.offset) return;
    this.lobbyOffset = ctx.offset;
    if (this.position) this.#view.position(this.position, this.lobbyOffset);
    this.#happened('lobby', ctx);
  }

  // take shows a message once, however often and from wherever it comes: as the
  // answer to a call, as an entry, as one recovered.
  #take(where, offset, m, mark) {
    const rows = this.#rows[where];
    let row = rows.get(m.messageUID);
    if (!row && m.direction === 'out') row = this.#adopt(where, m);
    if (row?.offset) {
      // The second entry of a stream is its end, and stands for the whole.
      if (row.stream) this.#streamedAnew(row, readContent(m));
      return;
    }
    const isNew = !row;
    // What this client has sent itself was not missed.
    if (isNew && !mark && this.#isCaughtUp(where, m)) mark = 'caught';
    row = Object.assign(row ?? {}, {
      uid: m.messageUID, offset, mark, sentAt: m.sentAt, status: 'accepted', error: '', where,
      own: m.direction === 'out', from: m.fromUserId, channelType: m.channelType, channelId: m.channelId,
      wantsReceipt: Boolean(m.needReadReceipt), hasMetadata: Boolean(m.hasMetadata), metadata: m.metadata ?? {}, ...readContent(m),
    });
    this.#remember(where, row);
    if (isNew) this.#view.add(where, row);
    else this.#view.change(where, row);
    if (mark === 'caught') this.#view.caught(where, this.#catchUp);
    if (where === 'me' && !row.own) this.#received(row);
  }

  #remember(where, row) {
    const rows = this.#rows[where];
    rows.set(row.uid, row);
    if (rows.size > known) rows.delete(rows.keys().next().value); // the one added first
  }

  // adopt finds the row of an own message whose entry is here before the answer
  // to the call that sent it.
  #adopt(where, m) {
    const { text } = readContent(m);
    return this.#outbox.find((row) => row.where === where && !row.uid && row.text === text);
  }

  // Sending.

  write(where, text) {
    const row = {
      where, text, own: true, from: this.user, status: 'sending', sentAt: Date.now(), mark: '', type: 'RC:TxtMsg',
      channelType: where === 'me' ? 'direct' : 'open', channelId: where === 'me' ? this.peer : this.channel,
      clientMsgId: newID(), wantsReceipt: where === 'me', hasMetadata: where === 'me', metadata: {},
    };
    this.#saidTyping = 0;
    this.#outbox.push(row);
    this.#view.add(where, row);
    this.#flush();
  }

  // flush sends what waits, in order. What got no answer is sent again under its
  // clientMsgId, by which the server knows that it is the same message.
  async #flush() {
    if (this.#flushing) return;
    this.#flushing = true;
    while (this.#outbox.length > 0) {
      const row = this.#outbox[0];
      if (this.#client.state !== 'connected') {
        for (const r of this.#outbox) this.#status(r, 'waiting');
        break;
      }
      try {
        this.#status(row, 'sending');
        const { data } = await this.#client.rpc('message.send', {
          channelType: row.channelType, channelId: row.channelId, messageType: row.type,
          content: JSON.stringify({ content: row.text }), clientMsgId: row.clientMsgId,
          ...(row.where === 'lobby' ? { echo: 1 } : { needReadReceipt: 1, hasMetadata: 1 }),
        });
        this.#outbox.shift();
        this.#answered(row, data);
      } catch (err) {
        // Codes below 100 are the client's own: the connection was lost.
        if (err.temporary || err.code < 100) {
          if (this.#client.state === 'connected') await new Promise((done) => setTimeout(done, retryDelay));
          continue;
        }
        this.#outbox.shift();
        row.error = `${err.message ?? err} (${err.code ?? '–'})`;
        this.#status(row, 'failed');
      }
    }
    this.#flushing = false;
  }

  #answered(row, { messageUID, sentAt }) {
    if (!row.uid) {
      const entry = this.#rows[row.where].get(messageUID);
      if (entry) {
        // Its entry came first and was shown as a row of its own.
        this.#view.remove(row.where, row);
      } else {
        Object.assign(row, { uid: messageUID, sentAt });
        this.#remember(row.where, row);
        this.#status(row, 'accepted');
      }
    }
    if (row.where === 'me') this.#onAccepted(this.peer, 1);
  }

  #status(row, status) {
    // Whose entry is here is accepted, whatever becomes of the call's answer.
    if (row.status === status || row.offset) return;
    row.status = status;
    this.#view.change(row.where, row);
  }

  // What becomes of messages. The event of a change comes to both sides; the one
  // who makes it sees it with the answer already, which is when it is on disk.

  async #change(row, method, data) {
    try {
      return (await this.#client.rpc(method, { messageUID: row.uid, ...data })).data;
    } catch (err) {
      this.#view.note(row.where, `Not done: ${err.message ?? err} (${err.code ?? '–'})`);
      return null;
    }
  }

  async recall(row) {
    const done = await this.#change(row, 'message.recall', {});
    if (done) this.#recalled(row.where, row, { operatorId: this.user });
  }

  #recalled(where, row, { operatorId, isAdmin, isDelete }) {
    if (this.#unread.delete(row.uid)) this.#showUnread();
    if (isDelete) {
      this.#rows[where].delete(row.uid);
      this.#view.remove(where, row);
      return;
    }
    if (row.recalled) return;
    Object.assign(row, { recalled: isAdmin ? 'the server' : operatorId, text: '', raw: false, stream: null, metadata: {} });
    this.#view.change(where, row);
  }

  async edit(row, text) {
    const done = await this.#change(row, 'message.update', { content: JSON.stringify({ content: text }) });
    if (!done || row.recalled) return;
    Object.assign(row, { text, updatedAt: done.updatedAt });
    this.#view.change(row.where, row);
  }

  // react sets this user's pair of the message's metadata, or takes it away.
  async react(row) {
    const key = reaction + this.user;
    const has = key in row.metadata;
    const done = has
      ? await this.#change(row, 'message.metadata.remove', { keys: [key] })
      : await this.#change(row, 'message.metadata.set', { metadata: { [key]: '♥' } });
    if (!done) return;
    this.#paired(row, has ? { removed: [key] } : { set: { [key]: '♥' } });
    this.#view.change(row.where, row);
  }

  #paired(row, { set = {}, removed = [] }) {
    if (row.recalled) return;
    row.metadata = { ...row.metadata, ...set };
    for (const key of removed) delete row.metadata[key];
  }

  // Streams, by the rules of the client protocol.

  #streamed(row, { seq, content, complete }) {
    const s = row.stream;
    if (!s || s.complete || s.isAsking || seq <= s.seq) return;
    if (seq !== s.seq + 1) {
      this.#askForStream(row);
      return;
    }
    row.text += content;
    row.stream = { seq, complete };
    this.#view.grow(row);
  }

  #streamedAnew(row, { text, stream }) {
    if (row.recalled || !stream || stream.seq < row.stream.seq) return;
    Object.assign(row, { text, stream });
    this.#view.grow(row);
  }

  async #askForStream(row) {
    if (row.stream.isAsking) return;
    row.stream = { ...row.stream, isAsking: true };
    let so = null;
    try {
      so = (await this.#client.rpc('message.stream', { messageUID: row.uid })).data;
    } catch {
      // The connection was lost again, and it is asked for when it is back; or it
      // was recalled.
    }
    if (!row.stream) return;
    row.stream = { ...row.stream, isAsking: false };
    if (so) this.#streamedAnew(row, { text: so.content, stream: { seq: so.seq, complete: so.complete, interrupted: so.interrupted } });
  }

  // Reading.

  #received(row) {
    const conversation = `${row.channelType} ${row.channelId}`;
    if (!(this.#newest.get(conversation) > row.uid)) this.#newest.set(conversation, row.uid);
    this.#stoppedTyping(row.from);
    if (row.mark === 'earlier' || !this.isAway) {
      this.#toRead.add(conversation);
      this.#read();
    } else {
      this.#unread.set(row.uid, conversation);
      this.#showUnread();
    }
  }

  look(away) {
    this.isAway = away;
    if (!away) {
      for (const conversation of this.#unread.values()) this.#toRead.add(conversation);
      this.#unread.clear();
      this.#showUnread();
      this.#read();
    }
    this.#showState();
  }

  // read tells the server what was read, each conversation up to its newest
  // message: one call at a time, however many messages have come.
  async #read() {
    if (this.#reading) return;
    this.#reading = true;
    await Promise.resolve(); // what comes in one frame is read with one call
    for (const conversation of this.#toRead) {
      if (this.#client.state !== 'connected') break;
      this.#toRead.delete(conversation);
      const [channelType, channelId] = conversation.split(' ');
      try {
        await this.#client.rpc('message.read', { channelType, channelId, upTo: this.#newest.get(conversation) });
      } catch (err) {
        // Where the app keeps no history nothing can be read, and no tick turns.
        if (!err.temporary && err.code >= 100) continue;
        this.#toRead.add(conversation);
        if (this.#client.state === 'connected') await new Promise((done) => setTimeout(done, retryDelay));
      }
    }
    this.#reading = false;
  }

  // wasRead is told of what the user has read on another device.
  #wasRead({ channelType, channelId, upTo, messageUIDs = [] }) {
    for (const [uid, conversation] of this.#unread) {
      if (conversation === `${channelType} ${channelId}` && (uid <= upTo || messageUIDs.includes(uid))) this.#unread.delete(uid);
    }
    this.#showUnread();
  }

  #showUnread() { this.#view.unread(this.#unread.size); }

  // Typing.

  // types is told of every key, and tells the other side now and then.
  types() {
    const now = performance.now();
    if (this.#client.state !== 'connected' || (this.#saidTyping && now - this.#saidTyping < typingEvery)) return;
    this.#saidTyping = now;
    this.#client.rpc('typing', { channelType: 'direct', channelId: this.peer, typingContentType: 'RC:TxtMsg' })
      .catch(() => {}); // who cannot be told just does not see it
  }

  #types(user) {
    clearTimeout(this.#typists.get(user));
    this.#typists.set(user, setTimeout(() => this.#stoppedTyping(user), typingLasts));
    this.#view.typing([...this.#typists.keys()]);
  }

  #stoppedTyping(user) {
    clearTimeout(this.#typists.get(user));
    if (this.#typists.delete(user)) this.#view.typing([...this.#typists.keys()]);
  }
}

function readContent({ messageType: type, content }) {
  if (type === 'RC:TxtMsg' || type === 'RC:StreamMsg') {
    try {
      const { content: text, seq, complete, interrupted } = JSON.parse(content);
      if (typeof text === 'string') return { type, text, stream: type === 'RC:StreamMsg' ? { seq, complete, interrupted } : null };
    } catch {
      // Not what a text message holds: shown as it is.
    }
  }
  return { type, text: content, raw: true, stream: null };
}

// crypto.randomUUID is there on HTTPS and loopback only.
function newID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');
}
