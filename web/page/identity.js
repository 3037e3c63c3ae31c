// The identity of a page: the name and the key with which it is the same member after a reload.
//
// Imports nothing, so that other pages can use it as it is. Invariant: the stored identity is read and
// written only while this page holds its lock, so no two pages use one key at the same time. A node
// refuses the second of two connections with the same key.
//
// It is stored in localStorage: it is one short string that has to be there before the first dial, and it
// survives the tab, which sessionStorage does not. IndexedDB would keep it no safer, since every script
// of the origin can read both, and the module needs the bytes of the key.

// A reloaded page may ask before its previous document has let go.
const RELOAD_MS = 1000;

/**
 * Returns `{ id, secretKey, isStored }`: the identity that is stored for `cluster` on this origin, or a
 * new one from `create()`, which returns `{ id, secretKey }`.
 *
 * `isStored` is true if the next page of this origin will have the same identity once this one is closed.
 * It is false, and the identity new, if another page uses the stored one, if the browser has no locks
 * (it has them in secure contexts only: https, or a server on this machine), and if storage is disabled.
 *
 * A page that is restored from the browser's cache has lost its lock, and is reloaded.
 */
export async function claimIdentity(cluster, create) {
  const name = `gossip-transport identity ${cluster}`;
  if (!(await hold(name))) return { ...create(), isStored: false };
  const stored = load(name);
  if (stored) return { ...stored, isStored: true };
  const identity = create();
  return { ...identity, isStored: save(name, identity) };
}

/** Takes the lock `name` until this page is closed. Resolves to false if another page has it. */
async function hold(name) {
  if (!navigator.locks) return false;
  if (await request(name, { ifAvailable: true })) return true;
  const [navigation] = performance.getEntriesByType("navigation");
  if (navigation?.type !== "reload") return false;
  return request(name, { signal: AbortSignal.timeout(RELOAD_MS) });
}

function request(name, options) {
  return new Promise((resolve) => {
    const held = (lock) => {
      resolve(lock !== null);
      if (lock === null) return null;
      addEventListener("pageshow", (event) => {
        if (event.persisted) location.reload();
      });
      return new Promise((release) => addEventListener("pagehide", release, { once: true }));
    };
    navigator.locks.request(name, options, held).catch(() => resolve(false));
  });
}

/** Returns the stored identity, or `null` if there is none, or none that was written here. */
function load(name) {
  try {
    const { id, secretKey } = JSON.parse(localStorage.getItem(name));
    const isValid = typeof id === "string" && id !== "" && /^gossip-key-[a-z2-7]{52}$/.test(secretKey);
    return isValid ? { id, secretKey } : null;
  } catch {
    return null;
  }
}

/** Returns whether the identity is stored, which storage may not allow. */
function save(name, { id, secretKey }) {
  try {
    localStorage.setItem(name, JSON.stringify({ id, secretKey }));
    return true;
  } catch {
    return false;
  }
}
