"""Judgement: a split to a table of predictions, and the table to every figure."""
