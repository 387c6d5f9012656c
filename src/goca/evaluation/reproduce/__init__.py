"""The paper's tables, measured again beside what it reports: what ``goca reproduce`` does."""
