//! TypeScript declarations of the values that [`crate::convert`] returns and [`crate::options`]
//! reads.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** The options of `GossipNode.join`. */
export interface JoinOptions extends CredentialOptions {
    /** Name of the cluster. Members of different clusters ignore each other. Default: that of the invite. */
    cluster?: string;
    /**
     * Name of this node. Each tab needs one of its own: others tell tabs of one name apart by `addr` only. It begins with
     * the prefix of the invite, if that has one.
     */
    id: string;
    /** Native members to contact first: `host:port`, `ws://…` or `wss://…`. Default: those of the invite. */
    seeds?: string[];
    /**
     * Called before `invite` expires, when a fifth of its time is left: resolves to a new one, for example from the
     * page's server. Open connections stay. If it rejects, or the new one expires no later, it is called again after a
     * while, of at least 10 s, and the reason is in the console.
     */
    renewInvite?: () => Promise<string>;
    /**
     * Time between gossip rounds in milliseconds, 10 to 3,600,000. Default: 1,000. The failure
     * detector's initial interval is 5 times and its maximal interval 10 times as long. All members
     * should use the same interval.
     */
    gossipIntervalMs?: number;
    /** Keys to set before the first gossip round. */
    keyValues?: Record<string, string>;
}

/** The options of `connected`. */
export interface ConnectedOptions {
    /** Gives up the wait when it is aborted, and makes the node leave. */
    signal?: AbortSignal;
}

/** A seed, and how far this node has come with it. */
export interface Seed {
    /** The seed as it was passed to `join`. */
    seed: string;
    state: "idle" | "backing_off" | "dialing" | "connected";
    /** Milliseconds until the next dial, while `state` is `backing_off`. */
    nextDialMs?: number;
    /** Dials that have failed in a row. */
    failures: number;
    /** What went wrong the last time, unless the last dial has succeeded. With `code`, it also says what to do. */
    error?: string;
    /**
     * A short name of `error`, such as `expired` or `revoked`, if a retry cannot change it: the same as that of the
     * error of `connected()`, but also of a node that was connected before.
     */
    code?: string;
}

/** A member of the cluster as this node sees it. */
export interface Member {
    id: string;
    /** Higher after each restart. A decimal number in a string, since it may exceed 2^53. */
    generation: string;
    /**
     * The address to which others send gossip for this member. That of a tab is made from its key, so it
     * stays the same as long as the key does.
     */
    addr: string;
    /** Whether the member is live: `liveness` is `live` or `myself`. */
    live: boolean;
    /**
     * `myself` for this node, and otherwise `live` as long as the member's heartbeat keeps rising, `left` if it has
     * said that it leaves or its connections have ended, and `dead` if its heartbeat has not risen for too
     * long, or not often enough yet.
     */
    liveness: "myself" | "live" | "left" | "dead";
    /**
     * Whether another member with the same id takes precedence, since it is live or has a later
     * generation. This one is an earlier or failed generation of a member that has restarted.
     */
    superseded: boolean;
    /** Whether the member is this node. */
    self: boolean;
    /** The highest heartbeat that is known. */
    heartbeat: number;
    /** The member's keys, without deleted ones. */
    keys: Record<string, string>;
}
"#;

// Types of arguments and results of `GossipNode`'s methods.
#[wasm_bindgen]
extern "C" {
    /// An array of members.
    #[wasm_bindgen(typescript_type = "Member[]")]
    pub type MemberArray;

    /// An array of seeds.
    #[wasm_bindgen(typescript_type = "Seed[]")]
    pub type SeedArray;

    /// A callback without arguments.
    #[wasm_bindgen(typescript_type = "(() => void) | null | undefined")]
    pub type ChangeCallback;
}
