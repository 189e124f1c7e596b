# $1 the program for each; $2 seconds for each; $3 seconds to wait for a lock; then the pieces of the path.
# stdin: a line for each: NAME, sha256 of what stands there or -, sha256 of what shall stand there or -, base64 of that
# or -; the last line is: end. Says a line for each: NAME BASE64.
inner=$1 seconds=$2 lock=$3 said=4096
shift 3
cd / || exit 107
echo reactor-answer
trap '' PIPE
while read -r name before after content && [ "$name" != end ]; do
    entry=$(getent passwd "$name") || {
        printf '%s %s\n' "$name" bm91c2Vy
        continue
    }
    IFS=: read -r known _ uid gid _ home _ <<EOF
$entry
EOF
    # getent takes digits for a uid.
    if [ "$known" != "$name" ] || ! is_user; then
        printf '%s %s\n' "$name" bm91c2Vy
        continue
    fi
    path_of "$@"
    printf '%s' "$content" | as_user "$path" "$before" "$after" "$lock"
done
echo reactor-end
