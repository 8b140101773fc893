# Read by this module's scripts: which processes work in the data directory, how they are watched and ended. The file is
# the same in every database module that ships with safekit_py.
#
# The reader sets `program`, a regular expression for the file name of the server's program; DATADIR and OWNER come from
# conf/userconfig.xml. A process is known by two links of /proc, its program and its working directory, and by what
# `remember` wrote. Its command line is never asked for: reading that of a process that hangs in the volume hangs as well.
# For the same reason nothing here touches the data directory once the server is to be stopped.

data=$(readlink -m -- "$DATADIR") # as the kernel writes it
remembered=$SAFEUSERVAR/process   # "ID START" of the server that was started last
PATH=$PATH:/usr/sbin:/sbin

# Writes a line to the module's log.
tell() {
    printf '%s\n' "$1" >&2
    # When the agent does not run there is no log to write to; the work goes on.
    "$SAFE/safekit" printe "$1" >/dev/null 2>&1 || true
}

# Writes an error to the module's log and ends the script.
fail() {
    tell "$1"
    exit 1
}

# A field of /proc/ID/stat that stands behind the name: 1 is the state, 2 the parent, 20 the start.
field() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f "$2"
}

# The id of the server that was started last, while it lives: an id alone would name some other process after a boot.
server() {
    read -r id start 2>/dev/null <"$remembered" && [ "$(field "$id" 20)" = "$start" ] && echo "$id"
}

# The ids of the server's processes. The second way to know them is for a volume that was taken away beneath them: then
# their working directory has no path any more.
owned() {
    main=$(server)
    find /proc/[0-9]*/exe -prune -printf '%p %l\n' 2>/dev/null |
        grep -E "/($program)( \(deleted\))?\$" | cut -d / -f 3 |
        while read -r id; do
            case $(readlink "/proc/$id/cwd") in
                "$data" | "$data"/*) echo "$id" ;;
                *) [ -n "$main" ] && { [ "$id" = "$main" ] || [ "$(field "$id" 2)" = "$main" ]; } && echo "$id" ;;
            esac
        done
}

# Of these, the ones whose parent is none of them: the server itself, and what outlived one.
leaders() {
    all=" $(owned | tr '\n' ' ') "
    for id in $all; do
        case $all in
            *" $(field "$id" 2) "*) ;;
            *) echo "$id" ;;
        esac
    done
}

# Remembers the server that has just been started.
remember() {
    for id in $(leaders); do
        echo "$id $(field "$id" 20)" >"$remembered.new" && mv "$remembered.new" "$remembered" && return
    done
    return 1
}

# Waits until none of them is left: gone SECONDS.
gone() {
    tenths=$(($1 * 10))
    while [ -n "$(owned)" ]; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
    rm -f "$remembered"
}

# Each id by itself: one that has ended meanwhile must not keep the others from being killed. A process that the kernel
# does not let go cannot be waited for: the script ends all the same, and says which it is.
kill_all() {
    for id in $(owned); do
        kill -9 "$id" 2>/dev/null
    done
    gone 5 || fail "killed, but still there: $(for id in $(owned); do printf '%s (state %s) ' "$id" "$(field "$id" 1)"; done)"
}

# Stops the server: stop SIGNAL SECONDS. When it takes longer it is killed: the data are what they were at its last
# commit, and the other server waits for them.
stop_server() {
    if [ -z "$(owned)" ]; then
        rm -f "$remembered"
        echo "it does not run"
        return
    fi
    for id in $(leaders); do
        kill "-$1" "$id" 2>/dev/null
    done
    gone "$2" && echo "it has stopped" && return
    tell "it did not stop in $2 seconds and is killed: the next start recovers from its log"
    kill_all
}

# Runs a command as the database's user.
as_owner() {
    setpriv --reuid="$OWNER" --regid="$(id -g "$OWNER")" --init-groups -- env HOME=/ "$@" </dev/null
}

# Makes a directory below /run that belongs to the database's user, if it is not there: it is gone after a boot.
run_directory() {
    [ -d "$1" ] || install -d -o "$OWNER" -g "$(id -g "$OWNER")" -m 755 "$1" || fail "cannot make the directory $1"
}

# What keeps the data directory from being used, in words; nothing when it can be.
wrong_owner() {
    found=$(stat -c %u -- "$DATADIR" 2>/dev/null) || echo "$DATADIR is not there"
    [ -z "$found" ] || [ "$found" = "$(id -u "$OWNER")" ] || echo "$DATADIR belongs to user id $found, and $OWNER is \
$(id -u "$OWNER") here: give the user the same id on both servers, then chown -R $OWNER $DATADIR on the primary"
}

# The server's log begins anew when it has become longer than 10 MiB; one before it is kept.
turn_log() {
    if [ "$(stat -c %s -- "$1" 2>/dev/null || echo 0)" -gt 10485760 ]; then mv -f "$1" "$1.1"; fi
    : >>"$1" || fail "cannot write $1"
    before=$(stat -c %s -- "$1")
}

# What this start wrote to the log: the last line that looks like the reason of a failure, or else the last of all.
reason() {
    new=$(tail -c "+$((before + 1))" "$1")
    found=$(printf '%s\n' "$new" | grep -E "$2" | tail -n 1)
    printf '%s' "${found:-$(printf '%s\n' "$new" | tail -n 1)}"
}

# Whether the server takes connections on the virtual address: answers SECONDS.
answers() {
    python3 - "$VIP" "$PORT" "$1" <<'END'
import socket
import sys
import time

end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
        sys.exit(0)
    except OSError:
        time.sleep(0.1)
sys.exit(1)
END
}
