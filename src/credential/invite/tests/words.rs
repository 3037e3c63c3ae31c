use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{any_claims, fixed_claims, longest_claims};
use crate::credential::error::CredentialError;
use crate::credential::invite::Invite;
use crate::credential::invite::error::{ClaimsError, InviteTextError, IssueError};
use crate::credential::invite::key::InviteKey;
use crate::credential::invite::word;
use crate::credential::secret::ClusterSecret;

/// A secret that is marked as generated, and always the same.
fn fixed_secret() -> ClusterSecret {
    ClusterSecret::from_bytes(&[&[7; 28][..], &[0x1F, 0xE0, 0x73, 0xD6]].concat()).unwrap()
}

fn issue(cluster_id: &str, seeds: &[&str]) -> Result<Invite, IssueError> {
    let seeds = seeds.iter().map(ToString::to_string).collect();
    Invite::issue(
        &fixed_secret(),
        fixed_claims(),
        cluster_id.to_owned(),
        seeds,
    )
}

#[test]
fn an_invite_is_the_word_that_python_computes() {
    // mac = lambda key, data: hmac.new(key, data, hashlib.blake2s).digest()
    // count = lambda data: len(data).to_bytes(2, "big") + data
    // secret = bytes(28 * [7]); secret += hashlib.blake2s(b"gossip-transport generated secret 1" + secret).digest()[:4]
    // derive = lambda info: mac(mac(b"", secret), info + b"\x01")
    // id = (1_800_003_600).to_bytes(8, "big") + bytes(8 * [7])
    // claims = b"\x01" + id + b"\x01\x04tab-" + b"\x02\x20" + bytes(32 * [9]) + b"\x03\x04\0\0\0\5" + b"\x06\x04\0\0\1\2"
    // public = montgomery_ladder(derive(b"gossip-transport core 1"), 9)
    // seeds = [b"wss://a.example/", b"b.example:7946"]
    // contents = b"\x01" + count(claims) + derive(b"gossip-transport invite 1" + claims) + public + count(b"demo")
    // contents += b"\x02" + count(seeds[0]) + count(seeds[1])
    // check = hashlib.blake2s(b"gossip-transport invite word 1" + contents).digest()[:4]
    // base64.b32encode(contents + check).decode().lower().rstrip("=")
    let invite = issue("demo", &["wss://a.example/", "b.example:7946"]).unwrap();
    let expected = "gossip-invite-\
        aeaekaiaaaaaa22j4aiaobyha4dqobyhaechiylcfubcacijbeeqscijbeeqscijbeeqscijbeeqscij\
        beeqscijbeeqscijamcaaaaaaudaiaaaaebjubr62xc76nm7cng2s34qdb3zpxi7yyavpfk2kwtkeqf4\
        7okoqxqeofnttzc7igezauticg4popl5df5popyeezvv6ruvgk6zgngkl4aaizdfnvxqeaaqo5zxgorp\
        f5qs4zlymfwxa3dff4aa4yromv4gc3lqnrstunzzgq3gp3gfom";
    assert_eq!(invite.to_text().as_str(), expected);
    assert_eq!(expected.parse(), Ok(invite));
}

#[test]
fn an_invite_is_of_the_secret_from_which_both_of_its_keys_come() {
    let (own, other) = (fixed_secret(), ClusterSecret::generate());
    let invite = issue("demo", &[]).unwrap();
    assert!(invite.is_of(&own) && !invite.is_of(&other));
    let cluster_key = other.cluster_key().public();
    let posing = Invite {
        cluster_key,
        ..invite.clone()
    };
    assert!(!posing.is_of(&own) && !posing.is_of(&other));
    let key = InviteKey::derive(&other, &fixed_claims().encode());
    let guessed = Invite { key, ..invite };
    assert!(!guessed.is_of(&own) && !guessed.is_of(&other));
}

#[test]
fn an_invite_has_the_keys_of_its_secret_and_claims() {
    let (secret, claims) = (fixed_secret(), fixed_claims());
    let invite = issue("demo", &["a"]).unwrap();
    assert_eq!(invite.claims(), &claims);
    assert_eq!(invite.key(), &InviteKey::derive(&secret, &claims.encode()));
    assert_eq!(invite.cluster_key(), &secret.cluster_key().public());
    assert_eq!(invite.cluster_id(), "demo");
    assert_eq!(invite.seeds(), ["a"]);
    // Issued twice, it is the same.
    assert_eq!(issue("demo", &["a"]), Ok(invite));
}

