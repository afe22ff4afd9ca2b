# Completes command lines of build-image. Made by `build-image completions fish`; make it again after providers were
# installed or removed.

function __build_image_complete
    set -l tokens (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $tokens[1])
    set -l lines (echo '@SETTINGS@' | command $program @COMMAND@ $tokens[2..-1] "$current" 2>/dev/null)
    or return
    set -l mode (string split \t -- $lines[1])
    switch "$mode[1]"
        case words
            test (count $lines) -gt 1; and printf '%s\n' $lines[2..-1]
        case files directories
            set -l begun (string sub -s (math 1 + (string length -- "$mode[2]")) -- "$current")
            set -l found
            if test "$mode[1]" = directories
                set found (__fish_complete_directories "$begun" '')
            else if test -n "$mode[3]"
                set found (__fish_complete_suffix --complete="$begun" .(string split ' ' -- $mode[3]))
            else
                set found (__fish_complete_path "$begun")
            end
            test (count $found) -gt 0; and printf '%s\n' "$mode[2]"$found
    end
end

complete -c build-image -e
complete -c build-image -f -a '(__build_image_complete)'
