//! Defines the macros of the table of settings.

/// Defines a key and a row for each setting: `KEY(heading, kind, summary)`, followed by attributes, which are methods of
/// [`Row`]. Settings that the old tool did not have are `prefixed_only`: another program may use their plain name in
/// the environment.
macro_rules! settings {
    ($($key:ident($group:expr, $kind:ident, $summary:expr)
        $(.$attribute:ident($($value:expr),* $(,)?))*),* $(,)?) => {
        /// The keys of the core's settings.
        pub mod keys {
            use super::Key;
            $(
                #[doc = $summary]
                pub const $key: Key = Key::new(stringify!($key));
            )*
        }

        pub(super) fn table() -> Vec<Row> {
            vec![$(
                Row::new(Setting::new(keys::$key.name(), Kind::$kind, $summary).group($group))
                    $(.$attribute($($value),*))*
            ),*]
        }
    };
}

/// Defines a struct per group: `field: Type = KEY`.
macro_rules! groups {
    ($($(#[$group_doc:meta])* $group:ident: $name:ident {
        $($(#[$doc:meta])* $field:ident: $type:ty = $key:ident),* $(,)?
    })*) => {
        $(
            $(#[$group_doc])*
            #[derive(Clone, Debug, Default)]
            pub struct $name {
                $($(#[$doc])* pub $field: $type),*
            }
        )*

        /// The settings of the core, by group.
        #[derive(Clone, Debug, Default)]
        pub struct CoreSettings {
            $($(#[$group_doc])* pub $group: $name),*
        }

        impl CoreSettings {
            /// Reads them from resolved values.
            pub(super) fn of(settings: &Resolved) -> Self {
                Self {
                    $($group: $name {
                        $($field: read(settings, keys::$key)),*
                    }),*
                }
            }
        }

        /// A field, for tests.
        #[cfg(test)]
        pub(super) struct Field {
            /// Its key.
            pub(super) key: Key,
            /// Whether its row needs no default.
            pub(super) optional: bool,
            /// Whether it takes a value.
            pub(super) takes: fn(&Json) -> bool,
        }

        /// Returns all fields.
        #[cfg(test)]
        pub(super) fn fields() -> Vec<Field> {
            use super::typed::FromSetting;
            vec![$($(Field {
                key: keys::$key,
                optional: <$type>::unset().is_some(),
                takes: |value| <$type>::of(value).is_some(),
            }),*),*]
        }
    };
}

/// Defines an enum of words. The first variant is the default of a setting that has no other default.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            #[default]
            $($(#[$word_doc])* $variant),*
        }

        impl $name {
            /// The words, in the order of the help.
            pub const WORDS: &[&str] = &[$($word),*];
        }

        impl FromSetting for $name {
            fn of(value: &Json) -> Option<Self> {
                match value.as_str()?.to_lowercase().as_str() {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

pub(super) use {choice, groups, settings};
