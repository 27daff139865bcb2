"""PostgreSQL: connections and transactions, locks, constraint errors, the tables, the embedded server."""
