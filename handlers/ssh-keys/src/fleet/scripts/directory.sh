# Goes to the directory $1, and makes sure that nobody but root and ourselves can put something else there, neither in it
# nor in place of one of those above it (sshd's StrictModes asks the same).
enter() {
    cd -P -- "$1" 2>/dev/null || {
        if [ -d "$1" ]; then exit 103; elif [ -e "$1" ]; then exit 104; else exit 102; fi
    }
    { [ -r . ] && [ -x . ]; } || exit 103
    set --
    above=$PWD
    while [ -n "$above" ]; do
        set -- "$above" "$@"
        above=${above%/*}
    done
    modes=$(stat -c '%u %a %n' -- / "$@") || exit 107
    while read -r uid mode path; do
        [ "$uid" = 0 ] || [ -O "$path" ] || { printf '%s' "$path" >&2; exit 105; }
        case $mode in
        *[2367]? | *[2367])
            case $mode in
            # Sticky, like /tmp: others may add to it but can't replace what is not theirs.
            [1357]???) [ "$path" != "$PWD" ] || { printf '%s' "$path" >&2; exit 106; } ;;
            *) printf '%s' "$path" >&2; exit 106 ;;
            esac ;;
        esac
        checked=$path
    done <<EOF || exit 107
$modes
EOF
    # Some shells keep such a text in a file: on a full disk nothing was read, and so nothing checked.
    [ "${checked-}" = "$PWD" ] || exit 107
}
