// A message in a list. It is built once and changed in place, so that what is
// being selected, pointed at or focused stays so. Text goes in as text, never as
// markup.

import { reaction } from './side.mjs';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

export function element(name, className, ...content) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...content);
  return e;
}

const shapes = {
  heart: 'M8 13.6 2.9 8.7a3.3 3.3 0 0 1 4.7-4.7l.4.5.4-.5a3.3 3.3 0 0 1 4.7 4.7Z',
  pencil: 'M3 13l.6-2.9 7-7a1.2 1.2 0 0 1 1.7 0l.6.6a1.2 1.2 0 0 1 0 1.7l-7 7Z',
  back: 'M6.2 3.2 2.8 6.6l3.4 3.4 M3 6.6h6.2a3.4 3.4 0 0 1 0 6.8H7',
};

function drawing(width, height, ...lines) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('width', width);
  svg.setAttribute('height', height);
  svg.setAttribute('aria-hidden', 'true');
  for (const d of lines) {
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

// ticks are one for a message that the server has, two for one that was read.
function ticks(row) {
  const t = element('span', 'ticks', drawing(18, 11, 'M1.5 6 4.7 9.2 11 1.8', 'M7.6 8 8.7 9.2 15 1.8'));
  t.dataset.ticks = row.readAt ? 'read' : 'sent';
  t.setAttribute('role', 'img');
  t.setAttribute('aria-label', row.readAt ? `read ${clock.format(row.readAt)}` : 'sent');
  t.title = row.readAt ? `Read at ${clock.format(row.readAt)}` : 'On disk; not read yet';
  return t;
}

function tool(name, shape, label, onClick) {
  const b = element('button', `tool ${name}`, drawing(16, 16, shapes[shape]));
  b.type = 'button';
  b.tabIndex = -1; // within reach once its message has the focus
  b.title = label;
  b.setAttribute('aria-label', label);
  b.addEventListener('click', onClick);
  return b;
}

export class Message {
  element = element('li', 'message');
  #bubble = element('div', 'bubble');
  #from = element('span', 'from');
  #text = element('span', 'text');
  #meta = element('span', 'meta');
  #hearts = element('span', 'hearts');
  #tools = element('span', 'tools');
  #row;
  #actions;
  #peer;

  constructor(row, { peer, actions }) {
    this.#row = row;
    this.#peer = peer;
    this.#actions = actions;
    this.element.tabIndex = -1;
    this.#bubble.append(this.#from, this.#text, this.#meta, this.#hearts);
    this.element.append(this.#bubble, this.#tools);
    this.fill();
  }

  fill() {
    const row = this.#row;
    const li = this.element;
    li.className = ['message', row.own ? 'own' : 'other', row.mark, row.status, row.raw ? 'raw' : '', row.recalled ? 'recalled' : '',
      row.stream ? 'stream' : '', row.stream && !row.stream.complete ? 'growing' : ''].filter(Boolean).join(' ');
    if (row.uid) li.dataset.uid = row.uid;
    this.#from.replaceChildren(...this.#sender());
    this.#from.hidden = !this.#from.hasChildNodes();
    this.grow();
    this.#meta.replaceChildren(...this.#facts());
    this.#react();
    this.#offer();
  }

  // grow shows the text alone: of a stream it is what changes many times.
  grow() {
    const { recalled, own, text } = this.#row;
    if (recalled) this.#text.textContent = own ? 'You took this message back' : `${recalled} took this message back`;
    else this.#text.textContent = text;
  }

  #sender() {
    const { own, from, channelType, channelId, raw, type, stream, recalled } = this.#row;
    const parts = [];
    if (recalled) return parts; // the text names who
    if (!own && (from !== this.#peer || channelType !== 'direct')) parts.push(from);
    else if (own && channelType === 'direct' && channelId !== this.#peer) parts.push(`to ${channelId}`);
    if (channelType === 'system') parts.push(element('small', '', 'system'));
    if (stream) parts.push(element('small', '', 'stream'));
    if (raw) parts.push(element('small', '', type));
    return parts;
  }

  // facts stand under the text.
  #facts() {
    const row = this.#row;
    const parts = [];
    if (row.mark === 'caught') parts.push(element('span', 'mark', 'caught up'));
    if (row.stream?.interrupted) parts.push(element('span', '', 'broken off'));
    if (row.updatedAt && !row.recalled) parts.push(element('span', 'changed', 'changed'));
    if (row.offset) parts.push(element('span', 'offset', `#${row.offset}`));
    if (row.status === 'accepted') {
      const time = element('time', '', clock.format(row.sentAt));
      time.dateTime = new Date(row.sentAt).toISOString();
      parts.push(time);
      if (row.own && row.wantsReceipt && !row.recalled) parts.push(ticks(row));
    } else {
      parts.push(element('span', 'status', { sending: 'sending …', waiting: 'waits for the network', failed: row.error }[row.status]));
    }
    return parts;
  }

  #reactions() {
    return Object.keys(this.#row.metadata ?? {}).filter((key) => key.startsWith(reaction)).map((key) => key.slice(reaction.length));
  }

  #react() {
    const users = this.#reactions();
    this.#hearts.hidden = users.length === 0;
    if (this.#hearts.hidden) return;
    this.#hearts.replaceChildren(drawing(16, 16, shapes.heart), ...(users.length > 1 ? [String(users.length)] : []));
    this.#hearts.setAttribute('role', 'img');
    this.#hearts.setAttribute('aria-label', `liked by ${users.join(' and ')}`);
    this.#hearts.title = `Metadata set by ${users.join(' and ')}`;
  }

  // offer puts beside the message what can be done to it now.
  #offer() {
    const row = this.#row;
    const settled = row.status === 'accepted' && row.uid && !row.recalled;
    this.#button('react', settled && row.hasMetadata, 'heart', 'Like', () => this.#actions.react(row));
    this.#button('edit', settled && row.own && row.channelType === 'direct' && row.type === 'RC:TxtMsg' && !row.raw, 'pencil', 'Change', () => this.#actions.edit(row));
    this.#button('recall', settled && row.own, 'back', 'Take back', () => this.#actions.recall(row));
    this.#tools.querySelector('.react')?.setAttribute('aria-pressed', this.#reactions().includes(this.#actions.user));
  }

  #button(name, isOffered, shape, label, onClick) {
    const b = this.#tools.querySelector(`.${name}`);
    if (isOffered && !b) this.#tools.append(tool(name, shape, label, onClick));
    if (!isOffered && b) b.remove();
  }
}
