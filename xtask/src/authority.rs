//! A certificate authority that is made for one run, and the certificates that it issues.
//!
//! Its key is never written to a file, and it vouches for the names of the run only. So nobody can do harm with it to a
//! browser that trusts it.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};

/// How far from now the time is from which certificates are valid, for clocks that differ, and until which they are.
const SINCE: Duration = Duration::from_secs(60 * 60);
const FOR: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// The name of the authority, by which users find it in the list of a browser.
pub(crate) const NAME: &str = "gossip-transport, made for one run";

/// An authority.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    names: Vec<String>,
    /// The file of its own certificate.
    pub(crate) file: PathBuf,
}

/// The files of a certificate.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The certificate, followed by the key.
    pub(crate) both: PathBuf,
}

impl Files {
    /// Returns the files of the certificate in `folder`.
    pub(crate) fn of(folder: &Path) -> Self {
        Self {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            both: folder.join("both.pem"),
        }
    }
}

impl Authority {
    /// Makes an authority for `names`, each a name or an IP address. Its certificate is written to `folder`.
    pub(crate) fn make(folder: &Path, names: &[&str]) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        set_validity(&mut params)?;
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.iter().map(|name| only(name)).collect(),
            excluded_subtrees: Vec::new(),
        });
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let file = folder.join("authority.pem");
        std::fs::write(&file, issuer.pem())
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self {
            issuer,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            file,
        })
    }

    /// Issues a certificate for all names of the authority, and writes it with its key to `folder`, in the place of the one
    /// before.
    pub(crate) fn issue(&self, folder: &Path) -> anyhow::Result<Files> {
        let mut params = CertificateParams::new(self.names.clone())?;
        set_validity(&mut params)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        let files = Files::of(folder);
        write_private(&files.certificate, &certificate)?;
        write_private(&files.key, &key)?;
        write_private(&files.both, &format!("{certificate}{key}"))?;
        Ok(files)
    }
}

fn set_validity(params: &mut CertificateParams) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(SINCE);
    params.not_after = epoch + now + FOR;
    Ok(())
}

/// Returns the part of all names that consists of one name or address.
fn only(name: &str) -> GeneralSubtree {
    match name.parse::<IpAddr>() {
        Ok(ip) => {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, bits))
        }
        Err(_) => GeneralSubtree::DnsName(name.to_owned()),
    }
}

/// Writes a file that only this user can read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_certificate_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::make(folder.path(), &["localhost", "127.0.0.1"]).unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let first = read(&authority.issue(folder.path()).unwrap().both);
        let files = authority.issue(folder.path()).unwrap();
        assert_ne!(read(&files.both), first);
        let parts = [read(&files.certificate), read(&files.key)];
        assert_eq!(read(&files.both), parts.concat());
        for other in std::fs::read_dir(folder.path()).unwrap() {
            let text = read(&other.unwrap().path());
            assert!(!text.contains(&authority.issuer.key().serialize_pem()));
        }
    }
}
