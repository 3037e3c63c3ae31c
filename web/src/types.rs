//! The TypeScript side of what [`crate::convert`] makes and [`crate::options`] reads.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What `GossipNode.join` needs to know. */
export interface JoinOptions {
    /** Name of the cluster; only members of the same one talk to each other. */
    cluster: string;
    /** Name of this node, unique over the cluster. */
    id: string;
    /** Native members to begin with: `host:port`, `ws://…` or `wss://…`. */
    seeds: string[];
    /** The cluster's secret: whoever knows it is trusted. */
    secret?: string;
    /** Identities to trust. With `secret`, a peer needs both. */
    trust?: string[];
    /** Trusts anyone. For demonstrations; not together with `secret` or `trust`. */
    trustAnyone?: boolean;
    /** This node's key, from `generateSecretKey()`. Default: a new one, lost with the page. */
    secretKey?: string;
    /**
     * Time between rounds in milliseconds, 10 to 3,600,000. Default 1,000. The failure detector's
     * initial interval is 5 times this, its maximal interval 10 times; all members should use the
     * same.
     */
    gossipIntervalMs?: number;
    /** Keys to set before the first round. */
    keyValues?: Record<string, string>;
}

/** A member as this node sees it. */
export interface Member {
    id: string;
    /** Higher after each restart. In decimal, since it may pass 2^53. */
    generation: string;
    /** Where others send gossip for it. */
    addr: string;
    /** By the failure detector; this node itself is always live. */
    live: boolean;
    /** Whether it is this node. */
    self: boolean;
    /** The highest heartbeat heard of. */
    heartbeat: number;
    /** Its keys, deleted ones left out. */
    keys: Record<string, string>;
}
"#;

// What `GossipNode`'s methods say that they take and give.
#[wasm_bindgen]
extern "C" {
    /// An array of members.
    #[wasm_bindgen(typescript_type = "Member[]")]
    pub type MemberArray;

    /// Called without arguments.
    #[wasm_bindgen(typescript_type = "(() => void) | null | undefined")]
    pub type ChangeCallback;
}
