"""bulkseed fills a PostgreSQL with believable chat data, fast, before a load test."""
