// A service worker that shows what a Parley server notifies a browser of. Copy it to
// the root of your site and register it there: a page can only register what its own
// site serves. How a page subscribes is in docs/client-protocol.md, Browsers.

'use strict';

self.addEventListener('push', (event) => event.waitUntil(show(event.data)));

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(goTo(event.notification.data ?? {}));
});

// Browsers want something to be shown for each message, whatever it is.
async function show(sent) {
  let message = null;
  try {
    message = sent?.json();
  } catch {
    // None of the server's.
  }
  const { title, count, ...options } = message ?? {};
  const data = options.data ?? {};
  const recalled = data['rc-dlt-identifier'];
  if (recalled) {
    // It takes the place of what has its tag. What was shown with the sender's own goes too.
    for (const shown of await self.registration.getNotifications()) {
      if (shown.data?.rc?.id === recalled) shown.close();
    }
  } else if (options.tag && options.tag !== data.rc?.id) {
    options.renotify = true; // of those with the sender's tag each is news
  }
  await self.registration.showNotification(title || 'New message', options);
  if (Number.isInteger(count) && self.navigator.setAppBadge) {
    await self.navigator.setAppBadge(count).catch(() => {}); // where the app is not installed
  }
}

// A page that is open comes to the front and is told which notification it was; where
// none is, one is opened.
async function goTo(data) {
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const page = pages.find((p) => p.visibilityState === 'visible') ?? pages[0];
  if (!page) {
    await self.clients.openWindow(data.link ?? self.registration.scope);
    return;
  }
  page.postMessage({ parley: 'click', data });
  await page.focus().catch(() => {}); // some browsers let nobody but a click do that
}
