//! Converts product versions to their eight-digit number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The first four components of a dotted version, two digits each: 14.1.0.3 → 14010003.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(u32);

impl Version {
    /// The oldest version that can be installed. Before it, the disk's files were relabelled by replacing the
    /// start script of the installed system; later versions relabel by themselves.
    pub const OLDEST: Self = Self::of(14_010_000);

    /// Creates a version from a number such as 14010003.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        Self(number)
    }

    /// Parses a dotted version. Missing components are zero, further ones are ignored.
    ///
    /// # Errors
    /// When a component is not a number below 100.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut number = 0;
        let mut components = text.split('.');
        for _ in 0..4 {
            let component = components.next().unwrap_or("0");
            let value: u32 = component.parse().map_err(|_| wrong(text))?;
            if value > 99 {
                return Err(wrong(text));
            }
            number = number * 100 + value;
        }
        Ok(Self(number))
    }
}

fn wrong(text: &str) -> String {
    format!("`{text}` is not a version of up to four numbers below 100")
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_eight_digits() {
        for (text, number) in [
            ("14.0.0", "14000000"),
            ("13.1.0.2", "13010002"),
            ("14.1.0.3", "14010003"),
            ("16.1.2.10", "16010210"),
            ("12.1.1.1.1.1.1.2", "12010101"),
            ("15.08.09", "15080900"),
        ] {
            assert_eq!(Version::parse(text).unwrap().to_string(), number);
        }
        for text in ["", "15.x", "15.100", "15..1"] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
    }
}
