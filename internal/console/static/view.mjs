// One side of the page. Text from messages goes in as text, never as markup.

const keptRows = 300; // in one list; older ones leave the page
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

export function element(name, className, ...content) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...content);
  return e;
}

export class View {
  #root;
  #lists = {};
  #follows = { me: true, lobby: true }; // lists that stay at their end
  #scrolling = false;
  #cuts = {}; // the line under which the current recovery is
  #line = null;
  #jump;

  constructor({ user, peer, channel, jump }) {
    const part = document.getElementById('side-template').content.cloneNode(true);
    this.#root = part.querySelector('.side');
    this.#jump = jump;
    this.user = user;
    this.peer = peer;
    this.#root.id = `side-${user}`;
    this.#root.classList.add(user);
    const title = this.#find('h2');
    title.textContent = user;
    title.id = `title-${user}`;
    this.#root.setAttribute('aria-labelledby', title.id);
    this.#find('.avatar').textContent = user[0].toUpperCase();
    this.#find('.burst').textContent = `50 from ${peer}`;
    this.#find('.burst').title = `The backend sends ${user} 50 messages of ${peer}`;
    this.#talk('me', `Timeline`, 'direct and system messages', `Message to ${peer}`, `Nothing yet. Write as ${peer}, on the other side.`);
    this.#talk('lobby', `#${channel}`, 'open channel', `Message to the ${channel}`, 'An open channel shows what is said while you are here.');
    this.#find('.frames').addEventListener('toggle', () => this.#frames());
    this.state('connecting', 'Connecting …');
  }

