//! Statements signed as a DSSE envelope, v1: <https://github.com/secure-systems-lab/dsse>. What is signed names the
//! kind of the payload, so that it cannot be taken for another one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Algorithm, Signer, of_stream};
use crate::error::Result;

impl Signer {
    /// A payload with its signature. Its digest is SHA-256 whatever else is signed with: the one that all who read
    /// envelopes know.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn envelope(&self, payload_type: &str, payload: &[u8]) -> Result<Value> {
        let signed = encoding(payload_type, payload);
        let digest = of_stream(Algorithm::Sha256, &mut signed.as_slice())?;
        let mut signature =
            json!({"sig": STANDARD.encode(self.sign_with(Algorithm::Sha256, &digest)?)});
        // A hint for those who have several keys: the SHA-256 of the public key, DER.
        if let Some(der) = self.public_der() {
            let id = of_stream(Algorithm::Sha256, &mut der.as_slice())?;
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            signature["keyid"] = id.into();
        }
        Ok(json!({
            "payloadType": payload_type,
            "payload": STANDARD.encode(payload),
            "signatures": [signature],
        }))
    }
}

/// What is signed: version, kind and payload, the latter two with their lengths, bytes ("PAE").
fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_the_specifications_example() {
        let signed = encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
