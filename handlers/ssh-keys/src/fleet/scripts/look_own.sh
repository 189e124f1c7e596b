# $1 the program for each; $2 nothing, or a marker: only files with it; $3 seconds for each; $4 most bytes of a file; then
# the pieces of the path. stdin: names, one a line. Says a line for each that is known here: NAME BASE64.
need xargs
inner=$1 marker=$2 seconds=$3 bytes=$4
said=$((bytes + 4096))
shift 4
cd / || exit 107
echo reactor-answer
# 123: some of them are not known here.
found=$(xargs -r getent passwd --)
case $? in 0 | 123) ;; *) exit 116 ;; esac
while IFS=: read -r name _ uid gid _ home _; do
    is_user || continue
    path_of "$@"
    as_user "$path" "$marker" "$bytes" </dev/null
done <<EOF || exit 107
$found
EOF
echo reactor-end
