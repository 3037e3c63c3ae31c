//! The names for which a certificate is ordered.
//!
//! No name is resolved here. Invariant: a name has one form, so equal names are equal values.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use instant_acme::Identifier;

/// The longest DNS name, in characters (RFC 1035, section 3.1).
const MAX_LEN: usize = 253;
/// The longest label of a DNS name, in characters.
const MAX_LABEL_LEN: usize = 63;
/// The most characters of a name that an error shows.
const MAX_SHOWN: usize = 100;

/// A DNS name or an IP address for which a certificate is ordered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcmeName(Kind);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    /// In lower case.
    Dns(String),
    Ip(IpAddr),
}

/// The error of a text for which no certificate can be ordered in the way of this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} {reason}")]
pub struct AcmeNameError {
    /// The text, at most its first 100 characters.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl AcmeName {
    /// Returns the address if the name is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0 {
            Kind::Ip(ip) => Some(ip),
            Kind::Dns(_) => None,
        }
    }

    /// Returns the name as the authority wants it.
    pub(super) fn identifier(&self) -> Identifier {
        match &self.0 {
            Kind::Dns(name) => Identifier::Dns(name.clone()),
            Kind::Ip(ip) => Identifier::Ip(*ip),
        }
    }

    /// Returns what the authority names in the handshake by which it validates this name (RFC 8737, section 3, and RFC 8738,
    /// section 6).
    pub(super) fn in_handshake(&self) -> String {
        match &self.0 {
            Kind::Dns(name) => name.clone(),
            Kind::Ip(IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Kind::Ip(IpAddr::V6(ip)) => {
                let octets = ip.octets();
                let octets = octets.iter().rev();
                let nibbles = octets.map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4));
                nibbles.collect::<String>() + "ip6.arpa"
            }
        }
    }
}

impl FromStr for AcmeName {
    type Err = AcmeNameError;

    fn from_str(text: &str) -> Result<Self, AcmeNameError> {
        let error = |reason| AcmeNameError {
            name: text.chars().take(MAX_SHOWN).collect(),
            reason,
        };
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
            let ip = ip.to_canonical();
            if ip.is_unspecified() || ip.is_multicast() {
                return Err(error("is an address of no single machine"));
            }
            return Ok(Self(Kind::Ip(ip)));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let reason = match &*name {
            "" => "is empty",
            name if name.starts_with("*.") => {
                "is a wildcard, which TLS-ALPN-01 cannot prove: name each host"
            }
            name if !name.is_ascii() => "is not ASCII: write it in its form with xn--",
            name if name.len() > MAX_LEN => "is longer than 253 characters",
            name if !name.split('.').all(is_label) => {
                "must be a DNS name or an IP address, without a scheme, port or path"
            }
            name if name.ends_with(|c: char| c.is_ascii_digit())
                && name.rsplit('.').next().is_some_and(is_number) =>
            {
                "is neither an IP address nor a DNS name"
            }
            _ => return Ok(Self(Kind::Dns(name))),
        };
        Err(error(reason))
    }
}

fn is_label(label: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=MAX_LABEL_LEN).contains(&label.len())
        && label.chars().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_number(label: &str) -> bool {
    label.chars().all(|c| c.is_ascii_digit())
}

impl fmt::Display for AcmeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Dns(name) => f.write_str(name),
            Kind::Ip(ip) => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form_and_another_in_the_handshake() {
        for (text, shown, in_handshake) in [
            ("Node.Example", "node.example", "node.example"),
            ("node.example.", "node.example", "node.example"),
            (
                "xn--bcher-kva.example",
                "xn--bcher-kva.example",
                "xn--bcher-kva.example",
            ),
            ("192.0.2.17", "192.0.2.17", "17.2.0.192.in-addr.arpa"),
            ("::ffff:192.0.2.17", "192.0.2.17", "17.2.0.192.in-addr.arpa"),
            (
                "[2001:DB8::ab]",
                "2001:db8::ab",
                // The example of RFC 8738 has this form.
                "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            let name: AcmeName = text.parse().unwrap();
            assert_eq!(
                (name.to_string(), name.in_handshake()),
                (shown.into(), in_handshake.into())
            );
        }
    }

    #[test]
    fn what_no_certificate_can_be_ordered_for_is_refused_with_a_reason() {
        let long = "a.".repeat(130);
        for (text, reason) in [
            ("", "empty"),
            ("*.example", "wildcard"),
            ("bücher.example", "xn--"),
            (&*long, "253"),
            ("https://node.example", "without a scheme"),
            ("node.example:443", "port"),
            ("node..example", "DNS name"),
            ("-a.example", "DNS name"),
            ("a_b.example", "DNS name"),
            ("192.0.2", "neither"),
            ("0.0.0.0", "no single machine"),
            ("ff02::1", "no single machine"),
        ] {
            let error = text.parse::<AcmeName>().unwrap_err();
            assert!(error.reason.contains(reason), "{error}");
        }
    }
}
