// What the members' list means: pure functions, no document.

/** The key by which a member says what it is, and its values. */
export const KIND_KEY = "kind";
export const KIND_TAB = "tab";

export const kindOf = (member) => (member.keys[KIND_KEY] === KIND_TAB ? "tab" : "node");

/** A member's keys for display: its kind is shown by its shape. */
export const visibleKeys = (member) =>
  Object.entries(member.keys).filter(([key]) => key !== KIND_KEY);

/** The newest generation of each name, nodes first, then tabs, each in the order of names. */
export function newest(members) {
  const byId = new Map();
  for (const member of members) {
    const known = byId.get(member.id);
    if (!known || BigInt(member.generation) > BigInt(known.generation)) byId.set(member.id, member);
  }
  const rank = (member) => (kindOf(member) === "tab" ? 1 : 0);
  return [...byId.values()].sort(
    (a, b) => rank(a) - rank(b) || a.id.localeCompare(b.id, "en", { numeric: true }),
  );
}

/**
 * What happened between two lists of `newest`: `{ kind, id, key?, value? }` with kind `joined`,
 * `died`, `back`, `forgotten`, `set` or `deleted`. `seen` holds who has been live before.
 */
export function changes(before, after, seen) {
  const events = [];
  const old = new Map(before.map((member) => [member.id, member]));
  for (const member of after) {
    const was = old.get(member.id);
    old.delete(member.id);
    const { id } = member;
    // What a newcomer brings along is no news of its own: it is in the table.
    if (seen.has(id)) events.push(...keyChanges(was, member));
    // Until its first heartbeats a member is not live: that is not yet an event.
    if (member.live && !(was && was.live)) {
      events.push({ kind: seen.has(id) ? "back" : "joined", id });
    } else if (!member.live && was && was.live) {
      // A new generation is dead for a moment: it restarts.
      if (was.generation === member.generation) events.push({ kind: "died", id });
    }
    if (member.live) seen.add(id);
  }
  for (const id of old.keys()) {
    seen.delete(id);
    events.push({ kind: "forgotten", id });
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
  // A new generation begins empty: its keys were not deleted by anyone.
  if (was && was.generation === member.generation) {
    for (const key of Object.keys(before)) {
      if (!(key in after)) events.push({ kind: "deleted", id: member.id, key });
    }
  }
  return events;
}

/** Counts for the figures and the totals. */
export function summary(members, stats) {
  const live = members.filter((member) => member.live).length;
  return { live, dead: members.length - live, links: stats ? stats.connections.length : 0 };
}

/** Drops of every reason. */
export const totalDrops = (drops) => Object.values(drops).reduce((sum, count) => sum + count, 0);
