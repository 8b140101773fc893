# Read by this module's scripts: Oracle's programs, and which processes are the module's.

program='oracle|tnslsnr'
. "$SAFEUSERBIN/owned.sh"
log=$SAFEUSERVAR/oracle.log
home=$(readlink -m -- "$ORACLE_HOME")

# Oracle's processes work in ORACLE_HOME/dbs and not with the data, and sessions are children of the listener. All that
# run the programs of ORACLE_HOME are the module's: one database for each ORACLE_HOME.
owned() {
    find /proc/[0-9]*/exe -prune -printf '%p %l\n' 2>/dev/null |
        while read -r link target; do
            case ${target% (deleted)} in
                "$home/bin/oracle" | "$home/bin/tnslsnr") echo "$link" | cut -d / -f 3 ;;
            esac
        done
}

# Runs one of Oracle's programs as its user.
as_oracle() {
    as_owner env ORACLE_HOME="$ORACLE_HOME" ORACLE_SID="$ORACLE_SID" LD_LIBRARY_PATH="$ORACLE_HOME/lib" \
        PATH="$ORACLE_HOME/bin:/usr/bin:/bin" "$@"
}

# Runs a statement of the database's administrator: sql SECONDS STATEMENT. What it says goes to the log.
sql() {
    as_oracle timeout -k 5 "$1" sh -c 'printf "%s\n" "whenever sqlerror exit failure" "$1" "exit" | sqlplus -S -L / as sysdba' \
        sh "$2" >>"$log" 2>&1
}
