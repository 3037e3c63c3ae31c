// The status in the header: whether this tab is connected, and if not, what it is trying.

import { kindOf, namesByAddr } from "./cluster.js";
import { byId, formatAddr, setAttribute, setText } from "./dom.js";

/** Shows `state` ("connected", "connecting" or "disconnected"). */
export function showStatus(state, title, detail) {
  const status = byId("status");
  setAttribute(status, "data-state", state);
  setText(byId("status-title"), title);
  setText(byId("status-detail"), detail);
  document.title = state === "connected" ? "Live cluster · gossip-transport" : `${title} · gossip-transport`;
}

/**
 * Shows the status that follows from `stats`. `members` is the list with all generations, `seeds` what the node's
 * `seeds()` returns.
 */
export function showMembership(stats, members, seeds) {
  const links = stats.connections.length;
  if (links > 0) {
    const names = namesByAddr(members);
    const linked = stats.connections.map(({ remoteAddr }) => names.get(remoteAddr) ?? formatAddr(remoteAddr));
    const shown = linked.length <= 3 ? list(linked.sort()) : `${linked.length} members`;
    showStatus("connected", "Connected", `to ${shown}`);
    return;
  }
  const refusal = refusalOf(seeds);
  if (refusal) {
    showRefusal(refusal.error, refusal.code);
    return;
  }
  // Tabs cannot be dialled, so messages queued for one say nothing about the way back.
  const tabs = new Set(members.filter((member) => kindOf(member) === "tab").map((tab) => tab.addr));
  const peers = stats.peers.filter((peer) => !tabs.has(peer.addr));
  const dialing = peers.filter((peer) => peer.state === "dialing");
  if (dialing.length > 0) {
    const addrs = list(dialing.map((peer) => formatAddr(peer.addr)));
    showStatus("disconnected", "No connection:", `trying ${addrs} now`);
    return;
  }
  const waiting = peers.filter((peer) => peer.state === "backing_off");
  if (waiting.length === 0) {
    showStatus("disconnected", "No connection:", "looking for a member to dial");
    return;
  }
  const addrs = list(waiting.map((peer) => formatAddr(peer.addr)));
  const next = Math.min(...waiting.map((peer) => peer.nextDialMs ?? 0));
  showStatus("disconnected", "No connection:", `trying ${addrs}, next try in ${seconds(next)}`);
}

/** Shows why this tab is not let in, and what to do. It goes on trying, since the cause may be removed. */
export function showRefusal(error, code) {
  showStatus("disconnected", "No connection:", `${error} (${code}). Trying again.`);
}

/** Returns a seed whose error a retry cannot change, if the last dial of each seed has failed. */
function refusalOf(seeds) {
  return seeds.every(({ error }) => error) ? seeds.find(({ code }) => code) : undefined;
}

const seconds = (millis) => `${Math.max(1, Math.ceil(millis / 1000))} s`;

/** Joins names to "a", "a and b", "a, b and c", or "a, b and 3 more". */
export function list(names) {
  const unique = [...new Set(names)];
  const shown = unique.length > 3 ? [...unique.slice(0, 2), `${unique.length - 2} more`] : unique;
  if (shown.length < 2) return shown.join("");
  return `${shown.slice(0, -1).join(", ")} and ${shown[shown.length - 1]}`;
}
