// The invite in this tab's link, and who this tab is.
//
// The invite stays in the link's fragment, which browsers never send to a server.

import { claimIdentity } from "./identity.js";

const ID = "gossip-transport.id";
// After a reload the previous page holds the name for a moment; the original of a duplicated tab holds
// it for as long as it is open.
const CLAIM_MS = 800;

/** Returns the values in the link's fragment, `#invite=…&id=…`. */
export function readFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  return { invite: fragment.get("invite") ?? "", id: fragment.get("id") ?? "" };
}

/** Returns the link with which another tab joins. */
export function inviteLink(invite) {
  const url = new URL(location.href);
  url.hash = new URLSearchParams({ invite }).toString();
  return url.href;
}

/**
 * Returns this tab's name and key, and whether they are stored. The first tab of a cluster has the stored
 * ones. Another tab has a new key each time, and keeps its name in sessionStorage, so that after a reload
 * it replaces the member that it was. `wanted` is a name that takes precedence, and is not kept.
 */
export async function identify(cluster, wanted, generateSecretKey) {
  const create = () => ({ id: freshId(), secretKey: generateSecretKey() });
  const { id: given, secretKey, isStored } = await claimIdentity(cluster, create);
  let id = wanted || (!isStored && load(ID)) || given;
  if (!(await claim(id))) {
    // The tab was duplicated, or its link opened twice. Two members with the same name would replace
    // each other.
    id = freshId();
    await claim(id);
  }
  if (!isStored && !wanted) save(ID, id);
  return { id, secretKey, isStored };
}

function freshId() {
  // Locks tell apart the tabs of one browser only. Of 500 tabs, hardly two have the same of 2^32 names.
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return `tab-${number.toString(16).padStart(8, "0")}`;
}

/** Reserves the name while this page is open. Resolves to false if another page holds it. */
function claim(id) {
  // Browsers offer locks in secure contexts only (https, or a server on this machine).
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks
      .request(`gossip-transport name ${id}`, { signal: AbortSignal.timeout(CLAIM_MS) }, () => {
        resolve(true);
        return new Promise((release) => addEventListener("pagehide", release, { once: true }));
      })
      .catch(() => resolve(false));
  });
}

// Storage may be disabled. A reloaded tab then has a new name.
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
