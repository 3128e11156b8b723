"""Names and prose of a locale, and values of Faker's methods. Only this folder imports Faker."""

__all__ = ["faker_source", "faker_values", "fakes", "names", "prose"]
