// The list of this tab's connections, with their traffic and queues.

import { namesByAddr, totalDrops } from "./cluster.js";
import { byId, el, formatAddr, formatAge, formatBytes, formatCount, mirror, setAttribute, setText } from "./dom.js";

const STATES = {
  connected: "connected",
  dialing: "dialling",
  backing_off: "waiting to dial again",
  idle: "not connected",
};

/** Shows the peers in `stats`. `members` includes old generations, which may still have a queue. */
export function showConnections(stats, members) {
  const names = namesByAddr(members);
  const links = new Map(stats.connections.map((link) => [link.remoteAddr, link]));
  const peers = stats.peers.map((peer) => ({
    ...peer,
    name: names.get(peer.addr) ?? formatAddr(peer.addr),
    link: links.get(peer.addr),
  }));
  peers.sort((a, b) => Number(Boolean(b.link)) - Number(Boolean(a.link)) || a.name.localeCompare(b.name));
  byId("connections-empty").hidden = peers.length > 0;
  mirror(byId("connections"), peers, (peer) => peer.addr, createRow, updateRow);
  const { total } = stats;
  setText(
    byId("totals"),
    `${formatCount(total.sent)} sent · ${formatCount(totalDrops(total.dropped))} dropped`,
  );
}

function createRow() {
  const parts = {};
  const figure = (name, label) => {
    parts[name] = el("dd");
    return el("div", {}, el("dt", {}, label), parts[name]);
  };
  parts.name = el("b");
  parts.addr = el("span", { class: "mono" });
  parts.state = el("span", { class: "link-state" });
  const row = el(
    "li",
    {},
    el("p", { class: "link-head" }, parts.name, parts.addr, parts.state),
    el(
      "dl",
      { class: "link-figures" },
      figure("sent", "Sent"),
      figure("received", "Received"),
      figure("queued", "Queued"),
      figure("dropped", "Dropped"),
    ),
  );
  row.parts = parts;
  return row;
}

function updateRow(row, peer) {
  const { parts, dataset } = row;
  if (dataset.state !== peer.state) dataset.state = peer.state;
  setAttribute(row, "data-addr", peer.addr);
  setText(parts.name, peer.name);
  const addr = formatAddr(peer.addr);
  setText(parts.addr, peer.name === addr ? "" : addr);
  setAttribute(parts.addr, "title", peer.addr);
  setText(parts.state, describe(peer));
  setAttribute(parts.state, "title", peer.link ? `identity ${peer.link.identity}` : null);
  setText(parts.sent, `${formatCount(peer.sent)} · ${formatBytes(peer.sentBytes)}`);
  setText(parts.received, `${formatCount(peer.received)} · ${formatBytes(peer.receivedBytes)}`);
  setText(parts.queued, `${formatCount(peer.queued)} out · ${formatCount(peer.incomingQueued)} in`);
  setText(parts.dropped, describeDrops(peer));
  setAttribute(parts.dropped, "data-some", totalDrops(peer.dropped) > 0);
}

function describe(peer) {
  if (peer.nextDialMs !== undefined) return `next dial in ${Math.ceil(peer.nextDialMs / 1000)} s`;
  if (!peer.link) return STATES[peer.state] ?? peer.state;
  const how = peer.link.direction === "outgoing" ? "dialled" : "accepted";
  return `${how} ${formatAge(peer.link.ageMs)} ago`;
}

function describeDrops({ dropped, incomingDropped }) {
  const reasons = [];
  for (const drops of [dropped, incomingDropped]) {
    for (const [reason, count] of Object.entries(drops)) {
      if (count > 0) reasons.push(`${formatCount(count)} ${reason.replaceAll("_", " ")}`);
    }
  }
  return reasons.join(", ") || "0";
}
