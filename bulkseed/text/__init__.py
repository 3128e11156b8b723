"""Names and prose of a locale. The only importer of Faker."""
