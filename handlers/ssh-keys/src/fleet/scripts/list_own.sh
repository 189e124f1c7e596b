# Who may have a file of the user's own: names, one a line. The pieces of the path are the arguments. Only looks whether
# something is there; nothing is read.
need xargs sort
cd / || exit 107
echo reactor-answer

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
case ${1-} in =*/) homes="$homes
${1#=}" ;; esac
listed=$(getent passwd) || exit 116
others=$(
    printf '%s\n' "$homes" | while read -r dir; do
        [ -d "$dir" ] || continue
        for entry in "$dir"/*; do
            [ ! -e "$entry" ] || printf '%s\n' "${entry##*/}"
        done
        stat -c %U -- "$dir"/* 2>/dev/null
    done | sort -u | xargs -r -d '\n' getent passwd --
)
while IFS=: read -r name _ uid gid _ home _; do
    is_user || continue
    # Without root's rights there is nothing to be done for others.
    [ "$me" = 0 ] || [ "$me" = "$uid" ] || continue
    path_of "$@"
    is_absent || printf '%s\n' "$name"
done <<EOF || exit 107
$(printf '%s\n' "$listed" "$others" | sort -u)
EOF
echo reactor-end
