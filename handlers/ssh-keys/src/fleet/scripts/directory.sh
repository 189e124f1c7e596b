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
        open=
        case $mode in
        *[2367]) open=1 ;;
        # What a plain user makes may be the own group's too (umask 002). Where root writes sshd reads, and refuses that.
        *[2367]?) [ "$(id -u)" != 0 ] && [ -G "$path" ] || open=1 ;;
        esac
        case $open$mode in
        # Sticky, like /tmp: others may add to it but can't replace what is not theirs.
        1[1357]???) [ "$path" != "$PWD" ] || { printf '%s' "$path" >&2; exit 106; } ;;
        1*) [ -z "$open" ] || { printf '%s' "$path" >&2; exit 106; } ;;
        esac
        checked=$path
    done <<EOF || exit 107
$modes
EOF
    # Some shells keep such a text in a file: on a full disk nothing was read, and so nothing checked.
    [ "${checked-}" = "$PWD" ] || exit 107
}
