# $1 the program for each; $2 the marker to look for in everybody else's file, or nothing; $3 seconds for each; $4 most
# bytes of a file; then the pieces of the path. stdin: names, one a line. Says a line for each: NAME BASE64.
need xargs tr sort
inner=$1 marker=$2 seconds=$3 bytes=$4
said=$((bytes + 4096))
shift 4
cd / || exit 107
echo reactor-answer
asked=$(tr '\n' ' ')
# 123: some of them are not known here.
found=$(printf '%s' "$asked" | xargs -r getent passwd --)
case $? in 0 | 123) ;; *) exit 116 ;; esac
while IFS=: read -r name _ uid gid _ home _; do
    is_user || continue
    path_of "$@"
    as_user "$path" '' "$bytes" </dev/null
done <<EOF
$found
EOF
[ -n "$marker" ] || { echo reactor-end; exit 0; }

# Whether there is surely nothing at $path: what is above it can be searched, and it is not in there.
is_absent() {
    if [ -e "$path" ] || [ -L "$path" ]; then return 1; fi
    at=$path
    while at=${at%/*}; do
        [ -n "$at" ] || at=/
        if [ -e "$at" ] || [ -L "$at" ]; then
            [ -d "$at" ] && [ -x "$at" ]
            return
        fi
        [ "$at" != / ] || return 1
    done
}

# Not every directory service lists its users: whoever owns a home or gave it its name is asked for too.
homes=/home
for piece; do
    case $piece in
    =*/) homes="$homes ${piece#=}" ;;
    esac
    break
done
others=$(
    getent passwd
    for dir in $homes; do
        for entry in "$dir"/*; do
            [ ! -e "$entry" ] || printf '%s\n' "${entry##*/}"
        done
        [ ! -d "$dir" ] || stat -c %U -- "$dir"/* 2>/dev/null
    done | sort -u | xargs -r -d '\n' getent passwd --
)
while IFS=: read -r name _ uid gid _ home _; do
    is_user || continue
    case " $asked " in *" $name "*) continue ;; esac
    # Without root's rights there is nothing to be done for others.
    [ "$me" = 0 ] || [ "$me" = "$uid" ] || continue
    path_of "$@"
    is_absent || as_user "$path" "$marker" "$bytes" </dev/null
done <<EOF
$(printf '%s\n' "$others" | sort -u)
EOF
echo reactor-end
