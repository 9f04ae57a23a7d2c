//! Subjects with more than one organization. rcgen keeps one value a type of attribute, Kubernetes
//! reads each organization as a group of the user's.

use kayak_core::pki::CertificateSpec;
use rcgen::{KeyPair, SigningKey as _};
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, DERWriter};

/// Where RFC 5280, section 4.1 has the subject: after version, serial number, signature, issuer, validity.
const SUBJECT: usize = 5;
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];

/// Gives a certificate the subject that was asked for, and signs it anew.
pub(super) fn replace(
    certificate: &[u8],
    spec: &CertificateSpec,
    signer: &KeyPair,
) -> Result<Vec<u8>, rcgen::Error> {
    let (mut fields, algorithm) =
        yasna::parse_der(certificate, parts).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
    fields[SUBJECT] = yasna::construct_der(|writer| name(writer, spec));
    let body = yasna::construct_der(|writer| sequence(writer, &fields));
    let signature = signer.sign(&body)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

/// The fields of what is signed, and how it is signed.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method is for one lifetime, and any is asked for"
)]
fn parts(reader: BERReader<'_, '_>) -> ASN1Result<(Vec<Vec<u8>>, Vec<u8>)> {
    reader.read_sequence(|reader| {
        let mut fields = Vec::new();
        reader.next().read_sequence(|reader| {
            while let Some(field) = reader.read_optional(|reader| reader.read_der())? {
                fields.push(field);
            }
            Ok(())
        })?;
        if fields.len() <= SUBJECT {
            return Err(ASN1Error::new(ASN1ErrorKind::Eof));
        }
        let algorithm = reader.next().read_der()?;
        reader.next().read_bitvec_bytes()?;
        Ok((fields, algorithm))
    })
}

fn sequence(writer: DERWriter<'_>, fields: &[Vec<u8>]) {
    writer.write_sequence(|writer| {
        for field in fields {
            writer.next().write_der(field);
        }
    });
}

fn name(writer: DERWriter<'_>, spec: &CertificateSpec) {
    let organizations = spec.organizations.iter().map(|organization| (ORGANIZATION, organization));
    writer.write_sequence(|writer| {
        for (kind, value) in std::iter::once((COMMON_NAME, &spec.common_name)).chain(organizations) {
            writer.next().write_set(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(kind));
                    writer.next().write_utf8_string(value);
                });
            });
        }
    });
}