#[test]
fn only_a_generated_secret_issues_invites() {
    let issue = |secret: &ClusterSecret| {
        Invite::issue(secret, fixed_claims(), "demo".to_owned(), Vec::new())
    };
    let read = ClusterSecret::generate().to_text().parse().unwrap();
    assert!(issue(&ClusterSecret::generate()).is_ok() && issue(&read).is_ok());
    for bytes in [&b"a password of thirty-two letters"[..], &[7; 16]] {
        let secret = ClusterSecret::from_bytes(bytes).unwrap();
        let refused = issue(&secret).unwrap_err();
        let id = secret.id();
        assert_eq!(refused, IssueError::SecretNotGenerated { id });
        assert!(refused.to_string().contains(&id.to_string()));
    }
}

#[test]
fn a_cluster_id_and_seeds_must_be_plain_text_of_limited_length() {
    let (longest_id, longest_seed) = ("a".repeat(1024), "a".repeat(512));
    let malformed = |refused: Result<Invite, IssueError>| match refused {
        Err(IssueError::Malformed(CredentialError::Malformed { what, .. })) => what,
        other => panic!("{other:?}"),
    };
    assert!(issue(&longest_id, &[longest_seed.as_str(); 4]).is_ok());
    assert!(issue("a", &[]).is_ok());
    for bad in ["", "a\nb", &"a".repeat(1025)] {
        assert_eq!(malformed(issue(bad, &[])), "the cluster id of an invite");
    }
    for bad in ["", "a\u{7f}", &"a".repeat(513)] {
        let refused = issue("demo", &["good", bad]);
        assert_eq!(malformed(refused), "a seed of an invite");
    }
    let too_many = Err(IssueError::TooManySeeds { count: 5, max: 4 });
    assert_eq!(issue("demo", &["a"; 5]), too_many);
}

#[test]
fn the_longest_invite_is_not_too_long_to_be_read() {
    let seeds = vec!["s".repeat(512); 4];
    let secret = fixed_secret();
    let longest = Invite::issue(&secret, longest_claims(), "c".repeat(1024), seeds).unwrap();
    assert!(longest.encode().len() <= Invite::MAX_LEN);
    let word = longest.to_text();
    assert!(word.len() < 8_000, "{}", word.len());
    assert_eq!(word.parse(), Ok(longest));
    let mut long = word.to_string();
    long.push_str(&"a".repeat(1000));
    let Err(InviteTextError::Oversized { len, max }) = long.parse::<Invite>() else {
        panic!("it was read");
    };
    assert_eq!(len, word.len() + 1000);
    assert!(max < 8_000, "{max}");
}

/// The contents of a word with these claims and this end, which begins with the cluster id.
fn contents(version: u8, claims: &[u8], end: &[u8]) -> Vec<u8> {
    let len = u16::try_from(claims.len()).unwrap().to_be_bytes();
    [&[version], &len[..], claims, &[1; 64], end].concat()
}

