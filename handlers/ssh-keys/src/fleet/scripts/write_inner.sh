# With the user's rights. $1 the file; $2, $3 sha256 of what stands there and of what shall, or -; $4 seconds to wait for the
# lock. stdin: base64 of what shall stand there. The last line of what it says counts.
set -u
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin:${PATH-}
export LC_ALL PATH
umask 077
dir=${1%/*} file=${1##*/}
if [ -L "$dir" ]; then echo "odd $dir is a link"; exit; fi
if [ ! -e "$dir" ]; then
    if [ "$2" != - ]; then echo moved; exit; fi
    if [ "$3" = - ]; then echo done; exit; fi
    mkdir -m 700 -- "$dir" || { echo failed; exit; }
fi
if [ ! -d "$dir" ]; then echo "odd $dir is not a directory"; exit; fi
[ -O "$dir" ] || { echo "odd $dir belongs to somebody else"; exit; }
cd -P -- "$dir" || { echo failed; exit; }
# What is done from here on is done to this directory, whatever the name leads to by now.
[ -O . ] || { echo "odd $dir belongs to somebody else"; exit; }
exec 9<. || { echo failed; exit; }
flock -w "$4" 9 || { echo locked; exit; }
for old in .reactor-??????; do
    [ ! -f "$old" ] || rm -f -- "$old"
done
if [ -L "$file" ]; then echo "odd $dir/$file is a link"; exit; fi
if [ "$2" = - ]; then
    if [ -e "$file" ]; then echo moved; exit; fi
else
    if [ ! -e "$file" ]; then echo moved; exit; fi
    if [ ! -f "$file" ]; then echo "odd $dir/$file is not a regular file"; exit; fi
    if [ "$(stat -c %h -- "$file")" != 1 ]; then echo "odd $dir/$file has more than one name (hard links)"; exit; fi
    sha256sum -c --status --strict <<EOF || { echo moved; exit; }
$2  ./$file
EOF
fi
if [ "$3" = - ]; then
    [ "$2" = - ] || rm -f -- "$file" || { echo failed; exit; }
else
    new=$(mktemp .reactor-XXXXXX) || { echo failed; exit; }
    trap 'rm -f -- "$new"' EXIT
    trap 'exit 1' HUP INT TERM PIPE
    base64 -d >"$new" || { echo failed; exit; }
    sha256sum -c --status --strict <<EOF || { echo corrupt; exit; }
$3  ./$new
EOF
    sync -- "$new" || { echo failed; exit; }
    if [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null; then
        restorecon -- "$new" || { echo failed; exit; }
    fi
    mv -f -T -- "$new" "$file" || { echo failed; exit; }
    trap - EXIT
fi
sync . || { echo failed; exit; }
echo done
