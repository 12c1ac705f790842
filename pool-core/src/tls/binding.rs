//! Channel binding: what ties a login to the TLS connection under it.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use x509_cert::{
    Certificate,
    der::{
        Decode as _, Reader as _, TagNumber,
        asn1::{AnyRef, ContextSpecific},
        oid::{
            ObjectIdentifier,
            db::rfc5912::{
                ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, ID_RSASSA_PSS,
                ID_SHA_1, ID_SHA_256, ID_SHA_384, ID_SHA_512, MD_5_WITH_RSA_ENCRYPTION,
                SHA_1_WITH_RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION,
                SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
            },
        },
    },
    spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef},
};

/// `ecdsa-with-SHA1` ([RFC 3279, section
/// 2.2.3](https://www.rfc-editor.org/rfc/rfc3279#section-2.2.3)).
const ECDSA_WITH_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");

/// The `tls-server-end-point` of a certificate ([RFC 5929, section
/// 4](https://www.rfc-editor.org/rfc/rfc5929#section-4)): its hash, by the algorithm that it is
/// signed with, but SHA-256 in place of MD5 and SHA-1. `None` where that names no hash, as for
/// Ed25519: there the server has none to compare with either.
pub(crate) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(der).ok()?;
    let hash = hash_of(&certificate.signature_algorithm)?;
    Some(digest(hash, der).as_ref().to_vec())
}

fn hash_of(signature: &AlgorithmIdentifierOwned) -> Option<&'static Algorithm> {
    let named = match signature.oid {
        ID_RSASSA_PSS => pss_hash(signature)?,
        oid => oid,
    };
    Some(match named {
        MD_5_WITH_RSA_ENCRYPTION
        | SHA_1_WITH_RSA_ENCRYPTION
        | SHA_256_WITH_RSA_ENCRYPTION
        | ECDSA_WITH_SHA_1
        | ECDSA_WITH_SHA_256
        | ID_SHA_1
        | ID_SHA_256 => &SHA256,
        SHA_384_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_384 | ID_SHA_384 => &SHA384,
        SHA_512_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_512 | ID_SHA_512 => &SHA512,
        _ => return None,
    })
}

/// RSASSA-PSS names its hash in its parameters; SHA-1 if it does not ([RFC 4055, section
/// 3.1](https://www.rfc-editor.org/rfc/rfc4055#section-3.1)).
fn pss_hash(signature: &AlgorithmIdentifierOwned) -> Option<ObjectIdentifier> {
    let parameters = AnyRef::from(signature.parameters.as_ref()?);
    let hash = parameters.sequence(|reader| {
        let hash =
            ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode_explicit(reader, TagNumber::N0)?;
        reader.read_slice(reader.remaining_len())?;
        Ok(hash)
    });
    Some(hash.ok()?.map_or(ID_SHA_1, |hash| hash.value.oid))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn signed_with(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(["db1".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let der = signed_with(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point(&der).unwrap(), digest(&SHA256, &der).as_ref());
        let der = signed_with(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&der).unwrap(), digest(&SHA384, &der).as_ref());
        assert_eq!(end_point(&signed_with(&rcgen::PKCS_ED25519)), None);
        assert_eq!(end_point(b"no certificate"), None);
    }

    #[test]
    fn weak_hashes_are_replaced_and_those_of_pss_are_found() {
        let plain = |oid| AlgorithmIdentifierOwned {
            oid,
            parameters: None,
        };
        for weak in [
            MD_5_WITH_RSA_ENCRYPTION,
            SHA_1_WITH_RSA_ENCRYPTION,
            ECDSA_WITH_SHA_1,
        ] {
            assert_eq!(hash_of(&plain(weak)), Some(&SHA256), "{weak}");
        }
        assert_eq!(hash_of(&plain(SHA_512_WITH_RSA_ENCRYPTION)), Some(&SHA512));
        // RSASSA-PSS with SHA-384, MGF1 with the same, and 48 bytes of salt.
        let pss = [
            0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30,
            0x34, 0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
            0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
            0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65,
            0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30,
        ];
        let pss = AlgorithmIdentifierOwned::from_der(&pss).unwrap();
        assert_eq!(hash_of(&pss), Some(&SHA384));
        assert_eq!(hash_of(&plain(ID_RSASSA_PSS)), None);
    }
}
