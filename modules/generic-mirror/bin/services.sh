# Read by this module's scripts: what is done with the services that the macro SERVICES names. The file is the same in
# the farm and in the mirror form of the generic module.
#
# SERVICES is a list of systemd units, between commas or blanks: "postgresql, myapp@1". Without a dot in its name a unit
# is a .service; "none" stands for an empty list. SAFEKIT_SYSTEMCTL, a <var> of conf/userconfig.xml, names another
# program than systemctl; README.md says what it must know.
#
# The functions with a body in ( ) are for the scripts. They run in a shell of their own, so that neither their
# variables nor `set -f` (a * in a list must not become the names of files) are left in yours.

remembered=$SAFEUSERVAR/services.boot # the units that `config` took off the server's boot

# --- for the scripts ---------------------------------------------------------------------------

# Writes an error to the module's log and ends the script.
fail() {
    tell "$1"
    exit 1
}

# Whether the whole application is meant, and not some services that restart_services of <errd> names. Those come as
# -Services "A, B" behind the other arguments. When one of them is not in SERVICES, only the whole application will do.
whole() (
    set -f
    all=$(units "$SERVICES")
    named=$(named "$@")
    for unit in $named; do
        listed "$all" "$unit" || exit 0
    done
    [ -z "$named" ]
)

# Fails, with a message for each unit, unless every unit of SERVICES can be started on this server.
check_services() (
    set -f
    all=$(units "$SERVICES")
    [ -z "$all" ] || need_systemctl
    status=0
    for unit in $all; do
        check_unit "$unit" || status=1
    done
    exit "$status"
)

# Takes the units off the server's boot: the module starts them. Units that an earlier SERVICES named get theirs back.
take_off_boot() (
    set -f
    all=$(units "$SERVICES")
    status=0
    for unit in $(kept); do
        listed "$all" "$unit" || give_back "$unit" || status=1
    done
    for unit in $all; do
        take_off "$unit" || status=1
    done
    exit "$status"
)

# Undoes take_off_boot.
give_boot_back() (
    set -f
    status=0
    for unit in $(kept); do
        give_back "$unit" || status=1
    done
    exit "$status"
)

# Starts the units in the order of the list, and sees that none of them has ended at once.
start_services() (
    set -f
    chosen=$(chosen "$@")
    [ -z "$chosen" ] || need_systemctl
    for unit in $chosen; do
        said=$(systemctl start -- "$unit" 2>&1) || fail "$unit does not start: $said"
        echo "$unit is started"
    done
    for unit in $chosen; do
        systemctl is-active --quiet -- "$unit" || fail "$unit has ended already: journalctl -u $unit says why"
    done
)

# Stops the units in reverse order; with "force" as first argument, kills what is left of them.
stop_services() (
    set -f
    chosen=$(chosen "$@" | reversed)
    [ -z "$chosen" ] || need_systemctl
    status=0
    for unit in $chosen; do
        if [ "$1" = force ]; then
            kill_unit "$unit" || status=1
        else
            stop_unit "$unit" || status=1
        fi
    done
    exit "$status"
)

# --- the parts of these ------------------------------------------------------------------------

systemctl() {
    env LC_ALL=C "${SAFEKIT_SYSTEMCTL:-systemctl}" "$@" </dev/null
}

need_systemctl() {
    name=${SAFEKIT_SYSTEMCTL:-systemctl}
    command -v "$name" >/dev/null || fail "SERVICES needs $name, which is not there: leave SERVICES empty and \
put the application's own commands into the scripts"
}

tell() {
    printf '%s\n' "$1" >&2
    # When the agent does not run there is no log to write to; the work goes on.
    "$SAFE/safekit" printe "$1" >/dev/null 2>&1 || true
}

# The units of a list, one a line, by their whole names, each once.
units() {
    for unit in $(printf %s "$1" | tr , ' '); do
        case $unit in
            none) ;;
            *.*) printf '%s\n' "$unit" ;;
            *) printf '%s.service\n' "$unit" ;;
        esac
    done | awk '!seen[$0]++'
}

