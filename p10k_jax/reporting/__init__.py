"""Reports: metric writers and the progress line."""
