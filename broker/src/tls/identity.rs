//! Who a client is, by the certificate that it showed. The TLS handshake has verified it.

use crate::config::ClientIdentity;
use bytestring::ByteString;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The part of the certificate that counts. `None`: it has none.
pub(crate) fn identity_of(certificate: &[u8], wanted: ClientIdentity) -> Option<ByteString> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let text = match wanted {
        ClientIdentity::CommonName => certificate.subject().iter_common_name().next()?.as_str().ok(),
        ClientIdentity::Dns | ClientIdentity::Email | ClientIdentity::Uri => {
            let names = certificate.subject_alternative_name().ok()??;
            names.value.general_names.iter().find_map(|name| match (wanted, name) {
                (ClientIdentity::Dns, GeneralName::DNSName(name))
                | (ClientIdentity::Email, GeneralName::RFC822Name(name))
                | (ClientIdentity::Uri, GeneralName::URI(name)) => Some(*name),
                (_, _) => None,
            })
        }
    };
    // A NUL would end the name for whoever reads it in C.
    text.filter(|text| !text.is_empty() && !text.contains('\0')).map(ByteString::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(common_name: Option<&str>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::OrganizationName, "not this");
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = vec![
                SanType::URI("urn:device:7".try_into().unwrap()),
                SanType::DnsName("seven.example.org".try_into().unwrap()),
                SanType::DnsName("second.example.org".try_into().unwrap()),
                SanType::Rfc822Name("seven@example.org".try_into().unwrap()),
            ];
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_configured_part_of_a_certificate_says_who_it_is() {
        let (named, bare) = (certificate(Some("设备 7")), certificate(None));
        for (wanted, name) in [
            (ClientIdentity::CommonName, "设备 7"),
            (ClientIdentity::Dns, "seven.example.org"),
            (ClientIdentity::Email, "seven@example.org"),
            (ClientIdentity::Uri, "urn:device:7"),
        ] {
            assert_eq!(identity_of(&named, wanted).as_deref(), Some(name));
            assert_eq!(identity_of(&bare, wanted), None, "{wanted:?}");
        }
        assert_eq!(identity_of(&certificate(Some("a\0b")), ClientIdentity::CommonName), None);
        assert_eq!(identity_of(b"no certificate", ClientIdentity::Dns), None);
    }
}