  get root() { return this.#root; }
  #find(selector) { return this.#root.querySelector(selector); }

  #talk(where, title, about, label, empty) {
    const talk = this.#find(`.talk.${where}`);
    const heading = talk.querySelector('h3');
    heading.id = `talk-${this.user}-${where}`;
    heading.append(title, ' ', element('small', '', about));
    talk.setAttribute('aria-labelledby', heading.id);
    const list = talk.querySelector('.messages');
    list.setAttribute('aria-label', `${this.user}: ${title}`);
    list.dataset.empty = empty;
    const input = talk.querySelector('input');
    input.id = `text-${this.user}-${where}`;
    input.placeholder = label;
    const name = talk.querySelector('label');
    name.htmlFor = input.id;
    name.textContent = `${label}, as ${this.user}`;
    // A list that gets smaller, because frames are shown, stays at its end.
    new ResizeObserver(() => this.#scroll()).observe(list);
    // Only going up lets go of the end: a list that has grown since the last
    // frame is not at its end either.
    let top = 0;
    list.addEventListener('scroll', () => {
      if (list.scrollHeight - list.scrollTop - list.clientHeight < 60) this.#follows[where] = true;
      else if (list.scrollTop < top) this.#follows[where] = false;
      top = list.scrollTop;
    }, { passive: true });
    this.#lists[where] = list;
  }

  attach(side, { onBurst }) {
    this.#line = side.line;
    for (const where of ['me', 'lobby']) {
      const form = this.#find(`.talk.${where} form`);
      form.addEventListener('submit', (e) => {
        e.preventDefault();
        const text = form.elements.text.value.trim();
        if (!text) return;
        form.elements.text.value = '';
        side.write(where, text);
      });
    }
    this.#find('.cut').addEventListener('click', () => (side.line.isCut ? side.mend() : side.cut()));
    const burst = this.#find('.burst');
    burst.addEventListener('click', async () => {
      burst.disabled = true;
      await onBurst();
      burst.disabled = false;
    });
    side.line.addEventListener('frame', () => this.#frames());
  }

  state(name, text) {
    this.#root.dataset.state = name;
    this.#jump.dataset.state = name;
    const shown = this.#find('.state-text');
    if (shown.textContent !== text) shown.textContent = text;
    const cut = this.#find('.cut');
    cut.textContent = name === 'cut' ? 'Reconnect' : 'Cut network';
    cut.classList.toggle('strong', name === 'cut');
    cut.disabled = name === 'ended';
  }

  position({ offset, epoch }, lobbyOffset) {
    this.#find('.fact-me').textContent = `offset ${offset}`;
    this.#find('.fact-lobby').textContent = lobbyOffset === null ? '–' : `offset ${lobbyOffset}`;
    const shown = this.#find('.fact-epoch');
    shown.textContent = epoch;
    shown.title = epoch;
  }

  // Rows.

  add(where, row) {
    row.element = element('li', 'message');
    this.#fill(row);
    this.#place(where, row.element, row.offset);
  }

  change(where, row) {
    this.#fill(row);
    if (row.offset && Number(row.element.dataset.at) !== row.offset) this.#place(where, row.element, row.offset);
  }

  remove(where, row) { row.element.remove(); }

  gone(where, offset) {
    this.#place(where, element('li', 'note', `#${offset} is not kept any more`), offset);
  }

  note(where, text) { this.#place(where, element('li', 'note', text)); }

  #fill(row) {
    const li = row.element;
    li.className = ['message', row.own ? 'own' : 'other', row.mark, row.status, row.raw ? 'raw' : ''].filter(Boolean).join(' ');
    if (row.uid) li.dataset.uid = row.uid;
    const parts = [];
    if (!row.own && (row.from !== this.peer || row.channelType === 'system')) {
      parts.push(element('span', 'from', row.from, row.channelType === 'system' ? element('small', '', 'system') : ''));
    } else if (!row.own && row.channelType === 'open') {
      parts.push(element('span', 'from', row.from));
    } else if (row.own && row.channelType === 'direct' && row.channelId !== this.peer) {
      parts.push(element('span', 'from', `to ${row.channelId}`));
    }
    if (row.raw) parts.push(element('span', 'from', element('small', '', row.type)));
    parts.push(element('span', 'text', row.text));

    // Under the text is where marks of what happens to a message stand.
    const meta = element('span', 'meta');
    if (row.mark === 'caught') meta.append(element('span', 'mark', 'caught up'));
    if (row.offset) meta.append(element('span', 'offset', `#${row.offset}`));
    if (row.status === 'accepted') {
      const time = element('time', '', clock.format(row.sentAt));
      time.dateTime = new Date(row.sentAt).toISOString();
      meta.append(time);
    } else {
      meta.append(element('span', 'status', { sending: 'sending …', waiting: 'waits for the network', failed: row.error }[row.status]));
    }
    parts.push(meta);
    li.replaceChildren(...parts);
  }

  // place keeps a list in the order of its offsets; what has none yet is last.
  #place(where, li, offset) {
    const list = this.#lists[where];
    if (li.classList.contains('own') && !li.parentElement) this.#follows[where] = true;
    li.dataset.at = offset ?? '';
    let next = null;
    if (offset) {
      for (let e = list.lastElementChild; e; e = e.previousElementSibling) {
        if (e === li) continue;
        if (e.dataset.at !== '' && Number(e.dataset.at) <= offset) break;
        // Notes stay where they were written, unless something earlier comes.
        if (e.dataset.at === '' && e.classList.contains('note')) break;
        next = e;
      }
    }
    list.insertBefore(li, next);
    while (list.childElementCount > keptRows) list.firstElementChild.remove();
    this.#scroll();
  }

  // scroll goes to the ends of the lists once for all that has come: to measure
  // a list for each of a thousand messages would take longer than the messages.
  #scroll() {
    if (this.#scrolling) return;
    this.#scrolling = true;
    requestAnimationFrame(() => {
      this.#scrolling = false;
      for (const where of ['me', 'lobby']) {
        if (this.#follows[where]) this.#lists[where].scrollTop = this.#lists[where].scrollHeight;
      }
    });
  }

  // Coming back.

  back(where, catchUp, after) {
    this.#cuts[where] = element('li', 'note back');
    this.#place(where, this.#cuts[where], after);
    this.caught(where, catchUp);
  }

  caught(where, catchUp) {
    const n = catchUp[where];
    const away = catchUp.away ? `Away for ${seconds(catchUp.away)}. ` : 'Connected again. ';
    let what = where === 'me' ? 'Nothing was missed.' : '';
    if (n > 0) what = `${n} caught up in ${Math.max(1, Math.round(catchUp.took))} ms.`;
    this.#cuts[where].textContent = away + what;
    if (where === 'me' && n > 0) this.state('connected', `Connected · ${n} caught up`);
  }

  // Frames.

  #frames() {
    const details = this.#find('.frames');
    this.#find('.frames .count').textContent = this.#line.total;
    if (!details.open) return;
    const list = details.querySelector('ol');
    const shown = Number(list.lastElementChild?.dataset.number ?? 0);
    for (const f of this.#line.frames) {
      if (f.number <= shown) continue;
      const li = element('li', f.direction, element('span', 'arrow', { out: '→', in: '←', end: '×' }[f.direction]), element('code', '', f.text));
      li.dataset.number = f.number;
      list.append(li);
    }
    while (list.childElementCount > this.#line.frames.length) list.firstElementChild.remove();
    list.scrollTop = list.scrollHeight;
  }
}

function seconds(ms) {
  return ms < 9950 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`;
}
