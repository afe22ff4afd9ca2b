//! `~/` at the start of a path. Shells expand it only where it begins a word; configuration files,
//! environment values and `--key=~/x` reach the program as they are written.

/// A path with a leading `~` or `~/` replaced by the home folder.
///
/// # Errors
/// When it names another user's home, or nobody's because there is no home folder; as a fragment.
pub(super) fn expand_home(text: &str, home: Option<&str>) -> Result<String, String> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_owned()) };
    if !rest.is_empty() && !rest.starts_with('/') {
        return Err(format!("`{text}` names a user's home folder, only `~/` is understood"));
    }
    let home = home.ok_or_else(|| format!("`{text}` needs the variable HOME, which is not set"))?;
    Ok(format!("{}{rest}", home.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_home_is_known() {
        for (text, path) in
            [("~/a b", "/home/me/a b"), ("~", "/home/me"), ("a/~/b", "a/~/b"), ("./~x", "./~x")]
        {
            assert_eq!(expand_home(text, Some("/home/me/")).as_deref(), Ok(path));
        }
        assert!(expand_home("~root/x", Some("/home/me")).unwrap_err().contains("`~root/x`"));
        assert!(expand_home("~/x", None).unwrap_err().contains("HOME"));
    }
}
