//! Resolves the paths of settings: `~/` means the home directory, and relative paths start in the working directory
//! of the command that was typed. Shells expand `~` only at the beginning of a word; configuration files, environment
//! values and `--key=~/x` reach the program unchanged.

use std::path::Path;

/// The value of a path setting that means standard input.
pub(crate) const STDIN: &str = "-";

/// Returns whether the value of a path setting names a file, rather than a URL or standard input.
pub(crate) fn names_file(text: &str) -> bool {
    text != STDIN && !text.contains("://")
}

/// The directories that paths are resolved against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Roots<'a> {
    /// The home directory, if it is known.
    pub(super) home: Option<&'a str>,
    /// Base of relative paths; `None` = the working directory of this process.
    pub(super) base: Option<&'a Path>,
}

impl Roots<'_> {
    /// Replaces a leading `~` or `~/` with the home directory, and makes the path absolute where relative paths have
    /// another base than the working directory. URLs and [`STDIN`] are not changed.
    ///
    /// # Errors
    /// When it names another user's home, or the home directory is unknown; as a fragment.
    pub(super) fn resolve(&self, text: &str) -> Result<String, String> {
        let path = expand_home(text, self.home)?;
        let Some(base) = self.base.filter(|_| names_file(&path)) else { return Ok(path) };
        base.join(&path)
            .into_os_string()
            .into_string()
            .map_err(|path| format!("`{}` is not valid UTF-8", path.display()))
    }
}

fn expand_home(text: &str, home: Option<&str>) -> Result<String, String> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_owned()) };
    if !rest.is_empty() && !rest.starts_with('/') {
        return Err(format!("`{text}` names a user's home directory, only `~/` is understood"));
    }
    let home = home.ok_or_else(|| format!("`{text}` needs the variable HOME, which is not set"))?;
    Ok(format!("{}{rest}", home.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_own_home_is_expanded() {
        for (text, path) in
            [("~/a b", "/home/me/a b"), ("~", "/home/me"), ("a/~/b", "a/~/b"), ("./~x", "./~x")]
        {
            assert_eq!(expand_home(text, Some("/home/me/")).as_deref(), Ok(path));
        }
        assert!(expand_home("~root/x", Some("/home/me")).unwrap_err().contains("`~root/x`"));
        assert!(expand_home("~/x", None).unwrap_err().contains("HOME"));
    }

    #[test]
    fn relative_paths_start_where_the_run_was_started() {
        let base = Some(Path::new("/run"));
        let roots = Roots { home: Some("/home/me"), base };
        for (text, path) in [
            ("a/b", "/run/a/b"),
            ("logs/", "/run/logs/"),
            ("/a", "/a"),
            ("~/a", "/home/me/a"),
            ("https://h/a", "https://h/a"),
        ] {
            assert_eq!(roots.resolve(text).as_deref(), Ok(path));
        }
        assert_eq!(Roots::default().resolve("a").as_deref(), Ok("a"));
    }
}
