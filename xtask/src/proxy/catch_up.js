// Notes when this page has all of a large state, and when it has a small change. It runs before the page's own
// scripts, and looks at the members often enough for times that are exact to some hundredths of a second.
(() => {
  const caughtUp = { bytes: 0, allAt: null, changes: {} };
  window.gossipCaughtUp = caughtUp;
  const now = () => performance.timeOrigin + performance.now();
  setInterval(() => {
    let bytes = 0;
    for (const member of window.gossipDebug?.members() ?? []) {
      for (const [key, value] of Object.entries(member.keys)) {
        if (key.startsWith("large-")) bytes += value.length;
        if (key === "probe") caughtUp.changes[value] ??= now();
      }
    }
    caughtUp.bytes = bytes;
    if (bytes >= window.gossipWanted) caughtUp.allAt ??= now();
  }, 40);
})();
