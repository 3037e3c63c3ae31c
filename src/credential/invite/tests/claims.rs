use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{HOUR, NOW, any_claims, fixed_claims, longest_claims};
use crate::credential::invite::claims::Claims;
use crate::credential::invite::error::ClaimsError;
use crate::credential::invite::holder::Holder;
use crate::credential::invite::id::InviteId;

/// The bytes of claims with an id of zeros, and `rest` after it.
fn bytes(rest: &[u8]) -> Vec<u8> {
    [&[1], &[0; 16][..], rest].concat()
}

/// A claim with a number and a value.
fn claim(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(value.len()).unwrap()], value].concat()
}

#[test]
fn the_bytes_are_those_of_the_documentation() {
    let id = b"\0\0\0\0\x6b\x49\xe0\x10\x07\x07\x07\x07\x07\x07\x07\x07";
    let expected = [
        &[1][..],
        id,
        b"\x01\x04tab-",
        b"\x02\x20",
        &[9; 32],
        b"\x03\x04\0\0\0\x05",
        b"\x06\x04\0\0\x01\x02",
    ];
    assert_eq!(fixed_claims().encode(), expected.concat());
    assert_eq!(Claims::decode(&expected.concat()), Ok(fixed_claims()));

    let id = InviteId::generate(NOW, HOUR).unwrap();
    let least = [&[1][..], id.as_bytes()].concat();
    assert_eq!(Claims::new(id).encode(), least);
}

#[test]
fn each_claim_has_its_own_number() {
    for (tag, expected) in [(3, [1, 16_384, 20, 256]), (4, [64, 1, 20, 256])]
        .into_iter()
        .chain([(5, [64, 16_384, 1, 256]), (6, [64, 16_384, 20, 1])])
    {
        let claims = Claims::decode(&bytes(&claim(tag, &[0, 0, 0, 1]))).unwrap();
        let quotas = claims.quotas();
        let values = [
            quotas.max_keys(),
            quotas.max_bytes(),
            quotas.max_changes_per_second(),
            quotas.max_connections(),
        ];
        assert_eq!(values, expected, "{tag}");
        assert_eq!(claims.name_prefix().as_str(), "");
        assert_eq!(claims.holder(), Holder::Anyone);
    }
}

#[test]
fn claims_are_never_longer_than_their_limit() {
    let longest = longest_claims().encode();
    assert_eq!(longest.len(), 205);
    assert_eq!(Claims::decode(&longest), Ok(longest_claims()));
    // The length is looked at before anything else.
    let oversized = Err(ClaimsError::Oversized { len: 513, max: 512 });
    assert_eq!(Claims::decode(&[2; 513]), oversized);
    let unknown = Err(ClaimsError::UnknownVersion { version: 2 });
    assert_eq!(Claims::decode(&[2; 512]), unknown);
}

#[test]
fn claims_that_could_be_mistaken_are_refused() {
    use ClaimsError::{
        CutShort, NotText, OutOfOrder, Repeated, UnknownClaim, UnknownVersion, WrongLength,
    };
    let prefix = claim(1, b"a");
    let keys = claim(3, &[0, 0, 0, 1]);
    let long = claim(1, &[b'a'; 129]);
    for (rest, expected) in [
        // Cut within a claim, or bytes after the last one.
        (vec![1], CutShort),
        (vec![1, 2, b'a'], CutShort),
        ([&keys[..], &[4]].concat(), CutShort),
        ([&keys[..], &[4, 4, 0, 0, 0]].concat(), CutShort),
        // Unknown, even if they are empty.
        (vec![0, 0], UnknownClaim { tag: 0 }),
        (claim(7, &[0, 0, 0, 1]), UnknownClaim { tag: 7 }),
        ([&keys[..], &[255, 0]].concat(), UnknownClaim { tag: 255 }),
        // Twice, or in another order.
        ([&prefix[..], &prefix].concat(), Repeated { tag: 1 }),
        ([&keys[..], &keys].concat(), Repeated { tag: 3 }),
        (
            [&keys[..], &prefix].concat(),
            OutOfOrder { tag: 1, after: 3 },
        ),
        // Lengths and values that have no meaning, or that have another form.
        (vec![1, 0], WrongLength { tag: 1, len: 0 }),
        (long, WrongLength { tag: 1, len: 129 }),
        (claim(2, &[1; 31]), WrongLength { tag: 2, len: 31 }),
        (claim(2, &[1; 33]), WrongLength { tag: 2, len: 33 }),
        (claim(3, &[1]), WrongLength { tag: 3, len: 1 }),
        (claim(6, &[0; 8]), WrongLength { tag: 6, len: 8 }),
        (claim(1, b"\xFF"), NotText { tag: 1 }),
        (claim(1, b"a\n"), NotText { tag: 1 }),
    ] {
        assert_eq!(Claims::decode(&bytes(&rest)), Err(expected), "{rest:?}");
    }
    let mut other = bytes(&[]);
    assert!(Claims::decode(&other).is_ok());
    for version in [0, 2, 255] {
        other[0] = version;
        let unknown = Err(UnknownVersion { version });
        assert_eq!(Claims::decode(&other), unknown);
        // Another format may have another length.
        assert_eq!(Claims::decode(&[version]), unknown);
    }
    for len in 0..17 {
        assert_eq!(Claims::decode(&bytes(&[])[..len]), Err(CutShort), "{len}");
    }
}

