"""Figures of the literature, made anew and checked: one file each, see ``ctsa.studies.names``."""
