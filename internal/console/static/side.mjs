// One user's client, as an app would have it: the centrifuge package, a
// timeline, an open channel, and an outbox. It knows nothing of the page; what
// happens it tells its view.

import { Centrifuge, UnauthorizedError } from './vendor/centrifuge-5.8.0.mjs';
import { Line } from './line.mjs';
import { Refused } from './door.mjs';

const earlier = 30; // messages from before the page was opened
const retryDelay = 600;
const known = 1000; // messages of one list that are told from doubles

const address = new URL('../connection/websocket', document.baseURI);
address.protocol = address.protocol.replace('http', 'ws');

export class Side {
  line = new Line();
  position = null; // of the timeline: { offset, epoch }
  lobbyOffset = null;
  waiting = 0; // messages accepted for this user while their network is cut

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
    c.on('publication', (ctx) => { if (ctx.channel === 'me') this.#timeline(ctx); });
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
    else if (this.#client.state === 'connected') this.#view.state('connected', 'Connected');
    else this.#view.state('connecting', this.#connectedBefore ? 'Connecting again …' : 'Connecting …');
  }

  cut() {
    this.#cutAt = performance.now();
    this.line.cut();
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

  // What came before the page was opened is read back from the timeline.
  async #readEarlier(upTo) {
    try {
      const { publications } = await this.#client.history('me', { limit: earlier, reverse: true });
      for (const p of publications) {
        if (p.offset <= upTo && p.data.event === 'message') this.#take('me', p, 'earlier');
      }
    } catch (err) {
      this.#view.note('me', `Earlier messages could not be read: ${err.message}`);
    }
  }

  #timeline(ctx) {
    if (!ctx.offset) return; // a status, such as "is typing": seen once and not kept
    this.#moved(ctx.offset);
    if (ctx.data.event === 'message') this.#take('me', ctx);
    if (ctx.data.event === 'gone') this.#view.gone('me', ctx.offset);
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
    if (ctx.data.event === 'message') this.#take('lobby', ctx);
  }

  // take shows a message once, however often and from wherever it comes: as the
  // answer to a call, as an entry, as one recovered.
  #take(where, { offset, data: { message: m } }, mark = '') {
    const rows = this.#rows[where];
    let row = rows.get(m.messageUID);
    if (!row && m.direction === 'out') row = this.#adopt(where, m);
    if (row?.offset) return;
    const isNew = !row;
    // What this client has sent itself was not missed.
    if (isNew && !mark && this.#isCaughtUp(where, m)) mark = 'caught';
    row = Object.assign(row ?? {}, {
      uid: m.messageUID, offset, mark, sentAt: m.sentAt, status: 'accepted', error: '',
      own: m.direction === 'out', from: m.fromUserId, channelType: m.channelType, channelId: m.channelId, ...readContent(m),
    });
    this.#remember(where, row);
    if (isNew) this.#view.add(where, row);
    else this.#view.change(where, row);
    if (mark === 'caught') this.#view.caught(where, this.#catchUp);
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
      clientMsgId: newID(),
    };
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
          ...(row.where === 'lobby' ? { echo: 1 } : {}),
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
}

function readContent({ messageType: type, content }) {
  if (type === 'RC:TxtMsg') {
    try {
      const text = JSON.parse(content).content;
      if (typeof text === 'string') return { type, text };
    } catch {
      // Not what a text message holds: shown as it is.
    }
  }
  return { type, text: content, raw: true };
}

// crypto.randomUUID is there on HTTPS and loopback only.
function newID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');
}
