// The live cluster page: joins the cluster as a member, and shows the cluster as this member sees it.
//
// This file owns the node and connects the parts of the page, each of which has its own file.

import { changes, isOutOfReach, newest, summary } from "./cluster.js";
import { showConnections } from "./connections.js";
import { byId, setText } from "./dom.js";
import { Drawing } from "./drawing.js";
import { initKeys, setNode, showOwnKeys } from "./keys.js";
import { log, logEvents } from "./log.js";
import { showMembers } from "./members.js";
import { Pace } from "./pace.js";
import { identify, inviteLink, readFragment } from "./session.js";
import { list, showMembership, showRefusal, showStatus } from "./status.js";
import init, { GossipNode, generateSecretKey } from "./pkg/gossip_web.js";

// Heartbeats and counters change without an event, so they are polled.
const REFRESH_MS = 250;
// Changes within this time are shown together.
const COALESCE_MS = 16;
const CONFIG_RETRY_MS = 2000;
// A page that was loaded over https through a proxy, of which the node knows nothing.
const NEEDS_URL =
  "This page was loaded over https, and the node that serves it names no wss:// URL at which tabs reach it: it needs --public-url wss://…";
// The most times the wait that the node names, after several refusals.
const MAX_INVITE_WAITS = 16;
// If joining takes longer than this, the status says that there is no answer.
const JOIN_SLOW_MS = 3000;
// The time between two looks at why no other member answers. It is short, since the reason may be this
// page's own previous connection, which a node replaces within about a second.
const RETRY_MS = 250;
// While one connection replaces another there may be none for a moment, which is not shown.
const DISCONNECTED_AFTER_MS = 600;
const RATE_WINDOW_MS = 3000;

const drawing = new Drawing(byId("drawing"));
const pace = new Pace(COALESCE_MS);
const seen = new Set();
const rates = [];
let node = null;
let config = null;
let members = [];
let lastConnected = 0;
let scheduled = 0;

window.gossipDebug = {
  members: () => (node ? node.members() : []),
  stats: () => (node ? node.stats() : null),
};

initKeys(() => schedule());
start().catch((error) => fail(error));

async function start() {
  const { invite, id: wanted } = readFragment();
  window.addEventListener("hashchange", () => location.reload());
  // A page that is restored from the browser's cache has let go of its name and key, and has left the
  // cluster if it had joined, so it starts again.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
  if (invite !== "") showInvite(invite);
  // The node may give each page an invite of its own, if it has none.
  const [, loaded] = await Promise.all([init(), invite === "" ? loadInvited() : loadConfig("./config.json")]);
  config = loaded;
  const given = invite === "" ? config.invite : undefined;
  if (invite === "" && given === undefined) {
    showStatus(
      "disconnected",
      "This link has no invite.",
      `The node at ${location.host} gives this page none: it runs without --invite-visitors, or its log says why. Open the complete link, which ends in #invite=…`,
    );
    return;
  }
  setText(byId("cluster"), config.cluster);
  byId("cluster").hidden = false;

  const isUnreachable = location.protocol === "https:" && isOutOfReach(config.seeds);
  if (isUnreachable && given !== undefined) {
    showStatus("disconnected", "No connection:", NEEDS_URL);
    return;
  }
  const { id, secretKey, isStored } = await identify(config.cluster, wanted, generateSecretKey);
  const trying = list(config.seeds);
  showStatus("connecting", "Connecting:", `trying ${trying}`);
  const advice = isUnreachable ? NEEDS_URL : "If the cluster was restarted, open its new link.";
  const slow = setInterval(() => {
    const failed = node?.seeds().filter(({ error }) => error);
    const why = failed?.length ? failed.map(({ seed, error, code }) => (code ? error : `${seed}: ${error}`)).join("; ") : `no answer yet from ${trying}`;
    showStatus("disconnected", "No connection:", `${why}. Trying again. ${advice}`);
  }, JOIN_SLOW_MS);
  try {
    node = await GossipNode.join({
      cluster: config.cluster,
      id,
      // An invite may name a URL that its node does not know.
      seeds: isUnreachable ? undefined : config.seeds,
      invite: given ?? invite,
      renewInvite: given && freshInvite,
      secretKey,
      gossipIntervalMs: config.gossip_interval_ms,
      keyValues: { kind: "tab" },
    });
    await meetOthers(isUnreachable ? NEEDS_URL : "");
  } catch (error) {
    if (!isUnreachable) throw error;
    // Perhaps the invite has no seeds that could be tried in their place; but it may be incomplete, too.
    fail(error, NEEDS_URL);
    return;
  } finally {
    clearInterval(slow);
  }
  joined(isStored);
}

