"""Every rule, proven by SQL over the loaded tables."""
