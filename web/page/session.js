// The identity of this tab: the secret in its link, its name and its key.
//
// The name and the key are in sessionStorage, so a reloaded tab is the same member and another tab is
// another member. The secret stays in the link's fragment, which browsers never send to a server.

const ID = "gossip-transport.id";
const KEY = "gossip-transport.key";
// After a reload the previous page holds the name for a moment; the original of a duplicated tab holds
// it for as long as it is open.
const CLAIM_MS = 800;

/** Returns the values in the link's fragment, `#secret=…&id=…`. */
export function readFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  return { secret: fragment.get("secret") ?? "", id: fragment.get("id") ?? "" };
}

/** Returns the link with which another tab joins. */
export function inviteLink(secret) {
  const url = new URL(location.href);
  url.hash = new URLSearchParams({ secret }).toString();
  return url.href;
}

/** Returns this tab's name and key, which stay the same after a reload. */
export async function identify(wanted, generateSecretKey) {
  const id = wanted || load(ID) || freshId();
  if (await claim(id)) return remember(id, load(KEY) || generateSecretKey());
  // The tab was duplicated. Two members with the same name would replace each other.
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

/** Reserves the name while this page is open. Resolves to false if another page holds it. */
function claim(id) {
  // Browsers offer locks in secure contexts only (https, or a server on this machine).
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

// Storage may be disabled. A reloaded tab is then a new member.
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
    // Storage is disabled, see load.
  }
}
