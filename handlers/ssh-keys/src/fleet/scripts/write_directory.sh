# Makes files in a directory stand there, each whole or not at all. $1 the directory; $2 seconds to wait for its lock.
# stdin: a tar stream of .reactor-new/: new/NAME; absent, present, gone: names, one a line; sums: of what must stand there
# before, and of what is new. sums comes last: a stream that was cut has none.
need stat tar flock sha256sum sync mv rm xargs
enter "$1"
echo reactor-answer
exec 9<. || exit 107
flock -w "$2" 9 || exit 108
own=.reactor-new
if [ -e "$own" ] || [ -L "$own" ]; then
    rm -rf -- "$own" || exit 109
fi
trap 'rm -rf -- "$own"' EXIT
trap 'exit 110' HUP INT TERM PIPE
# It makes $own.
tar -x -f - -p -m --no-same-owner || exit 111
[ -f "$own/sums" ] || exit 112
moved=
while read -r name; do
    if [ -e "$name" ] || [ -L "$name" ]; then
        moved=1
        printf 'moved %s\n' "$name"
    fi
done <"$own/absent"
while read -r name; do
    if [ -L "$name" ] || [ ! -f "$name" ]; then
        moved=1
        printf 'moved %s\n' "$name"
    fi
done <"$own/present"
[ -z "$moved" ] || exit 113
sha256sum -c --quiet --strict -- "$own/sums" || exit 113
set -- "$own"/new/*
[ -e "$1" ] || set --
selinux=
if [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null; then
    selinux=1
fi
if [ $# -gt 0 ]; then
    # Many files: one flush of the file system is much quicker than one a file.
    if [ $# -le 32 ]; then sync -- "$@"; else sync -f -- "$own"; fi || exit 114
    [ -z "$selinux" ] || restorecon -R -- "$own" || exit 115
    mv -f -t . -- "$@"
fi
if [ -s "$own/gone" ]; then
    xargs -d '\n' rm -f -- <"$own/gone"
fi
sync . || exit 114
for file in "$own"/new/*; do
    [ ! -e "$file" ] || printf 'left %s\n' "${file##*/}"
done
while read -r name; do
    if [ -e "$name" ] || [ -L "$name" ]; then printf 'left %s\n' "$name"; fi
done <"$own/gone"
echo reactor-end
