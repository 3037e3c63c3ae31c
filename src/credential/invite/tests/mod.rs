//! Tests of the bytes and words of invites.

mod claims;
mod words;

use std::time::Duration;

use proptest::option;
use proptest::prelude::*;

use super::claims::Claims;
use super::holder::Holder;
use super::id::InviteId;
use super::name_prefix::NamePrefix;
use super::quotas::Quotas;
use crate::credential::identity::Identity;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

prop_compose! {
    fn any_quotas()(
        max_keys in option::of(any::<u32>()),
        max_bytes in option::of(any::<u32>()),
        max_changes_per_second in option::of(any::<u32>()),
        max_connections in option::of(any::<u32>()),
    ) -> Quotas {
        Quotas { max_keys, max_bytes, max_changes_per_second, max_connections }
    }
}

prop_compose! {
    fn any_claims()(
        id: [u8; 16],
        prefix in "[^\\p{Cc}]{0,32}",
        holder in option::of(any::<[u8; 32]>()),
        quotas in any_quotas(),
    ) -> Claims {
        let holder = holder.map(Identity::from_bytes).map_or(Holder::Anyone, Holder::Only);
        Claims::new(InviteId::from_bytes(id))
            .with_name_prefix(prefix.parse().unwrap())
            .with_holder(holder)
            .with_quotas(quotas)
    }
}

/// Returns the longest claims that there are.
fn longest_claims() -> Claims {
    let most = u32::MAX;
    let quotas = Quotas::default()
        .with_max_keys(most)
        .with_max_bytes(most)
        .with_max_changes_per_second(most)
        .with_max_connections(most);
    let prefix: NamePrefix = "a".repeat(NamePrefix::MAX_LEN).parse().unwrap();
    Claims::new(InviteId::from_bytes([0xFF; 16]))
        .with_name_prefix(prefix)
        .with_holder(Holder::Only(Identity::from_bytes([0xFF; 32])))
        .with_quotas(quotas)
}

/// Returns the claims whose bytes and word are fixed by vectors.
fn fixed_claims() -> Claims {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&1_800_003_600_u64.to_be_bytes());
    Claims::new(InviteId::from_bytes(id))
        .with_name_prefix("tab-".parse().unwrap())
        .with_holder(Holder::Only(Identity::from_bytes([9; 32])))
        .with_quotas(Quotas::default().with_max_keys(5).with_max_connections(258))
}
