"""Reports: results as one HTML page that opens without a network."""

from .page import write_report as write_report
