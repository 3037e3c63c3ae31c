// Pure functions on the list of members. They do not touch the document.

/** The key that holds a member's kind, and the value that tabs set. */
export const KIND_KEY = "kind";
export const KIND_TAB = "tab";

export const kindOf = (member) => (member.keys[KIND_KEY] === KIND_TAB ? "tab" : "node");

/** Returns a member's keys for display, without its kind, which its shape shows. */
export const visibleKeys = (member) =>
  Object.entries(member.keys).filter(([key]) => key !== KIND_KEY);

/** The most characters of a value that are shown. A page whose members have megabytes would do nothing but show them. */
const MAX_SHOWN = 1000;

/** Returns a member's keys for display as `[key, shown, value]`, where `shown` is the beginning of a long value. */
export const shownKeys = (member) =>
  visibleKeys(member).map(([key, value]) => [key, shorten(value, MAX_SHOWN), value]);

/** Returns the first `max` characters of a longer text. */
export const shorten = (text, max) => (text.length > max ? `${text.slice(0, max)}…` : text);

/** Returns the name of the member at each address. A live member comes before a dead one. */
export function namesByAddr(members) {
  const name = (member) => (member.live ? member.id : `${member.id} (${member.liveness})`);
  const sorted = [...members].sort((a, b) => Number(a.live) - Number(b.live));
  return new Map(sorted.map((member) => [member.addr, name(member)]));
}

/** Returns the current generation of each member that has not left: nodes, then tabs, each sorted by id. */
export function newest(members) {
  const byId = new Map();
  for (const member of members) {
    const known = byId.get(member.id);
    if (!known || !member.superseded) byId.set(member.id, member);
  }
  const rank = (member) => (kindOf(member) === "tab" ? 1 : 0);
  const present = [...byId.values()].filter((member) => member.liveness !== "left");
  return present.sort(
    (a, b) => rank(a) - rank(b) || a.id.localeCompare(b.id, "en", { numeric: true }),
  );
}

/**
 * Returns the events between two results of `newest`: `{ kind, id, key?, value? }` with kind `joined`,
 * `died`, `back`, `left`, `forgotten`, `set` or `deleted`. `seen` is the set of ids that have been live, and
 * is updated.
 */
export function changes(before, after, seen) {
  const events = [];
  const old = new Map(before.map((member) => [member.id, member]));
  for (const member of after) {
    const was = old.get(member.id);
    old.delete(member.id);
    const { id } = member;
    // The keys that a new member joins with are in the table; they are not events.
    if (seen.has(id)) events.push(...keyChanges(was, member));
    // A member is not live until its first heartbeats, which is not an event.
    if (member.live && !(was && was.live)) {
      events.push({ kind: seen.has(id) ? "back" : "joined", id });
    } else if (!member.live && was && was.live) {
      // A restarted member's new generation is not live at first. That is not a death.
      if (was.generation === member.generation) events.push({ kind: "died", id });
    }
    if (member.live) seen.add(id);
  }
  for (const [id, was] of old) {
    seen.delete(id);
    // A member that is live is not forgotten, unless it leaves.
    events.push({ kind: was.live ? "left" : "forgotten", id });
  }
  return events;
}

function keyChanges(was, member) {
  const events = [];
  const before = was ? Object.fromEntries(visibleKeys(was)) : {};
  const after = Object.fromEntries(visibleKeys(member));
  for (const [key, value] of Object.entries(after)) {
    if (before[key] !== value) events.push({ kind: "set", id: member.id, key, value });
  }
  // A new generation starts without keys. The old ones have not been deleted.
  if (was && was.generation === member.generation) {
    for (const key of Object.keys(before)) {
      if (!(key in after)) events.push({ kind: "deleted", id: member.id, key });
    }
  }
  return events;
}

/** Returns the counts below the drawing. */
export function summary(members, stats) {
  const live = members.filter((member) => member.live).length;
  return { live, dead: members.length - live, links: stats ? stats.connections.length : 0 };
}

/** Returns whether a page that was loaded over https cannot open any of `seeds`: only `wss:`, and its own machine. */
export const isOutOfReach = (seeds) =>
  !seeds.some((seed) => /^wss:|^(ws:\/\/)?(localhost|127\.[\d.]+|\[::1\])([:/]|$)/i.test(seed));

/** Returns the sum of the drops of all reasons. */
export const totalDrops = (drops) => Object.values(drops).reduce((sum, count) => sum + count, 0);
