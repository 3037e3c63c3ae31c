// Who this tab is: the secret of its link, its name and its key.
//
// The name and the key live in sessionStorage: a reload is the same member again, another tab is
// another one. The secret stays in the link's fragment, which no server ever sees.

const ID = "gossip-transport.id";
const KEY = "gossip-transport.key";
// A reload meets its own previous page for a moment; a duplicated tab meets its original for good.
const CLAIM_MS = 800;

/** What the link's fragment says: `#secret=…&id=…`. */
export function readFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  return { secret: fragment.get("secret") ?? "", id: fragment.get("id") ?? "" };
}

/** The link that makes another tab a member of its own. */
export function inviteLink(secret) {
  const url = new URL(location.href);
  url.hash = new URLSearchParams({ secret }).toString();
  return url.href;
}

/** This tab's name and key, the same ones after a reload. */
export async function identify(wanted, generateSecretKey) {
  const id = wanted || load(ID) || freshId();
  if (await claim(id)) return remember(id, load(KEY) || generateSecretKey());
  // A duplicate of a tab that still lives: two members of one name would hide each other.
  const other = freshId();
  await claim(other);
  return remember(other, generateSecretKey());
}

function remember(id, secretKey) {
  save(ID, id);
  save(KEY, secretKey);
  return { id, secretKey };
}

function freshId() {
  const [number] = crypto.getRandomValues(new Uint16Array(1));
  return `tab-${number.toString(16).padStart(4, "0")}`;
}

/** Holds the name for as long as this page lives; false if another page holds it. */
function claim(id) {
  // Only in a secure context (https, or this machine itself).
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks
      .request(`gossip-transport ${id}`, { signal: AbortSignal.timeout(CLAIM_MS) }, () => {
        resolve(true);
        return new Promise(() => {});
      })
      .catch(() => resolve(false));
  });
}

// Storage may be forbidden: then a reload is a new member, and that is all.
function load(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

function save(name, value) {
  try {
    sessionStorage.setItem(name, value);
  } catch {
    // See above.
  }
}
