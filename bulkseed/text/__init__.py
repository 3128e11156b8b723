"""Names and prose of a locale. The only importer of Faker."""

__all__ = ["faker_source", "names", "prose"]