#[test]
fn complete_words_without_a_meaning_are_told_from_damaged_ones() {
    use InviteTextError::{Claims, Malformed, UnknownVersion};
    let claims = fixed_claims().encode();
    let read = |contents: &[u8]| word::encode(contents).parse::<Invite>();
    let with_end = |end: &[u8]| read(&contents(1, &claims, end));
    let valid = b"\0\x01c\x01\0\x01s";
    assert!(with_end(valid).is_ok());
    for len in 0..valid.len() {
        let what = "it is cut short";
        assert_eq!(with_end(&valid[..len]), Err(Malformed { what }), "{len}");
    }
    let cluster_id = "the cluster id is empty, too long or no plain text";
    let seed = "a seed is empty, too long or no plain text";
    for (end, what) in [
        (&b"\0\0\0"[..], cluster_id),
        (b"\0\x01\xFF\0", cluster_id),
        (b"\0\x01\n\0", cluster_id),
        (b"\0\x01c\x01\0\0", seed),
        (b"\0\x01c\x02\0\x01s\0\x01\x07", seed),
        (
            b"\0\x01c\x05\0\x01s\0\x01s\0\x01s\0\x01s\0\x01s",
            "it names more than four seeds",
        ),
        (b"\0\x01c\xFF", "it names more than four seeds"),
        (b"\0\x01c\x00s", "there are bytes behind the last seed"),
    ] {
        assert_eq!(with_end(end), Err(Malformed { what }), "{end:?}");
    }
    let long = [&[4, 1][..], &[b'c'; 1025], &[0]].concat();
    assert_eq!(with_end(&long), Err(Malformed { what: cluster_id }));
    for version in [0, 2, 255] {
        let unknown = Err(UnknownVersion { version });
        assert_eq!(read(&contents(version, &claims, valid)), unknown);
        // Whatever a newer format looks like, as long as its checksum is right.
        assert_eq!(read(&[version]), unknown);
    }
    let unknown = [&claims[..], &[9, 0]].concat();
    let refused = read(&contents(1, &unknown, valid));
    assert_eq!(refused, Err(Claims(ClaimsError::UnknownClaim { tag: 9 })));
    let oversized = ClaimsError::Oversized { len: 513, max: 512 };
    assert_eq!(read(&contents(1, &[1; 513], valid)), Err(Claims(oversized)));
}

#[test]
fn neither_debug_output_nor_an_error_contains_the_key() {
    let invite = issue("demo", &["a"]).unwrap();
    let word = invite.to_text();
    let key = invite.key().as_bytes();
    let hidden = [
        format!("{:?}", &key[..4]).replace(['[', ']'], ""),
        format!("{:02x}{:02x}{:02x}", key[0], key[1], key[2]),
        word[word.len() / 2..].to_owned(),
    ];
    let cut = word[..word.len() - 1].parse::<Invite>().unwrap_err();
    let long = word.repeat(50).parse::<Invite>().unwrap_err();
    for shown in [
        format!("{invite:?} {invite:#?} {:?}", invite.key()),
        format!("{cut} {cut:?} {long} {long:?}"),
    ] {
        for hidden in &hidden {
            assert!(!shown.contains(hidden), "{shown} contains {hidden}");
        }
    }
    assert!(format!("{invite:?}").contains(&invite.claims().id().to_string()));
}

#[cfg(target_os = "linux")]
#[test]
fn an_invite_leaves_no_key_in_memory() {
    use crate::rt::crypto::tests::assert_wiped_on_drop;

    let invite = issue("demo", &["a"]).unwrap();
    let key = *invite.key().as_bytes();
    let read: Invite = invite.to_text().parse().unwrap();
    // Nor where the word is put together, which never moves to more memory.
    assert_eq!(invite.encode().capacity(), Invite::MAX_LEN);
    assert_wiped_on_drop(invite, &key);
    assert_wiped_on_drop(read, &key);
}

proptest! {
    #[test]
    fn a_word_is_valid_in_a_url_and_parses_as_printed_in_either_case(
        claims in any_claims(),
        cluster_id in "[^\\p{Cc}]{1,40}",
        seeds in vec("[^\\p{Cc}]{1,40}", 0..=4),
    ) {
        let invite = Invite::issue(&ClusterSecret::generate(), claims, cluster_id, seeds).unwrap();
        let word = invite.to_text();
        prop_assert!(word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        let upper = word.to_uppercase().replace("GOSSIP-INVITE-", "gossip-invite-");
        for text in [&*word, &format!(" {}\n", *word), &upper] {
            prop_assert_eq!(text.parse(), Ok(invite.clone()));
        }
    }

    #[test]
    fn each_word_that_is_accepted_is_the_one_of_its_invite(
        claims in any_claims(),
        seeds in vec("[a-z]{1,3}", 0..=4),
        place: Index,
        byte: u8,
        change in 0..3,
    ) {
        let invite = Invite::issue(&fixed_secret(), claims, "id".to_owned(), seeds).unwrap();
        let mut contents = invite.encode().to_vec();
        let place = place.index(contents.len());
        match change {
            0 => contents[place] = byte,
            1 => drop(contents.remove(place)),
            _ => contents.insert(place, byte),
        }
        let word = word::encode(&contents);
        if let Ok(invite) = word.parse::<Invite>() {
            prop_assert_eq!(invite.to_text(), word);
        }
    }
}