/** Waits until another member has answered. Shows why none does, with `advice`, and goes on trying. */
async function meetOthers(advice) {
  for (;;) {
    try {
      return await node.connected();
    } catch (error) {
      showRefusal(`${error.message} ${advice}`.trim(), error.code);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function joined(isStored) {
  const lifetime = isStored ? "kept for the next visit" : "for this visit";
  setText(byId("me"), `${node.id} · identity ${node.identity}, ${lifetime}`);
  lastConnected = performance.now();
  log("joined", "This tab joined the cluster as ", bold(node.id));
  setNode(node);
  node.onchange = schedule;
  setInterval(() => {
    if (!document.hidden) schedule();
  }, REFRESH_MS);
  document.addEventListener("visibilitychange", refresh);
  document.addEventListener("resume", refresh);
  window.addEventListener("pagehide", leave);
  refresh();
}

/** Schedules one refresh for all changes within the next moment, which is longer if the members have much state. */
function schedule() {
  if (scheduled === 0) scheduled = setTimeout(refresh, pace.wait(performance.now()));
}

function refresh() {
  clearTimeout(scheduled);
  scheduled = 0;
  if (node === null) return;
  const began = performance.now();
  const generations = node.members();
  const now = newest(generations);
  const stats = node.stats();
  const isFirst = members.length === 0;
  const events = changes(members, now, seen);
  members = now;
  // Members that were there before this tab are not events.
  if (!isFirst) logEvents(events.filter((event) => !isOwnArrival(event)));
  showMembers(members);
  showOwnKeys(members.find((member) => member.self));
  showConnections(stats, generations);
  drawing.update(members, stats);
  showFigures(stats);

  const at = performance.now();
  if (stats.connections.length > 0) lastConnected = at;
  if (stats.connections.length > 0 || at - lastConnected > DISCONNECTED_AFTER_MS) {
    // Needed only then: it takes as long as the counters.
    const seeds = stats.connections.length > 0 ? [] : node.seeds();
    showMembership(stats, generations, seeds);
  }
  pace.done(began, performance.now());
}

const isOwnArrival = (event) => event.id === node.id && !("key" in event);

function showFigures(stats) {
  const { live, dead, links } = summary(members, stats);
  setText(byId("figure-live"), String(live));
  setText(byId("figure-dead"), String(dead));
  setText(byId("figure-links"), String(links));

  const at = performance.now();
  rates.push({ at, sent: stats.total.sent, received: stats.total.received });
  while (rates.length > 2 && at - rates[0].at > RATE_WINDOW_MS) rates.shift();
  const [from] = rates;
  const seconds = Math.max(0.5, (at - from.at) / 1000);
  showRate("figure-out", (stats.total.sent - from.sent) / seconds);
  showRate("figure-in", (stats.total.received - from.received) / seconds);
}

function showRate(id, rate) {
  const text = rate >= 10 ? String(Math.round(rate)) : rate.toFixed(1);
  const number = byId(id).firstChild;
  if (number.data !== text) number.data = text;
}

/** Fetches another invite from this page's server. Fails if it gives none now; the node asks again later. */
async function freshInvite() {
  const response = await fetch("./config.json?invite", { cache: "no-store" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  const { invite } = await response.json();
  if (invite === undefined) throw new Error("the node gives no invite now");
  return invite;
}

/**
 * Fetches the configuration with an invite for this page. While too many pages ask for one, it waits longer each time, and
 * not for as long as others that were refused at the same moment.
 */
async function loadInvited() {
  for (let factor = 1; ; factor = Math.min(2 * factor, MAX_INVITE_WAITS)) {
    const loaded = await loadConfig("./config.json?invite");
    if (loaded.invite_after_s === undefined) return loaded;
    const wait = loaded.invite_after_s * factor * (1 + Math.random());
    showStatus("disconnected", "Too many pages were opened here.", `This page tries again in ${Math.ceil(wait)} s.`);
    await new Promise((resolve) => setTimeout(resolve, wait * 1000));
  }
}

/** Fetches the configuration from this page's server, again and again until it answers. */
async function loadConfig(path) {
  for (;;) {
    try {
      const response = await fetch(path, { cache: "no-store" });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      return await response.json();
    } catch (error) {
      const wait = `next try in ${CONFIG_RETRY_MS / 1000} s`;
      showStatus("disconnected", "No connection:", `${location.host} does not return the list of members (${error.message}), ${wait}`);
      await new Promise((resolve) => setTimeout(resolve, CONFIG_RETRY_MS));
    }
  }
}

function showInvite(invite) {
  const link = inviteLink(invite);
  const anchor = byId("invite");
  anchor.href = link;
  anchor.hidden = false;
  const copy = byId("copy-link");
  // Browsers offer the clipboard in secure contexts only.
  copy.hidden = !navigator.clipboard;
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(link);
      setText(copy, "Copied");
    } catch {
      setText(copy, "Not allowed");
    }
    setTimeout(() => setText(copy, "Copy link"), 1600);
  });
}

function leave() {
  const leaving = node;
  node = null;
  setNode(null);
  leaving?.leave();
}

/** Says why this page has stopped, and then `advice`. */
function fail(error, advice = "Reload this page to try again.") {
  console.error(error);
  const why = String(error.message ?? error).replace(/\.$/, "");
  showStatus("disconnected", "Stopped.", `${why}. ${advice}`);
}

function bold(text) {
  const element = document.createElement("b");
  element.textContent = text;
  return element;
}
