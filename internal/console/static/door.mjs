// What the page asks of its own small API. A session cookie, which scripts
// cannot read, says that it may.

export class Refused extends Error {
  constructor(status, code, text) {
    super(text);
    this.status = status;
    this.code = code;
  }
}

async function ask(name, body = {}) {
  let answer;
  try {
    answer = await fetch(`api/${name}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, 'network', 'The server cannot be reached.');
  }
  let value = null;
  try {
    value = await answer.json();
  } catch {
    // Something between here and the server answered in its place.
  }
  if (!answer.ok || value === null) {
    throw new Refused(answer.status, value?.code ?? 'unknown', value?.text ?? `The server answered with status ${answer.status}.`);
  }
  return value;
}

export const exchange = (ticket) => ask('session', { ticket });
export const page = () => ask('page');
export const token = async (user) => (await ask('token', { user })).token;
export const send = (what) => ask('send', what);
export const answer = ({ user }) => ask('answer', { user });
