"""What is to be made: counts, tables, shape, shards, ids. Frozen values, and what follows from them."""
