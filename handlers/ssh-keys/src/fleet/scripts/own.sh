# Files that are the user's own. All that touches one runs with that user's rights and has a time of its own. What it says
# goes through base64: a user can do anything to processes of its own, but can't put words in another's answer.
need getent setpriv timeout env head base64 stat id
me=$(id -u)

# The path of $name's file from the pieces of the pattern.
path_of() {
    path=
    for piece; do
        case $piece in
        u) path=$path$name ;;
        h) path=$path${home%/} ;;
        *) path=$path${piece#=} ;;
        esac
    done
}

is_user() {
    case $name in '' | [.@+-]* | *[!A-Za-z0-9_.@+-]*) return 1 ;; esac
    case $uid:$gid in :* | *: | *[!0-9:]*) return 1 ;; esac
    case $home in /*) ;; *) return 1 ;; esac
}

# Runs the program $inner with these arguments as $uid. At most $said bytes of what it says are heard.
as_user() {
    printf '%s ' "$name"
    {
        if [ "$me" = 0 ]; then
            timeout -s KILL "$seconds" env -i PATH=/usr/bin:/bin HOME="$home" \
                setpriv --reuid="$uid" --regid="$gid" --init-groups -- sh -c "$inner" sh "$@" 2>&1
        elif [ "$me" = "$uid" ]; then
            timeout -s KILL "$seconds" sh -c "$inner" sh "$@" 2>&1
        else
            echo 'notus'
        fi
    } | timeout -s KILL "$seconds" head -c "$said" | base64 -w 0
    echo
}
