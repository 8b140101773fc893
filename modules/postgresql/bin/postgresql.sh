# Read by this module's scripts: where PostgreSQL's programs and settings are.

program='postgres|postmaster'
. "$SAFEUSERBIN/owned.sh"
log=$SAFEUSERVAR/postgresql.log

# The directory of the programs: those of the data's own version, or, while there are no data, of any.
programs() {
    if [ "$BINDIR" != auto ]; then
        echo "$BINDIR"
        return
    fi
    version=$(head -n 1 "$DATADIR/PG_VERSION" 2>/dev/null)
    for each in /usr/lib/postgresql/${version:-*}/bin /usr/pgsql-${version:-*}/bin /usr/lib/postgresql${version:-*}/bin \
        "$(dirname "$(command -v postgres)" 2>/dev/null)"; do
        if [ -x "$each/postgres" ] && { [ -z "$version" ] || [ "$(major "$each")" = "$version" ]; }; then
            echo "$each"
            return
        fi
    done
}

# 15 of "postgres (PostgreSQL) 15.18", 9.6 of "postgres (PostgreSQL) 9.6.24".
major() {
    "$1/postgres" --version 2>/dev/null | sed -E 's/^[^0-9]*(9\.[0-9]+|[0-9]+).*/\1/'
}

# The directory of postgresql.conf: the data directory itself, or one of /etc/postgresql, as Debian's clusters have it.
settings() {
    if [ "$CONFDIR" != auto ]; then
        echo "$CONFDIR"
    elif [ -e "$DATADIR/postgresql.conf" ]; then
        echo "$DATADIR"
    else
        debian
    fi
}

# The directory of Debian's cluster with these data.
debian() {
    for each in /etc/postgresql/*/*/postgresql.conf; do
        [ -e "$each" ] || continue
        named=$(sed -n "s/^[[:blank:]]*data_directory[[:blank:]]*=*[[:blank:]]*'\(.*\)'.*/\1/p" "$each" | tail -n 1)
        [ "$named" = "$DATADIR" ] && dirname "$each" && return
    done
}

# A word as the shell reads it again: pg_ctl hands the options to one.
quoted() {
    printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
}
