// Records what a page does: the URLs that it dials, and the entries of its log of events. It runs
// before the page's own scripts, and changes nothing that they see.
(() => {
  const probe = { dials: [], events: [] };
  window.gossipProbe = probe;
  window.WebSocket = class extends window.WebSocket {
    constructor(url, ...rest) {
      probe.dials.push(String(url));
      super(url, ...rest);
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    const observer = new MutationObserver((records) => {
      for (const { addedNodes } of records) {
        for (const { dataset } of addedNodes) if (dataset?.kind) probe.events.push(dataset.kind);
      }
    });
    observer.observe(document.getElementById("log"), { childList: true });
  });
})();
