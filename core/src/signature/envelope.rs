//! Signs statements as a DSSE envelope, v1: <https://github.com/secure-systems-lab/dsse>. The signed bytes
//! include the payload type, so that one kind of payload cannot be mistaken for another.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Algorithm, Signer, of_stream};
use crate::error::Result;

impl Signer {
    /// Returns a payload with its signature. Its digest is always SHA-256, whatever digest the other signatures
    /// use: every reader of envelopes supports it.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn envelope(&self, payload_type: &str, payload: &[u8]) -> Result<Value> {
        let signed = encoding(payload_type, payload);
        let digest = of_stream(Algorithm::Sha256, &mut signed.as_slice())?;
        let mut signature =
            json!({"sig": STANDARD.encode(self.sign_with(Algorithm::Sha256, &digest)?)});
        // A hint for users with several keys: the SHA-256 of the public key, DER.
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

/// The signed bytes: version, type and payload, the latter two with their lengths in bytes ("PAE").
fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_bytes_match_the_specifications_example() {
        let signed = encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
