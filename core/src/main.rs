//! The `build-image` command.
#![forbid(unsafe_code)]

use build_image::installers::Entry;

/// Overwrites all memory that is freed: parsers and clients copy secrets into memory that none of our types owns.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// The installers, in the order in which they examine an ISO. No other file of this crate names one.
static INSTALLERS: [Entry; 2] = [
    Entry { installer: &build_image_bigip::BigIp, rows: build_image_bigip::rows },
    Entry { installer: &build_image_generic::Generic, rows: build_image_generic::rows },
];

fn main() -> std::process::ExitCode {
    build_image::installers::register(&INSTALLERS);
    build_image::cli::main(std::env::args_os())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use build_image::settings::{core_rows, parse_text};

    #[test]
    fn keys_and_flags_are_unique_and_defaults_valid_with_the_rows_of_all_installers() {
        build_image::installers::register(&super::INSTALLERS);
        let rows = core_rows();
        for entry in &super::INSTALLERS {
            for (own, _) in (entry.rows)() {
                assert!(rows.iter().any(|row| row.key() == own.key), "{}", own.key);
            }
        }
        let (mut keys, mut flags) = (BTreeSet::new(), BTreeSet::new());
        for row in &rows {
            assert!(keys.insert(row.key().to_owned()), "{} twice", row.key());
            assert!(row.flag.is_none_or(|flag| flags.insert(flag)), "{:?} twice", row.flag);
            if let Some(default) = &row.setting.default {
                assert!(parse_text(&row.setting, default).is_ok(), "{}", row.key());
            }
        }
    }
}
