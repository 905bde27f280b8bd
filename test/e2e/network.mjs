// A network that can be cut: a relay in front of the server.

import net from 'node:net';

export async function relay(target) {
  const { hostname, port } = new URL(target);
  const pairs = new Set();
  let down = false;
  const server = net.createServer((near) => {
    if (down) {
      near.destroy();
      return;
    }
    const far = net.connect(Number(port), hostname);
    const pair = [near, far];
    pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('data', (data) => to.write(data));
      from.on('error', () => {});
      from.on('close', () => { to.destroy(); pairs.delete(pair); });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `ws://127.0.0.1:${server.address().port}/connection/websocket`,
    // Everything is lost at once, without a goodbye, and nothing gets through.
    cut() {
      down = true;
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
    mend() { down = false; },
    close() { this.cut(); server.close(); },
  };
}
