# Read by this module's scripts: where the programs and settings of MariaDB or MySQL are.

program='mariadbd|mysqld'
. "$SAFEUSERBIN/owned.sh"
log=$SAFEUSERVAR/mysql.log

# A program by its names, the first that is there: in BINDIR, or where the systems put them.
program_of() {
    for name in "$@"; do
        if [ "$BINDIR" != auto ]; then
            found=$BINDIR/$name
        else
            found=$(command -v "$name") || found=/usr/libexec/$name
        fi
        [ -x "$found" ] && echo "$found" && return
    done
    return 1
}

# The server; MariaDB's before MySQL's, because the old name is a link to it.
server_program() {
    program_of mariadbd mysqld
}

# Where the settings stand, as an option; it must be the first one.
defaults() {
    [ "$CONFFILE" = auto ] || printf '%s' "--defaults-file=$CONFFILE"
}

# A setting of the option files, empty when they do not name it: setting NAME, with - in it. The server is asked for
# the options that it finds and not for all that hold: for those it would go into the data directory.
setting() {
    options=$(defaults)
    "$(server_program)" ${options:+"$options"} --print-defaults 2>/dev/null | tr ' ' '\n' |
        awk -v wanted="--$1" '{ name = $0; sub(/=.*/, "", name); gsub(/_/, "-", name) }
            name == wanted { found = $0; if (!sub(/^[^=]*=/, "", found)) found = "1" } END { print found }'
}
