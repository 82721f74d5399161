"""Scores thousands of model files and ranks them: sources, the log, tables and the page. No torch."""
