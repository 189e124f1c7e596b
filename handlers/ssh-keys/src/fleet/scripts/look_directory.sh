# A tar stream of files in a directory. $1 the directory; $2 the marker to look for in all other files, or nothing.
# stdin: ./NAME, each ended by NUL. What is not there, tar says on stderr.
need stat tar find grep sort
enter "$1"
echo reactor-answer
archive() {
    exec tar -c -f - --format=gnu --no-recursion --hard-dereference --null --files-from=-
}
[ -n "$2" ] || archive
{
    cat
    # -xtype: sshd follows a link, so keys behind one count; it is told as what it is.
    # 1 of grep is: in none of them. A search that failed asks tar for what can't be there.
    find . ! -name . -prune -xtype f ! -name '.*' -exec sh -c '
        marker=$1
        shift
        grep -l -Z -F -e "$marker" -- "$@"
        [ $? -le 1 ]' sh "$2" {} + || printf './/the-search-failed\0'
} | sort -z -u | archive
