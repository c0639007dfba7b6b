"""Measures what training does on the hardware at hand."""
