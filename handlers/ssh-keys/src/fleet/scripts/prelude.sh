# What every program begins with. POSIX sh (dash); values come as arguments or on stdin, never in the text.
# Lines that begin with # are not sent. Exit codes from 101 on are read by trouble.rs.
set -u
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin:${PATH-}
export LC_ALL PATH
umask 077
need() {
    for program; do
        command -v "$program" >/dev/null 2>&1 || { printf '%s' "$program" >&2; exit 101; }
    done
}
