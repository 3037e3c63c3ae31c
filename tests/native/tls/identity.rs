//! Certificates, keys and roots that cannot be used, and what the errors say.

use std::path::Path;

use gossip_transport::tcp::{Reloaded, TlsFileError, TlsIdentity, TlsRoots};
use rcgen::date_time_ymd;

use super::certificates::{Ca, Issued};
use crate::support::log::Log;

/// Writes `text` to a file of `folder`, and returns its path.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn each_mistake_in_the_files_has_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, folder) = (Ca::new(), folder.path());
    let (issued, other) = (ca.issue(&["localhost"]), ca.issue(&["localhost"]));
    let certificate = file(folder, "cert.pem", &issued.certificate);
    let key = file(folder, "key.pem", &issued.key);
    TlsIdentity::from_files(&certificate, &key).unwrap();

    let load =
        |certificate: &str, key: &str| TlsIdentity::from_files(certificate, key).unwrap_err();
    let none = folder.join("none.pem").display().to_string();
    let error = load(&none, &key);
    assert!(matches!(error, TlsFileError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains(&none), "{error}");
    let error = load(&certificate, &none);
    assert!(matches!(error, TlsFileError::Unreadable { .. }), "{error}");

    let error = load(&key, &key);
    assert!(
        matches!(&error, TlsFileError::NoCertificate { from } if *from == key),
        "{error}"
    );
    let error = load(&certificate, &certificate);
    assert!(
        matches!(&error, TlsFileError::NoKey { from } if *from == certificate),
        "{error}"
    );

    let others = file(folder, "other.pem", &other.key);
    let error = load(&certificate, &others);
    assert!(matches!(error, TlsFileError::KeyMismatch { .. }), "{error}");

    let chain = [ca.pem.as_str(), &other.certificate, &issued.certificate].concat();
    let chain = file(folder, "chain.pem", &chain);
    let error = load(&chain, &key);
    assert!(
        matches!(error, TlsFileError::ChainOrder { position: 3, .. }),
        "{error}"
    );

    let text = issued.certificate.replace("END CERTIFICATE", "END");
    let cut = file(folder, "cut.pem", &text);
    let error = load(&cut, &key);
    assert!(matches!(error, TlsFileError::Malformed { .. }), "{error}");
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let zeros = file(folder, "zeros.pem", text);
    let error = load(&zeros, &key);
    assert!(matches!(error, TlsFileError::Malformed { .. }), "{error}");
}

#[test]
fn an_encrypted_key_is_refused_in_both_forms_with_the_remedy() {
    let Issued { certificate, key } = Ca::new().issue(&["localhost"]);
    let pkcs8 = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old = key.replace(
        "BEGIN PRIVATE KEY-----\n",
        "BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n",
    );
    let old = old.replace("END PRIVATE", "END RSA PRIVATE");
    for key in [pkcs8, old] {
        let error = TlsIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(
            matches!(error, TlsFileError::EncryptedKey { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("openssl"), "no remedy: {error}");
    }
}

#[test]
fn no_error_quotes_a_key() {
    let Issued { certificate, key } = Ca::new().issue(&["localhost"]);
    let secret: String = key.lines().nth(1).unwrap().chars().take(12).collect();
    let lines: Vec<_> = key.lines().collect();
    for broken in [
        key.replace('\n', " "),
        key.replacen(&secret, &format!("{secret}*"), 1),
        lines[..2].join("\n"),
        key.replace("-----BEGIN", "----BEGIN"),
    ] {
        let loaded = TlsIdentity::from_pem(certificate.as_bytes(), broken.as_bytes());
        let error = loaded.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains(&secret), "{text}");
    }
}

#[test]
fn an_expired_certificate_is_used_with_a_warning() {
    let (ca, log) = (Ca::new(), Log::collect("gossip_transport=warn"));
    let identity = ca.issue_expired(&["localhost"]).identity();
    assert!(log.take().contains("has expired"));
    assert_eq!(identity.expires_at().unwrap().as_secs(), 1_609_459_200);
    ca.issue(&["localhost"]).identity();
    assert_eq!(log.take(), "");
}

#[test]
fn a_certificate_outside_of_its_time_does_not_replace_one_that_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, folder) = (Ca::new(), folder.path());
    let write = |issued: &Issued| {
        let certificate = file(folder, "cert.pem", &issued.certificate);
        (certificate, file(folder, "key.pem", &issued.key))
    };
    let early = ca.issue_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let expired = ca.issue_expired(&["localhost"]);
    let (certificate, key) = write(&ca.issue(&["localhost"]));
    let identity = TlsIdentity::from_files(&certificate, &key).unwrap();
    let (log, expires) = (Log::collect("gossip_transport=warn"), identity.expires_at());
    write(&expired);
    let error = identity.reload().unwrap_err();
    assert!(
        matches!(&error, TlsFileError::Expired { from } if *from == certificate),
        "{error}"
    );
    write(&early);
    let error = identity.reload().unwrap_err();
    assert!(matches!(error, TlsFileError::NotValidYet { .. }), "{error}");
    assert_eq!(
        (identity.expires_at(), log.take()),
        (expires, String::new())
    );
    assert_eq!(identity.reload_failures(), 2);

    // Instead of one that is no better, it is used.
    let (certificate, key) = write(&expired);
    let identity = TlsIdentity::from_files(certificate, key).unwrap();
    write(&early);
    assert_eq!(identity.reload().unwrap(), Reloaded::Replaced);
}

#[test]
fn a_mark_of_utf_8_and_indented_sections_lose_no_certificate() {
    let (ca, other) = (Ca::new(), Ca::named("another CA"));
    let Issued { certificate, key } = ca.issue(&["localhost"]);
    let marked = |text: &str| format!("\u{feff}{text}");
    let (certificate_text, key_text) = (marked(&certificate), marked(&key));
    TlsIdentity::from_pem(certificate_text.as_bytes(), key_text.as_bytes()).unwrap();
    let chain = [marked(&certificate), ca.pem.clone()].concat();
    TlsIdentity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let indented = [format!("  {}", ca.pem), other.pem].concat();
    let error = TlsRoots::from_pem(indented.as_bytes()).unwrap_err();
    assert!(
        matches!(&error, TlsFileError::Malformed { what, .. } if what.contains("indented")),
        "{error}"
    );
}

#[test]
fn roots_need_a_certificate() {
    let error = TlsRoots::from_pem(b"nothing").unwrap_err();
    assert!(
        matches!(error, TlsFileError::NoCertificate { .. }),
        "{error}"
    );
    let error = TlsRoots::from_file("/nowhere/ca.pem").unwrap_err();
    assert!(matches!(error, TlsFileError::Unreadable { .. }), "{error}");
}
