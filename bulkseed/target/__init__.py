"""The tables as they exist in the database: checked before a load, and where its rows go in them."""

__all__ = ["copy_plan", "guard", "ids", "reference_schema", "target", "trial"]
