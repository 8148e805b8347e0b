"""Whole studies that one command runs."""