#[test]
fn claims_expire_when_their_id_says() {
    let id = InviteId::generate(NOW, HOUR).unwrap();
    let claims = Claims::new(id);
    assert_eq!(claims.id(), id);
    assert_eq!(claims.expires_at(), NOW + HOUR);
    let end = NOW + HOUR + InviteId::CLOCK_SKEW;
    assert!(!claims.is_expired(NOW + HOUR) && claims.is_expired(end));
}

/// Single claims, most of which are valid, in order or not.
fn nearly_claims() -> impl Strategy<Value = Vec<u8>> {
    let quota = (3..7_u8, vec(any::<u8>(), 4));
    let holder = (Just(2), vec(any::<u8>(), 32));
    let prefix = (Just(1), vec(97..=122_u8, 0..9));
    let other = (any::<u8>(), vec(any::<u8>(), 0..9));
    let single = prop_oneof![6 => quota, 2 => holder, 2 => prefix, 1 => other];
    (vec(single, 0..5), any::<bool>()).prop_map(|(mut claims, is_sorted)| {
        if is_sorted {
            claims.sort_by_key(|(tag, _)| *tag);
        }
        let claims = claims.iter().map(|(tag, value)| claim(*tag, value));
        bytes(&claims.collect::<Vec<_>>().concat())
    })
}

/// Valid claims of which a byte is changed, removed or added.
fn changed_claims() -> impl Strategy<Value = Vec<u8>> {
    let changed = (any_claims(), any::<Index>(), any::<u8>(), 0..3);
    changed.prop_map(|(claims, place, byte, change)| {
        let mut bytes = claims.encode();
        let place = place.index(bytes.len());
        match change {
            0 => bytes[place] = byte,
            1 => drop(bytes.remove(place)),
            _ => bytes.insert(place, byte),
        }
        bytes
    })
}

proptest! {
    #[test]
    fn claims_decode_as_encoded_within_the_limit(claims in any_claims()) {
        let bytes = claims.encode();
        prop_assert!(bytes.len() <= Claims::MAX_LEN);
        prop_assert_eq!(Claims::decode(&bytes), Ok(claims));
    }

    #[test]
    fn what_is_accepted_is_what_its_claims_encode_to(
        bytes in prop_oneof![nearly_claims(), changed_claims(), vec(any::<u8>(), 0..600)],
    ) {
        if let Ok(claims) = Claims::decode(&bytes) {
            prop_assert_eq!(claims.encode(), bytes);
        }
    }

    #[test]
    fn claims_that_differ_have_different_bytes(a in any_claims(), b in any_claims()) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
    }

    #[test]
    fn claims_that_are_cut_off_are_refused_or_are_others(claims in any_claims()) {
        let bytes = claims.encode();
        for len in 0..bytes.len() {
            let cut = Claims::decode(&bytes[..len]);
            prop_assert_ne!(cut.as_ref(), Ok(&claims));
            if let Ok(cut) = cut {
                prop_assert_eq!(cut.encode(), &bytes[..len]);
            }
        }
    }
}
