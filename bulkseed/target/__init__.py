"""The tables as they exist in the database: checked before a load, and where its rows go in them."""
