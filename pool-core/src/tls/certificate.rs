//! What a server's certificate says of itself. It is read for names, issuer and dates only: what
//! it proves is the verifier's affair.

use std::net::IpAddr;

use tokio_rustls::rustls::pki_types::ServerName;
use x509_cert::{
    Certificate, Version,
    der::{Decode as _, oid::db::rfc4519::CN},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::error::shown;

/// The parts of a certificate that errors tell, and that libpq's comparison of names needs.
pub(super) struct Described {
    certificate: Certificate,
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Described {
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        // Without this extension the names are empty; with a broken one the certificate is.
        let names = certificate.tbs_certificate.get::<SubjectAltName>().ok()?;
        for name in names.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(name) => dns_names.push(name.to_string()),
                GeneralName::IpAddress(octets) => addresses.extend(address(octets.as_bytes())),
                _ => {}
            }
        }
        Some(Self {
            certificate,
            dns_names,
            addresses,
        })
    }

    /// Every name that it has, for an error.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.dns_names.iter().map(|name| shown(name)).collect();
        names.extend(self.addresses.iter().map(ToString::to_string));
        if names.is_empty() {
            names.extend(self.common_name().map(shown));
        }
        names
    }

    pub(super) fn issuer(&self) -> String {
        shown(&self.certificate.tbs_certificate.issuer.to_string())
    }

    pub(super) fn is_self_issued(&self) -> bool {
        let inner = &self.certificate.tbs_certificate;
        inner.issuer == inner.subject
    }

    /// Whether it is of version 3, the one with extensions.
    pub(super) fn is_current(&self) -> bool {
        self.certificate.tbs_certificate.version == Version::V3
    }

    /// From when to when it is valid, in seconds since 1970.
    pub(super) fn validity(&self) -> (u64, u64) {
        let validity = &self.certificate.tbs_certificate.validity;
        let seconds = |time: x509_cert::time::Time| time.to_date_time().unix_duration().as_secs();
        (seconds(validity.not_before), seconds(validity.not_after))
    }

    /// Whether the subject's common name is the host. It counts where the certificate has no other
    /// name of the host's kind, as it does for libpq ([PostgreSQL documentation, section
    /// 34.19.1](https://www.postgresql.org/docs/current/libpq-ssl.html#LIBQ-SSL-CERTIFICATES)).
    pub(super) fn is_for_by_common_name(&self, host: &ServerName<'_>) -> bool {
        let has_other = match host {
            ServerName::IpAddress(_) => !self.addresses.is_empty(),
            _ => !self.dns_names.is_empty(),
        };
        let Some(name) = self.common_name().filter(|_| !has_other) else {
            return false;
        };
        match host {
            ServerName::IpAddress(address) => {
                name.parse::<IpAddr>().ok() == Some(IpAddr::from(*address))
            }
            host => is_same_name(name, &host.to_str()),
        }
    }

    fn common_name(&self) -> Option<&str> {
        let subject = &self.certificate.tbs_certificate.subject;
        let mut attributes = subject.0.iter().flat_map(|part| part.0.iter());
        let name = attributes.find(|attribute| attribute.oid == CN)?;
        // UTF8String, PrintableString or IA5String: all three are UTF-8.
        std::str::from_utf8(name.value.value()).ok()
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// `*.` stands for one whole label, the first one.
fn is_same_name(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match pattern.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(label, domain)| !label.is_empty() && domain.eq_ignore_ascii_case(rest)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn described(names: &[&str], common_name: &str) -> Described {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        Described::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn the_common_name_counts_where_there_is_no_other_of_its_kind() {
        let host = |name: &'static str| ServerName::try_from(name).unwrap();
        let cases = [
            (&[][..], "db1", "db1", true),
            (&[], "DB1.example", "db1.EXAMPLE.", true),
            (&[], "*.example", "db1.example", true),
            (&[], "*.example", "a.db1.example", false),
            (&[], "*.example", "example", false),
            (&[], "*", "db1", false),
            (&[], "db*.example", "db1.example", false),
            (&["db2"], "db1", "db1", false),
            (&["10.0.0.1"], "db1", "db1", true),
            (&[], "10.0.0.1", "10.0.0.1", true),
            (&["db1"], "10.0.0.1", "10.0.0.1", true),
            (&["10.0.0.2"], "10.0.0.1", "10.0.0.1", false),
            (&[], "*.0.0.1", "10.0.0.1", false),
        ];
        for (names, common_name, name, is_for) in cases {
            let described = described(names, common_name);
            assert_eq!(
                described.is_for_by_common_name(&host(name)),
                is_for,
                "{names:?} {common_name} {name}"
            );
        }
    }

    #[test]
    fn all_names_are_told() {
        let names = described(&["db1", "*.example", "10.0.0.1", "::1"], "x").names();
        assert_eq!(names, ["db1", "*.example", "10.0.0.1", "::1"]);
        assert_eq!(described(&[], "x\ny").names(), ["x?y"]);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["db1".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        for at in 0..der.len() {
            let mut broken = der.clone();
            broken[at] ^= 0x81;
            for bytes in [&broken[..], &der[..at]] {
                if let Some(described) = Described::read(bytes) {
                    let _ = (described.names(), described.issuer(), described.validity());
                }
                let _ = super::super::end_point(bytes);
            }
        }
    }
}
