"""Results as tables: CSV, Parquet, pandas, and what notebooks show of them."""
