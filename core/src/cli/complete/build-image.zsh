#compdef build-image
# Completes command lines of build-image. Made by `build-image completions zsh`; make it again after providers were
# installed or removed.

_build-image() {
    local -a lines values shown
    local mode prefix suffixes line begun=${(Q)PREFIX}
    lines=("${(@f)$(command "${(Q)words[1]/#\~\//$HOME/}" @COMMAND@ "${(@Q)words[2,CURRENT-1]}" "$begun" 2>/dev/null <<'BUILD_IMAGE_SETTINGS'
@SETTINGS@
BUILD_IMAGE_SETTINGS
)}")
    IFS='|' read -r mode prefix suffixes <<<"${lines[1]}"
    case $mode in
    words)
        for line in "${(@)lines[2,-1]}"; do
            [[ -n $line ]] || continue
            values+=("${line%%$'\t'*}")
            shown+=("${(r:32:)line%%$'\t'*}${${line#*$'\t'}:+ -- ${line#*$'\t'}}")
        done
        (( $#values )) && compadd -l -V values -d shown -a -- values
        ;;
    files)
        [[ -n $prefix ]] && compset -P '*='
        if [[ -n $suffixes ]]; then
            _files -g "*.(${suffixes// /|})(-.)"
        else
            _files
        fi
        ;;
    directories)
        [[ -n $prefix ]] && compset -P '*='
        _files -/
        ;;
    esac
}

# Loaded from a directory in fpath, this file is the function, and replaces itself by the one above.
if [[ $funcstack[1] == _build-image ]]; then
    _build-image "$@"
else
    compdef _build-image build-image
fi
