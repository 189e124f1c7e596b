# Ends the login sessions of the users on stdin, one a line. Never root's, never those of who we logged in as.
need getent id pgrep pkill
me=$(id -u)
echo reactor-answer
while read -r name; do
    entry=$(getent passwd "$name") || {
        printf 'unknown %s\n' "$name"
        continue
    }
    IFS=: read -r known _ uid _ <<EOF
$entry
EOF
    [ "$known" = "$name" ] || continue
    if [ "$uid" = 0 ] || [ "$uid" = "$me" ] || [ "$uid" = "${SUDO_UID-}" ]; then
        printf 'spared %s\n' "$name"
        continue
    fi
    if [ -d /run/systemd/system ] && loginctl show-user "$name" >/dev/null 2>&1; then
        loginctl terminate-user "$name" || printf 'left %s\n' "$name"
    fi
    # sshd's own process of each session runs as the user (sshd-session from OpenSSH 9.8 on); what it starts leads a session
    # of its own. (pgrep takes no pattern of more than 15 characters.)
    for pid in $(pgrep -u "$uid" -x 'sshd(-sess.*)?'); do
        for leader in $(pgrep -P "$pid"); do
            pkill -KILL -u "$uid" -s "$leader"
        done
        kill -KILL "$pid" 2>/dev/null || [ ! -e "/proc/$pid" ] || printf 'left %s\n' "$name"
    done
done
echo reactor-end
