// One side of the page.

import { Message, element } from './message.mjs';

const keptRows = 300; // in one list; older ones leave the page
export class View {
  #root;
  #lists = {};
  #follows = { me: true, lobby: true }; // lists that stay at their end
  #scrolling = false;
  #cuts = {}; // the line under which the current recovery is
  #line = null;
  #jump;
  #side = null;
  #editing = null; // the own message that is being changed

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
    this.#find('.ask').title = `The backend writes to ${user} in chunks, as an answer that is still being made`;
    this.#find('.look').title = `Nobody looks at what ${user} gets: it stays unread`;
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
    list.addEventListener('keydown', (e) => this.#walk(list, e));
    list.addEventListener('focusin', (e) => this.#reach(list, e.target.closest('.message')));
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

  attach(side, { onBurst, onAsk }) {
    this.#side = side;
    this.#line = side.line;
    for (const where of ['me', 'lobby']) {
      const form = this.#find(`.talk.${where} form`);
      const input = form.elements.text;
      form.addEventListener('submit', (e) => {
        e.preventDefault();
        const text = input.value.trim();
        if (!text) return;
        const row = where === 'me' ? this.#editing : null;
        this.#stopEditing();
        input.value = '';
        if (row) side.edit(row, text);
        else side.write(where, text);
      });
    }
    const input = this.#find('.talk.me input');
    input.addEventListener('input', () => { if (input.value.trim() && !this.#editing) side.types(); });
    input.addEventListener('keydown', (e) => { if (e.key === 'Escape') this.#stopEditing(); });
    this.#find('.cut').addEventListener('click', () => (side.line.isCut ? side.mend() : side.cut()));
    this.#find('.look').addEventListener('click', () => {
      side.look(!side.isAway);
      this.#find('.look').textContent = side.isAway ? 'Look again' : 'Look away';
      this.#find('.look').classList.toggle('strong', side.isAway);
      this.#root.classList.toggle('away', side.isAway);
    });
    this.#busyDuring('.burst', onBurst);
    this.#busyDuring('.ask', onAsk);
    side.line.addEventListener('frame', () => this.#frames());
  }

  #busyDuring(selector, work) {
    const button = this.#find(selector);
    button.addEventListener('click', async () => {
      button.disabled = true;
      await work();
      button.disabled = false;
    });
  }

  // walk moves between the messages of a list with the arrow keys.
  #walk(list, e) {
    const steps = { ArrowUp: 'previousElementSibling', ArrowDown: 'nextElementSibling' };
    if (!steps[e.key] || e.altKey || e.ctrlKey || e.metaKey) return;
    const from = e.target.closest('.message');
    let to = from ? from[steps[e.key]] : list.lastElementChild;
    while (to && !to.classList.contains('message')) to = to[e.key === 'ArrowUp' ? steps.ArrowUp : steps.ArrowDown];
    if (!to) return;
    e.preventDefault();
    to.focus();
  }

  // reach puts the tools of one message of a list within reach of the Tab key:
  // those of hundreds would stand between the list and what comes after it.
  #reach(list, li) {
    for (const b of list.querySelectorAll('.tool:not([tabindex="-1"])')) if (!li?.contains(b)) b.tabIndex = -1;
    for (const b of li?.querySelectorAll('.tool') ?? []) b.tabIndex = 0;
  }

  // What stands above where one writes: who is typing, or what is being changed.

  #hint(text, isLively = false) {
    const hint = this.#find('.talk.me .hint');
    hint.textContent = text;
    hint.classList.toggle('lively', isLively);
  }

  #typists = [];

  typing(users) {
    this.#typists = users;
    if (this.#editing) return;
    this.#hint(users.length === 0 ? '' : `${users.join(' and ')} ${users.length > 1 ? 'are' : 'is'} typing`, users.length > 0);
  }

  #startEditing(row) {
    const input = this.#find('.talk.me input');
    this.#stopEditing();
    this.#editing = row;
    row.message.element.classList.add('edited-now');
    input.value = row.text;
    this.#hint('Changing your message. Escape leaves it as it is.');
    this.#find('.talk.me .send').textContent = 'Change';
    input.focus();
    input.select();
  }

  #stopEditing() {
    if (!this.#editing) return;
    this.#editing.message.element.classList.remove('edited-now');
    this.#editing = null;
    this.#find('.talk.me input').value = '';
    this.#find('.talk.me .send').textContent = 'Send';
    this.typing(this.#typists);
  }

  unread(n) {
    const badge = this.#find('.unread');
    const text = n === 0 ? '' : `${n} unread`;
    badge.textContent = text;
    this.#jump.dataset.unread = n || '';
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
    row.message = new Message(row, {
      peer: this.peer,
      actions: {
        user: this.user, edit: (r) => this.#startEditing(r), recall: (r) => this.#side.recall(r), react: (r) => this.#side.react(r),
      },
    });
    this.#place(where, row.message.element, row.offset);
  }

  change(where, row) {
    row.message.fill();
    if (row.recalled && this.#editing === row) this.#stopEditing();
    const li = row.message.element;
    if (row.offset && Number(li.dataset.at) !== row.offset) this.#place(where, li, row.offset);
  }

  // grow is for the text of a stream.
  grow(row) {
    if (row.stream.complete) row.message.fill();
    else row.message.grow();
    this.#scroll();
  }

  remove(where, row) {
    if (this.#editing === row) this.#stopEditing();
    row.message.element.remove();
  }

  gone(where, offset) {
    this.#place(where, element('li', 'note', `#${offset} is not kept any more`), offset);
  }

  note(where, text) { this.#place(where, element('li', 'note', text)); }

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
    let what = where === 'me' ? 'No message was missed.' : '';
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
