// A client's way to the server, which can be cut. It stands where the browser's
// WebSocket does, and tells the client when the network goes and comes back, as
// the browser tells about the machine's.

const keptFrames = 80;
const shownChars = 700;

export class Line extends EventTarget {
  #sockets = new Set();
  isCut = false;
  frames = [];
  total = 0;

  constructor() {
    super();
    for (const name of ['online', 'offline']) {
      window.addEventListener(name, () => { if (!this.isCut) this.dispatchEvent(new Event(name)); });
    }
    const line = this;
    // The client calls it with new, and takes what it gives.
    this.WebSocket = function WebSocketOnLine(url) { return line.#open(url); };
  }

  #open(url) {
    if (this.isCut) return deadSocket();
    const socket = new WebSocket(url);
    this.#sockets.add(socket);
    const send = socket.send.bind(socket);
    socket.send = (data) => { this.#note('out', data); send(data); };
    socket.addEventListener('message', ({ data }) => this.#note('in', data));
    socket.addEventListener('close', ({ code }) => {
      this.#sockets.delete(socket);
      this.#note('end', `closed with ${code}`);
    });
    return socket;
  }

  #note(direction, data) {
    for (const text of String(data).split('\n')) {
      // A token opens a user's connection: it has no place on a screen.
      const safe = text.replace(/"token":"[^"]*"/g, '"token":"…"');
      this.total++;
      this.frames.push({
        direction, at: new Date(), number: this.total,
        text: safe.length > shownChars ? `${safe.slice(0, shownChars)}…` : safe,
      });
    }
    this.frames.splice(0, Math.max(0, this.frames.length - keptFrames));
    this.dispatchEvent(new Event('frame'));
  }

  cut() {
    this.isCut = true;
    for (const socket of this.#sockets) socket.close();
    this.dispatchEvent(new Event('offline'));
  }

  mend() {
    this.isCut = false;
    this.dispatchEvent(new Event('online'));
  }
}

// deadSocket is a connection that does not come about.
function deadSocket() {
  const socket = { readyState: 3, onopen: null, onmessage: null, onerror: null, onclose: null, send() {}, close() {} };
  setTimeout(() => {
    socket.onerror?.(new Event('error'));
    socket.onclose?.({ code: 1006, reason: 'the network is cut', wasClean: false });
  });
  return socket;
}
