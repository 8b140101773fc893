# Read by start_both and stop_both: where this module's Apache keeps its files, and which processes are its own.
# It shares nothing with the service apache2 of the distribution but the program.

work=$SAFEUSERVAR/apache
conf=$work/httpd.conf
PATH=$PATH:/usr/sbin:/sbin
httpd=$(command -v apache2)

# The ids of our Apache's processes, workers included. A pid file would not do: after a power cut it names some other
# process, and it says nothing of workers that outlived their parent. Ours run Apache's program with our file.
ours() {
    for each in $(grep -lsF -- "$conf" /proc/[0-9]*/cmdline); do
        each=${each#/proc/}
        each=${each%/cmdline}
        case $(readlink "/proc/$each/exe") in
            */apache2 | */apache2\ "(deleted)") echo "$each" ;;
        esac
    done
}

# The parent of the workers, if it runs: only it takes orders.
parent() {
    read -r main 2>/dev/null <"$work/run/apache.pid" && ours | grep -x -- "$main"
}

# Waits until none of them is left: gone SECONDS.
gone() {
    tenths=$(($1 * 10))
    while [ -n "$(ours)" ]; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

# Each id by itself: one that has ended meanwhile must not keep the others from being killed.
kill_all() {
    for each in $(ours); do
        kill -9 "$each" 2>/dev/null
    done
    gone 5 || fail "these apache2 processes do not end: $(ours | tr '\n' ' ')"
}

fail() {
    echo "$1" >&2
    "$SAFE/safekit" printe "$1"
    exit 1
}
