//! Defines members that are words: typed for authors, open for words of later versions, and plain strings on the
//! wire.

use serde::{Deserialize, Serialize};

/// Defines an enum whose values travel as words. A word that this version does not know is kept unchanged, so that
/// documents of a newer version are neither refused nor altered.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $(#[$first_about:meta])* $first:ident = $first_word:literal,
        $($(#[$variant_about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        #[non_exhaustive]
        pub enum $name {
            $(#[$first_about])*
            #[default]
            $first,
            $($(#[$variant_about])* $variant,)+
            /// A word of a later version. Use `From` to create values: it finds the variant of a known word.
            Other(String),
        }

        impl $name {
            /// Returns the word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $first_word => Self::$first,
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                Self::from(word.as_str())
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[cfg(feature = "schemas")]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                String::schema_name()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                String::json_schema(generator)
            }
        }
    };
}

words! {
    /// Variant of an image format that has several.
    DiskVariant {
        /// The format's default; the word is empty.
        FormatDefault = "",
        /// VHD: all bytes of the disk, then a footer.
        Fixed = "fixed",
        /// VHD: only blocks with data.
        Dynamic = "dynamic",
        /// VMDK: compressed, to be read from start to end.
        StreamOptimized = "stream_optimized",
        /// qcow2: version 2 of the file format (`compat=0.10`).
        V2 = "v2",
    }
}

words! {
    /// Processor architecture of a guest.
    Architecture {
        /// Not known; the word is empty.
        Unknown = "",
        /// 64-bit x86.
        X86_64 = "x86_64",
        /// 64-bit Arm.
        Aarch64 = "aarch64",
    }
}

words! {
    /// Firmware that boots a guest.
    BootMode {
        /// Not known; the word is empty.
        Unknown = "",
        /// BIOS.
        Bios = "bios",
        /// UEFI.
        Uefi = "uefi",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_later_versions_survive_a_round_trip_and_known_ones_are_typed() {
        for (word, typed) in [
            ("", DiskVariant::FormatDefault),
            ("v2", DiskVariant::V2),
            ("v9", DiskVariant::Other("v9".into())),
        ] {
            let text = format!("\"{word}\"");
            let read: DiskVariant = serde_json::from_str(&text).unwrap();
            assert_eq!((&read, read.as_str()), (&typed, word));
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        assert_eq!(BootMode::from("uefi"), BootMode::Uefi);
        assert_eq!(Architecture::from("riscv64").to_string(), "riscv64");
    }
}
