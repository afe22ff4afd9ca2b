# Completes command lines of build-image. Made by `build-image completions bash`; make it again after providers were
# installed or removed.

_build_image() {
    local IFS=$'\n' program=$1 current=$2 joined='' word index mode prefix suffixes begun
    local words=() lines=() line
    [[ $program == '~/'* ]] && program=$HOME/${program:2}
    # Readline splits words at `=` and `:`; nothing is evaluated.
    for ((index = 1; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if ((index > 1)) && [[ $word == [=:]* || ($joined == *[=:] && -n $word) ]]; then
            joined+=$word
        else
            ((index > 1)) && words+=("${joined//[\"\'\\]/}")
            joined=$word
        fi
    done
    words+=("${joined//[\"\'\\]/}")
    mapfile -t lines < <(command "$program" @COMMAND@ "${words[@]}" 2>/dev/null <<'BUILD_IMAGE_SETTINGS'
@SETTINGS@
BUILD_IMAGE_SETTINGS
    )
    IFS='|' read -r mode prefix suffixes <<<"${lines[0]}"
    COMPREPLY=()
    case $mode in
    words)
        # In the order that they are offered in. What readline does not replace is left out.
        compopt -o nosort 2>/dev/null
        begun=${joined%"$current"}
        for line in "${lines[@]:1}"; do
            COMPREPLY+=("${line%%$'\t'*}")
        done
        COMPREPLY=("${COMPREPLY[@]#"$begun"}")
        ;;
    files | directories)
        # What readline gives after `=` is the path alone. A quoted or empty result is left to readline itself.
        compopt -o filenames 2>/dev/null
        if [[ $mode == files && -n $suffixes ]]; then
            local extglob=no
            shopt -q extglob && extglob=yes
            shopt -s extglob
            mapfile -t COMPREPLY < <(compgen -f -X "!*.@(${suffixes// /|})" -- "$current")
            [[ $extglob == no ]] && shopt -u extglob
            if ((${#COMPREPLY[@]} > 0)) || [[ -z $current ]]; then
                mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "$current")
            fi
        elif [[ $mode == directories ]]; then
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
        fi
        ((${#COMPREPLY[@]} > 0)) || compopt -o bashdefault -o default 2>/dev/null
        ;;
    esac
}

complete -F _build_image build-image
