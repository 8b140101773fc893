# Read by this module's scripts: where Firebird's programs and settings are, and which of its processes are the module's.

program='firebird'
. "$SAFEUSERBIN/owned.sh"
log=$SAFEUSERVAR/firebird.log
root=$RUNDIR/root # what Firebird takes for its installation: that of this server, with settings of the module
lock=$RUNDIR/lock # the files that its processes share

# Firebird works in /tmp, wherever it was started. It holds files in a directory that is the module's alone.
owned() {
    find /proc/[0-9]*/exe -prune -printf '%p %l\n' 2>/dev/null |
        grep -E "/($program)( \(deleted\))?\$" | cut -d / -f 3 |
        while read -r id; do
            [ -z "$(find "/proc/$id/fd" -lname "$lock/*" -print -quit 2>/dev/null)" ] || echo "$id"
        done
}

# The directory of Firebird's installation, with firebird.conf.
installation() {
    for each in "$ROOTDIR" /usr/lib/*/firebird/*/ /opt/firebird/; do
        [ -r "$each/firebird.conf" ] && echo "${each%/}" && return
    done
    return 1
}

# A program by its names, the first that is there: Debian has some under names of its own.
program_of() {
    for name in "$@"; do
        for each in "$(installation)/bin" /usr/sbin /usr/bin; do
            [ -x "$each/$name" ] && echo "$each/$name" && return
        done
    done
    return 1
}

# The databases with the users: one within DATADIR, or else that of the installation.
users_within() {
    find "$DATADIR" -maxdepth 2 -name 'security[0-9].fdb' -print -quit 2>/dev/null
}
users_installed() {
    for each in /var/lib/firebird/*/system/security[0-9].fdb "$(installation)"/security[0-9].fdb; do
        [ -r "$each" ] && echo "$each" && return
    done
    return 1
}

# Runs one of Firebird's programs as the module's server would run.
as_firebird() {
    as_owner env FIREBIRD="$root" FIREBIRD_LOCK="$lock" "$@"
}