listed() {
    printf '%s\n' "$1" | grep -qxF -e "$2"
}

reversed() {
    awk '{ line[NR] = $0 } END { for (n = NR; n > 0; n--) print line[n] }'
}

# The units behind -Services.
named() {
    while [ $# -gt 1 ]; do
        if [ "$1" = -Services ]; then
            units "$2"
            return
        fi
        shift
    done
}

# The units that a start or a stop with these arguments is about, in the order of SERVICES.
chosen() {
    only=$(named "$@")
    whole "$@" && only=
    for unit in $(units "$SERVICES"); do
        [ -n "$only" ] && ! listed "$only" "$unit" && continue
        printf '%s\n' "$unit"
    done
}

check_unit() {
    case $1 in
        -* | *[!A-Za-z0-9:_.@\\-]*)
            tell "SERVICES: '$1' cannot be the name of a service: write names such as postgresql, between commas"
            return 1
            ;;
    esac
    state=$(systemctl show --property=LoadState --value -- "$1" 2>&1) ||
        fail "SERVICES: ${SAFEKIT_SYSTEMCTL:-systemctl} does not work on this server: $state"
    case $state in
        loaded)
            echo "$1 is there"
            return 0
            ;;
        not-found) tell "SERVICES: there is no $1 on this server: install the application, or correct the name" ;;
        masked) tell "SERVICES: $1 is masked and cannot be started: systemctl unmask $1" ;;
        *) tell "SERVICES: $1 cannot be started (it is $state): systemctl status $1 says why" ;;
    esac
    return 1
}

# What take_off_boot has to undo.
kept() {
    cat "$remembered" 2>/dev/null
}

# Replaces that list in one step.
keep() {
    text=$(printf '%s\n' "$1" | sed '/^$/d')
    if [ -z "$text" ]; then
        rm -f "$remembered"
        return
    fi
    mkdir -p "$SAFEUSERVAR" && printf '%s\n' "$text" >"$remembered.new" && mv "$remembered.new" "$remembered" && return
    tell "SERVICES: cannot write $remembered"
    return 1
}

take_off() {
    state=$(systemctl is-enabled -- "$1" 2>/dev/null)
    case $state in
        enabled) ;;
        disabled)
            echo "$1 does not start with the server"
            return
            ;;
        *)
            echo "$1 is $state: whether it starts with the server is not for its own setting to say"
            return
            ;;
    esac
    # Remembered first: a crash between the two steps must not lose it.
    listed "$(kept)" "$1" || keep "$(kept)
$1" || return
    said=$(systemctl disable -- "$1" 2>&1) || {
        tell "SERVICES: $1 cannot be taken off the server's boot: $said"
        return 1
    }
    echo "$1 does not start with the server any more: the module starts it"
}

give_back() {
    if [ "$(systemctl show --property=LoadState --value -- "$1" 2>/dev/null)" = not-found ]; then
        echo "$1 is not there any more"
    else
        said=$(systemctl enable -- "$1" 2>&1) || {
            tell "SERVICES: $1 cannot be made to start with the server again: $said"
            return 1
        }
        echo "$1 starts with the server again"
    fi
    keep "$(kept | grep -vxF -e "$1")"
}

stop_unit() {
    said=$(systemctl stop -- "$1" 2>&1) || {
        tell "$1 does not stop: $said"
        return 1
    }
    echo "$1 is stopped"
}

# The stop after the kill: a unit with Restart= would come back. Of a unit that does not run, processes may be left.
kill_unit() {
    systemctl kill --signal=KILL -- "$1" >/dev/null 2>&1
    case $(systemctl is-active -- "$1" 2>/dev/null) in
        inactive | unknown) return 0 ;;
    esac
    said=$(systemctl stop -- "$1" 2>&1) || {
        tell "$1 is still there after it was killed: $said"
        return 1
    }
    # Else it would be reported as failed for ever: it was meant to end.
    systemctl reset-failed -- "$1" >/dev/null 2>&1
    echo "$1 is killed"
}
