//! Generates random names, from the kernel.

use crate::error::{Error, Result, Stage};

/// Returns `count` random characters of an alphabet.
///
/// # Errors
/// When the kernel provides no random bytes.
pub fn characters(alphabet: &[u8], count: usize) -> Result<String> {
    let mut text = String::with_capacity(count);
    // Bytes at or above the largest multiple of the alphabet's length would favour its first characters.
    let limit = 256 - 256 % alphabet.len();
    while text.len() < count {
        let mut bytes = [0; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(
            |error| Error::new(Stage::Bug, "the kernel gives no random bytes").caused_by(&error),
        )?;
        let fair = bytes.iter().map(|&byte| usize::from(byte)).filter(|&byte| byte < limit);
        text.extend(fair.map(|byte| char::from(alphabet[byte % alphabet.len()])));
    }
    text.truncate(count);
    Ok(text)
}

/// Digits and lower-case letters.
pub const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Digits and upper-case letters.
pub const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Hexadecimal digits.
pub const HEX: &[u8] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    #[test]
    fn names_have_the_length_and_alphabet_asked_for() {
        let name = super::characters(super::UPPER, 9).unwrap();
        assert!(name.len() == 9 && name.bytes().all(|byte| super::UPPER.contains(&byte)), "{name}");
        assert_ne!(name, super::characters(super::UPPER, 9).unwrap());
    }
}
