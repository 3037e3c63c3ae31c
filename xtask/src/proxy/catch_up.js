// Notes when this page has all of a large state, and when it has a small change of the member gossipChanger. It runs
// before the page's own scripts. The small change is looked for often, which costs little; the large state seldom, since
// a look at it converts all of it.
(() => {
  const caughtUp = { bytes: 0, allAt: null, changes: {} };
  window.gossipCaughtUp = caughtUp;
  const now = () => performance.timeOrigin + performance.now();
  setInterval(() => {
    for (const { keys } of window.gossipDebug?.membersNamed(window.gossipChanger) ?? []) {
      if (keys.probe !== undefined) caughtUp.changes[keys.probe] ??= now();
    }
  }, 10);
  const look = setInterval(() => {
    let bytes = 0;
    for (const member of window.gossipDebug?.members() ?? []) {
      for (const [key, value] of Object.entries(member.keys)) {
        if (key.startsWith("large-")) bytes += value.length;
      }
    }
    caughtUp.bytes = bytes;
    if (bytes < window.gossipWanted) return;
    caughtUp.allAt = now();
    clearInterval(look);
  }, 200);
})();
