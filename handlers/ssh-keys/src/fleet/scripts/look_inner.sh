# With the user's rights. $1 the file; $2 a marker: say nothing of a file without it; $3 most bytes.
set -u
LC_ALL=C
PATH=/usr/bin:/bin:${PATH-}
export LC_ALL PATH
file=$1 dir=${1%/*}
if [ -n "$2" ]; then
    # Through links, as sshd reads it.
    if [ ! -f "$file" ] || ! head -c "$3" -- "$file" 2>/dev/null | grep -q -F -e "$2"; then
        echo nothing
        exit 0
    fi
fi
if [ -L "$dir" ]; then
    echo "odd $dir is a link"
elif [ ! -e "$dir" ]; then
    at=$dir
    while [ -n "$at" ] && [ ! -e "$at" ] && [ ! -L "$at" ]; do at=${at%/*}; done
    if [ -d "${at:-/}" ] && [ -x "${at:-/}" ]; then echo absent; else echo "odd ${at:-/} can't be searched"; fi
elif [ ! -d "$dir" ]; then
    echo "odd $dir is not a directory"
elif [ ! -O "$dir" ]; then
    echo "odd $dir belongs to somebody else"
elif [ ! -x "$dir" ]; then
    echo "odd $dir can't be searched by its owner"
elif [ -L "$file" ]; then
    echo "odd $file is a link"
elif [ ! -e "$file" ]; then
    echo absent
elif [ ! -f "$file" ]; then
    echo "odd $file is not a regular file"
elif [ ! -r "$file" ]; then
    echo "odd $file can't be read by its owner"
elif [ "$(stat -c %h -- "$file")" != 1 ]; then
    echo "odd $file has more than one name (hard links)"
else
    echo file
    # Without the dot at its end it was cut short.
    head -c "$3" -- "$file" && echo .
fi
