use super::*;

// Alice's key pair in RFC 7748, section 6.1.
const ALICE_SECRET: [u8; 32] = [
    0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
    0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
];
const ALICE_PUBLIC: [u8; 32] = [
    0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a,
    0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a,
];

fn anyone() -> Trust {
    Trust::dangerously_anyone()
}

#[test]
fn an_identity_is_the_x25519_public_key_of_the_secret_key() {
    let credential = NetCredential::from_secret_key(&ALICE_SECRET, anyone());
    assert_eq!(credential.identity().as_bytes(), &ALICE_PUBLIC);
}

#[test]
fn an_identity_parses_its_printed_form_in_either_case() {
    let identity = Identity::from_bytes(ALICE_PUBLIC);
    let text = identity.to_string();
    assert_eq!(text.len(), 52);
    assert_eq!(text.parse(), Ok(identity));
    assert_eq!(format!(" {}\n", text.to_uppercase()).parse(), Ok(identity));
    assert!(text.starts_with(&identity.short()));
    assert_eq!(identity.short().len(), 10);
}

#[test]
fn text_that_is_not_an_identity_is_refused() {
    let good = Identity::from_bytes(ALICE_PUBLIC).to_string();
    let last_bits_set = format!("{}{}", &good[..51], "b");
    for bad in [
        "",
        "abc",
        &good[1..],
        &format!("{good}a"),
        &good.replace('a', "1"),
        &last_bits_set,
        "ééééééééééééééééééééééééééééééééééééééééééééééééééé",
    ] {
        assert!(bad.parse::<Identity>().is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn a_saved_key_is_the_same_key_when_it_is_read_again() {
    let credential = NetCredential::generate(anyone());
    let text = credential.to_secret_text();
    assert!(text.starts_with("gossip-key-"));
    let again = NetCredential::from_secret_text(&format!("\t{}\r\n", *text), anyone());
    assert_eq!(again.unwrap().identity(), credential.identity());
}

#[test]
fn public_keys_secret_keys_and_secrets_are_not_mistaken_for_each_other() {
    let credential = NetCredential::generate(anyone());
    let public = credential.identity().to_string();
    let secret = ClusterSecret::generate().to_text();
    assert!(NetCredential::from_secret_text(&public, anyone()).is_err());
    assert!(NetCredential::from_secret_text(&secret, anyone()).is_err());
    assert!(secret.parse::<Identity>().is_err());
    assert!(credential.to_secret_text().parse::<Identity>().is_err());
    assert!(
        credential
            .to_secret_text()
            .parse::<ClusterSecret>()
            .is_err()
    );
}

#[test]
fn generated_keys_and_secrets_differ() {
    let [a, b] = [(); 2].map(|()| NetCredential::generate(anyone()).identity());
    assert_ne!(a, b);
    assert_ne!(ClusterSecret::generate(), ClusterSecret::generate());
}

#[test]
fn a_printed_cluster_secret_is_valid_in_a_url_fragment() {
    for secret in [
        ClusterSecret::generate(),
        ClusterSecret::from_bytes(b"exactly 16 bytes").unwrap(),
        ClusterSecret::from_bytes(&[0xFF; 100]).unwrap(),
    ] {
        let text = secret.to_text();
        let unreserved = |c: char| c.is_ascii_alphanumeric() || c == '-';
        assert!(text.chars().all(unreserved), "{text}");
        assert_eq!(text.parse::<ClusterSecret>(), Ok(secret));
    }
}

#[test]
fn a_short_cluster_secret_is_refused() {
    assert!(ClusterSecret::from_bytes(b"only 15 bytes..").is_err());
    assert!("gossip-secret-mfrgg".parse::<ClusterSecret>().is_err());
    assert!("gossip-secret-".parse::<ClusterSecret>().is_err());
}

#[test]
fn trust_allows_the_listed_keys_or_every_key_without_a_list() {
    let friend = Identity::from_bytes([1; 32]);
    let stranger = Identity::from_bytes([2; 32]);
    let secret = ClusterSecret::generate();

    let keys = Trust::keys([friend]);
    assert!(keys.allows(&friend) && !keys.allows(&stranger));
    assert!(keys.keyring().is_none());

    let both = Trust::keys_and_secret([friend], secret.clone());
    assert!(both.allows(&friend) && !both.allows(&stranger));
    assert_eq!(both.keyring().unwrap().first(), &secret);

    let knows = Trust::secret(secret.clone());
    assert!(knows.allows(&stranger));
    assert_eq!(knows.keyring().unwrap().first(), &secret);

    assert!(anyone().allows(&stranger) && anyone().keyring().is_none());
    assert!(!Trust::keys([]).allows(&friend));
}

#[test]
fn debug_output_contains_no_secret() {
    let secret = ClusterSecret::from_bytes(&[0xAB; 16]).unwrap();
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let printed = format!("{credential:?} {secret:?} {:?}", credential.trust());
    let key_text = credential.to_secret_text();
    let secret_text = secret.to_text();
    for hidden in [
        &key_text["gossip-key-".len()..],
        &secret_text["gossip-secret-".len()..],
        "171",
    ] {
        assert!(!printed.contains(hidden), "{printed}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn neither_a_credential_nor_a_cluster_secret_leaves_its_bytes_in_memory() {
    use crate::rt::crypto::tests::{MemoryRegion, secret};

    let bytes = secret::<64>();
    let secret = ClusterSecret::from_bytes(&bytes).unwrap();
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let key = credential.key().privkey().to_vec();
    // Keeps the memory from being freed, and used for something else.
    let _memory = Arc::downgrade(&credential.inner);
    let mut places = [
        (MemoryRegion::of(secret.as_bytes()), &bytes[..]),
        (MemoryRegion::of(credential.key().privkey()), &key[..]),
    ];
    assert!(
        places
            .iter_mut()
            .all(|(place, secret)| place.has_part_of(secret))
    );
    drop((secret, credential));
    for (place, secret) in &mut places {
        assert!(
            !place.has_part_of(secret),
            "{} bytes are left",
            secret.len()
        );
    }
}
