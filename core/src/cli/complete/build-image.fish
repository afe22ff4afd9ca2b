# Completes command lines of build-image. Made by `build-image completions fish`; make it again after providers were
# installed or removed.

function __build_image_complete
    set -l tokens (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $tokens[1])
    set -l lines (echo '@SETTINGS@' | command $program @COMMAND@ $tokens[2..-1] "$current" 2>/dev/null)
    or return
    set -l mode (string split '|' -- $lines[1])
    switch "$mode[1]"
        case words
            test (count $lines) -gt 1; and printf '%s\n' $lines[2..-1]
        case files directories
            set -l begun (string sub -s (math 1 + (string length -- "$mode[2]")) -- "$current")
            # The files that fish would offer for another command; nothing in the word is run.
            set -l found (complete -C "'' $begun" | string replace -r '\t.*' '')
            set -l directories (string match -r -- '^.*/$' $found)
            if test "$mode[1]" = directories
                set found $directories
            else if test -n "$mode[3]"
                set -l fitting (string match -r -- '^.*\.(?:'(string replace -a ' ' '|' -- $mode[3])')$' $found)
                test (count $fitting $directories) -gt 0; and set found $fitting $directories
            end
            test (count $found) -gt 0; and printf '%s\n' "$mode[2]"$found
    end
end

complete -c build-image -e
complete -c build-image -f -a '(__build_image_complete)'
