"""Stages that fill a table cell by cell."""
